"""An independent truth in float64, and the rule by which errors are judged.

Every sum is written from its definition, one graph and its valid nodes at a time, with the N x N matrix A - S S^T
spelled out; gradients come from autograd. Nothing here calls :mod:`hierpool.reference`.

A majorant is the same sum with every term replaced by its absolute value. It is the scale of rounding errors: however
the terms are ordered, the error is a small multiple of the unit roundoff times the majorant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tests.support.cases import Inputs
from tests.support.sparse import Ragged


def rounding(terms: int) -> float:
    """How many eps of its majorant a sum may lose: the square root of its number of terms, and a few for the terms.

    Roundings of a sum behave as a random walk (Higham and Mary, SIAM J. Sci. Comput. 41, 2019).
    """
    return 4 + math.sqrt(terms)


class Fields(NamedTuple):
    """The packed record, as :class:`hierpool.SoftPoolRecord` orders it."""

    s: Tensor
    x: Tensor
    adj: Tensor
    gram: Tensor
    vectors: Tensor
    scalars: Tensor
    total_entropy: Tensor
    link_norm: Tensor


class Gradients(NamedTuple):
    """Gradients of a weighted sum of all fields."""

    x: Tensor
    adj: Tensor
    s: Tensor


def assign(logits: Tensor, temperature: float) -> Tensor:
    """Softmax from its definition."""
    z = logits / temperature
    e = (z - z.amax(-1, keepdim=True).detach()).exp()
    return e / e.sum(-1, keepdim=True)


def _graph(x: Tensor, a: Tensor, p: Tensor, majorant: bool) -> tuple[Tensor, ...]:
    """x [n, F], a [R, n, n], p [n, K] -> pooled x and adj, gram, vectors [1 + R, K], scalars [2 + 4R]."""
    degree = torch.einsum("rij->ri", a)
    positive = p[p > 0]
    # The derivative of p (2 - log p) is 1 + |log p|, which bounds that of the entropy.
    entropy = (positive * ((2 if majorant else 0) - positive.log())).sum()
    square = torch.einsum("ik,jk->ij", p, p)
    link = (a + square if majorant else a - square).square().sum((1, 2))
    cut = torch.einsum("ri,ik,ik->r", degree, p, p)
    scalars = torch.cat(
        [p.new_tensor([p.size(0)]), entropy[None], cut, a.square().sum((1, 2)), degree.sum(1), link]
    )
    return (
        torch.einsum("ik,if->kf", p, x),
        torch.einsum("ik,rij,jl->rkl", p, a, p),
        torch.einsum("ik,il->kl", p, p),
        torch.cat([p.sum(0)[None], torch.einsum("ik,ri->rk", p, degree)]),
        scalars,
    )


def norm_columns(r: int) -> Tensor:
    """True for the columns of the scalars that are norms, ``[2 + 4R]``. Their majorants are those of the squares."""
    return torch.tensor([False, False] + [group % 2 == 1 for group in range(4) for _ in range(r)])


def _root(square: Tensor) -> Tensor:
    """With gradient 0 at 0."""
    return torch.where(square > 0, torch.where(square > 0, square, 1).sqrt(), 0)


def _stack(parts: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    return torch.stack(list(parts)) if parts else torch.zeros(0, *shape, dtype=torch.float64)


def fields(inputs: Inputs, p: Tensor, majorant: bool = False) -> Fields:
    """All fields for float64 ``inputs`` and the assignment ``p`` ``[B, N, K]`` on valid rows."""
    adj = inputs.adj if inputs.adj.dim() == 4 else inputs.adj[:, None]
    (b, r, n, _), k, f = adj.shape, p.size(2), inputs.x.size(2)
    rows_of, graphs = [], []
    for g in range(b):
        rows = inputs.valid[g].nonzero().flatten()
        rows_of.append(torch.zeros(n, k, dtype=p.dtype).index_copy(0, rows, p[g, rows]))
        graphs.append(_graph(inputs.x[g, rows], adj[g][:, rows][:, :, rows], p[g, rows], majorant))
    shapes = ((k, f), (r, k, k), (k, k), (1 + r, k), (2 + 4 * r,))
    x, pooled, gram, vectors, scalars = (
        _stack([graph[i] for graph in graphs], shape) for i, shape in enumerate(shapes)
    )
    link_norm = _root(scalars[:, 2 + 3 * r :].sum(0))
    if not majorant:
        scalars = torch.where(norm_columns(r), _root(scalars), scalars)
    if inputs.adj.dim() == 3:
        pooled, link_norm = pooled[:, 0], link_norm[0]
    return Fields(_stack(rows_of, (n, k)), x, pooled, gram, vectors, scalars, scalars[:, 1].sum(), link_norm)


def _gradients(values: Sequence[Tensor], leaves: Sequence[Tensor]) -> Gradients:
    """Of the sum of all ``values``; zeros where it does not depend on a leaf."""
    dependent = [v.sum() for v in values if v.requires_grad]
    grads = torch.autograd.grad(dependent, leaves, allow_unused=True) if dependent else [None] * 3
    return Gradients(*(torch.zeros_like(t) if g is None else g for g, t in zip(grads, leaves, strict=True)))


class Truth(NamedTuple):
    """Values, gradients and their majorants."""

    fields: Fields
    scales: Fields
    gradients: Gradients
    gradient_scales: Gradients


def truth(inputs: Inputs | Ragged, rounded_s: Tensor, upstream: Sequence[Tensor | None]) -> Truth:
    """The truth for the values of ``inputs``, and for the gradients ``upstream`` of the fields.

    That of a ragged batch is the valid part of its padded form's. S is an output that every other field is defined on:
    they are those of ``rounded_s``, the S that was returned, which is itself to be compared with ``fields.s``, the
    exact one. Gradients pass the rounding unchanged.
    """
    if isinstance(inputs, Ragged):
        ds = None if upstream[0] is None else inputs.pad(upstream[0])
        padded = inputs.padded._replace(given=inputs.given, temperature=inputs.temperature)
        return _valid_part(truth(padded, inputs.pad(rounded_s), [ds, *upstream[1:]]), inputs)
    exact = inputs.double().leaves()
    valid = exact.valid[..., None]
    clean = torch.where(valid, exact.s, 0)
    p = clean if exact.given else assign(clean, exact.temperature)
    rounded = p + (rounded_s.detach().double() - p).detach()
    values = fields(exact, rounded)
    weighted = [v * u.double() for v, u in zip(values, upstream, strict=True) if u is not None]
    gradients = _gradients(weighted, exact[:3])
    scales, gradient_scales = _majorants(exact, p.detach(), values, upstream)
    exact_s = torch.where(valid, p, 0)
    return Truth(_detach(values._replace(s=exact_s)), scales, gradients, gradient_scales)


def _valid_part(whole: Truth, ragged: Ragged) -> Truth:
    """Values of nodes and of stored entries alone."""
    values, scales = (part._replace(s=ragged.nodes(part.s)) for part in (whole.fields, whole.scales))
    gradients, gradient_scales = (
        Gradients(ragged.nodes(part.x), ragged.entries(part.adj), ragged.nodes(part.s))
        for part in (whole.gradients, whole.gradient_scales)
    )
    return Truth(values, scales, gradients, gradient_scales)


def _detach(values: Fields) -> Fields:
    return Fields(*(t.detach() for t in values))


def _weight_of_square(norm: Tensor, weight: Tensor) -> Tensor:
    """d sqrt(q) = dq / (2 sqrt(q)), and 0 at 0."""
    norm = norm.detach()
    return torch.where(norm > 0, weight / (2 * norm), 0)


def _majorants(
    exact: Inputs, p: Tensor, values: Fields, upstream: Sequence[Tensor | None]
) -> tuple[Fields, Gradients]:
    magnitudes = exact._replace(x=exact.x.abs(), adj=exact.adj.abs(), s=p).leaves()
    scales = fields(magnitudes, magnitudes.s, majorant=True)
    channels = values.scalars.size(1) // 4
    weights = [None if u is None else u.double().abs() for u in upstream]
    if weights[5] is not None:
        of_squares = _weight_of_square(values.scalars, weights[5])
        weights[5] = torch.where(norm_columns(channels), of_squares, weights[5])
    terms = [v * w for v, w in zip(scales[:7], weights[:7], strict=True) if w is not None]
    if weights[7] is not None:
        weight = _weight_of_square(values.link_norm, weights[7]).reshape(channels)
        terms.append(scales.scalars[:, 2 + 3 * channels :] * weight)
    x, adj, s = _gradients(terms, magnitudes[:3])
    if not exact.given:  # P (dS - <P, dS>) / T
        s = p * (s + (p * s).sum(-1, keepdim=True)) / exact.temperature
    return _detach(scales), Gradients(x, adj, s)


def max_error(got: Tensor, exact: Tensor) -> float:
    """Largest absolute difference; NaN if there is one."""
    return float((got.detach().double() - exact.detach()).abs().max()) if got.numel() else 0.0


def assert_error(
    name: str, got: Tensor, exact: Tensor, scale: Tensor, eps: float, terms: int, baseline: float = 0.0
) -> None:
    """At most twice the error of the same formulas in plain torch, plus a few roundings of the majorant.

    ``eps`` is that of the dtype of the sum, or of the result where that is coarser; ``baseline`` is the plain error.
    """
    assert got.shape == exact.shape, f"{name}: shape {tuple(got.shape)}, expected {tuple(exact.shape)}"
    if not got.numel():
        return
    error, size = max_error(got, exact), float(scale.detach().abs().max())
    factor = rounding(terms)
    allowed = 2 * baseline + factor * eps * size
    assert error <= allowed, (
        f"{name}: error {error:.3e} exceeds {allowed:.3e} = 2 * {baseline:.3e} (plain torch)"
        f" + {factor:.1f} * {eps:.1e} (eps) * {size:.3e} (scale)"
    )


def eps_of(*dtypes: torch.dtype) -> float:
    """The coarsest unit roundoff among floating dtypes."""
    return max(torch.finfo(dtype).eps for dtype in dtypes if dtype.is_floating_point)
