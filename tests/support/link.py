"""Inputs of the cross-entropy link loss, its truth in float64, and the comparison of an implementation with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

import hierpool
from hierpool import RaggedGraph
from tests.support.cases import GRID, Case, Inputs
from tests.support.oracle import assert_error, eps_of, max_error


class LinkInputs(NamedTuple):
    """Arguments of :func:`hierpool.link_bce` for a padded batch."""

    s: Tensor
    adj: Tensor
    mask: Tensor | None = None
    num_nodes: Tensor | None = None

    @property
    def valid(self) -> Tensor:
        """Valid nodes, bool ``[B, N]``."""
        return Inputs(self.s, self.adj, self.s, self.mask, self.num_nodes).valid

    def leaves(self) -> LinkInputs:
        """The same values, strides and dtypes as leaves that need a gradient, where a dtype can have one."""
        s, adj = (t.detach().requires_grad_(t.is_floating_point()) for t in self[:2])
        return self._replace(s=s, adj=adj)

    def loss(self, backend: str = "auto", **options: Any) -> Tensor:
        """Call the operator."""
        return hierpool.link_bce(
            self.s, self.adj, mask=self.mask, num_nodes=self.num_nodes, backend=backend, **options
        )

    def ragged(self) -> tuple[Tensor, RaggedGraph]:
        """The assignment and the adjacency of the valid nodes alone."""
        both = self.valid[:, :, None] & self.valid[:, None, :]
        graph = RaggedGraph.from_dense(
            torch.where(both, self.adj, 0), mask=self.mask, num_nodes=self.num_nodes
        )
        return self.s[self.valid], graph


def make(case: Case, seed: int, s: torch.dtype = torch.float64, adj: torch.dtype | None = None) -> LinkInputs:
    """Inputs with the assignment in dtype ``s``; ``adj`` defaults to the same."""
    inputs = replace(case, f=0).make(seed, torch.float64, adj=adj or s)
    assigned = inputs.s if case.given else inputs.s.softmax(-1)
    return LinkInputs(case.lay(assigned.to(s)), inputs.adj, inputs.mask, inputs.num_nodes)


_BASE = Case("base")
ONE_TYPE = [case for case in GRID if case.r is None and case.temperature == 1.0 and case.n <= 40]
# Around the size of a block of nodes, and with several of them.
LARGE = [
    replace(_BASE, name=f"blocks-n{n}-{valid}", b=2, n=n, k=k, valid=valid, directed=n % 2 == 1)
    for n, k, valid in ((143, 5, "all"), (144, 33, "mask"), (145, 7, "holes"), (290, 4, "all"), (450, 70, "holes"))
]  # fmt: skip
LINK_GRID = [*ONE_TYPE, *LARGE]


class LinkValues(NamedTuple):
    """The loss and its gradients."""

    loss: Tensor
    s: Tensor
    adj: Tensor


def truth(
    inputs: LinkInputs, upstream: float, eps: float = 1e-7, normalize: str | None = "valid"
) -> tuple[LinkValues, LinkValues]:
    """Values in float64 from the definition, one graph and its valid nodes at a time, and their majorants.

    A majorant has every term's absolute value, and the relative rounding of p that the term passes on.
    """
    s = inputs.s.detach().double().contiguous().requires_grad_()
    adj = inputs.adj.detach().double().contiguous().requires_grad_()
    ds, da = torch.zeros_like(s), torch.zeros_like(adj)
    total, scale, pairs = 0 * (s.sum() + adj.sum()), 0.0, 0
    for b in range(s.size(0)):
        rows = inputs.valid[b].nonzero().flatten()
        p = torch.einsum("ik,jk->ij", s[b, rows], s[b, rows])
        q = torch.min(p, torch.ones(1, dtype=p.dtype))
        a = adj[b][rows][:, rows]
        yes = (q + eps).log()
        no = torch.where(q < 0.5, torch.log1p(eps - q), (1 - q + eps).log())
        total = total + (-a * yes - (1 - a) * no).sum()
        pairs += rows.numel() ** 2
        p, q, a, yes, no = (t.detach().abs() for t in (p, q, a, yes, no))
        with torch.no_grad():
            of_yes, of_no = a / (q + eps), (1 - a).abs() / (1 - q + eps)
            scale += float((a * yes + (1 - a).abs() * no + p * (of_yes + of_no)).sum())
            slope = of_yes + of_no + p * (of_yes / (q + eps) + of_no / (1 - q + eps))
            ds[b, rows] = (slope + slope.T) @ s[b, rows].abs()
            da[b, rows[:, None], rows] = yes + no + p / (q + eps) + p / (1 - q + eps)
    counts = {"valid": pairs, "numel": s.size(0) * s.size(1) ** 2, None: 1}
    factor = 1 / max(counts[normalize], 1)
    loss = total * factor
    grads = torch.autograd.grad(loss * upstream, (s, adj))
    zero_padding = [torch.where(inputs.valid[..., None], grads[0], 0), grads[1]]
    majorants = (torch.tensor(scale), ds * abs(upstream), da * abs(upstream))
    return LinkValues(loss.detach(), *zero_padding), LinkValues(*(t * factor for t in majorants))


def values(inputs: LinkInputs, backend: str, upstream: float, **options: Any) -> LinkValues:
    """The loss and its gradients by one backend; a gradient of no element where the dtype has none."""
    leaves = inputs.leaves()
    loss = leaves.loss(backend, **options)
    needed = [t for t in leaves[:2] if t.requires_grad]
    grads = torch.autograd.grad(loss, needed, torch.tensor(upstream, dtype=loss.dtype))
    none = torch.zeros(0)
    return LinkValues(loss.detach(), grads[0], grads[1] if len(grads) > 1 else none)


def assert_values(
    got: LinkValues, inputs: LinkInputs, upstream: float, plain: LinkValues | None, **options: Any
) -> None:
    """Under the error rule of :func:`tests.support.oracle.assert_error`; ``plain`` are the values by plain torch,
    which are held to it, too."""
    exact, scales = truth(inputs, upstream, **options)
    acc = torch.float64 if torch.float64 in (inputs.s.dtype, inputs.adj.dtype) else torch.float32
    terms = max(inputs.s.shape[1:])
    dtypes = {"loss": acc, "s": inputs.s.dtype, "adj": inputs.adj.dtype}
    for values_, baselines in ((got, plain), (plain, None)):
        for name, value, truth_, scale in zip(LinkValues._fields, values_ or (), exact, scales, strict=False):
            dtype = dtypes[name]
            if not dtype.is_floating_point:
                continue
            assert value.dtype == dtype
            # 1 / eps is beyond float16: infinity of the right sign is then the right value.
            beyond = truth_.abs() > 0.99 * torch.finfo(dtype).max
            is_right = beyond & value.isinf() & (value.sign() == truth_.sign())
            value = torch.where(is_right, truth_, value.double())
            baseline = 0.0 if baselines is None else max_error(getattr(baselines, name), truth_)
            assert_error(name, value, truth_, scale, eps_of(acc, dtype), terms, baseline)


def check(inputs: LinkInputs, backend: str, upstream: float = -1.7, **options: Any) -> None:
    """Values and gradients of one call against the truth."""
    symmetric = options.pop("symmetric", None)
    got = values(inputs, backend, upstream, symmetric=symmetric, **options)
    plain = None if backend == "reference" else values(inputs, "reference", upstream, **options)
    assert_values(got, inputs, upstream, plain, **options)
