"""``hierpool::soft_pool_dense``: the operator on padded dense batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from hierpool import backends
from hierpool.ops import _checks
from hierpool.ops.fallback import soft_pool_dense as fallback
from hierpool.record import SoftPoolRecord
from hierpool.reference.soft_pool_dense import DenseForward, accumulation_dtype, valid_rows

_LIB = torch.library.Library("hierpool", "FRAGMENT")
_OP = "hierpool::soft_pool_dense"
_OP_BACKWARD = "hierpool::soft_pool_dense_backward"

_LIB.define(
    "soft_pool_dense(Tensor logits, Tensor x, Tensor adj, Tensor? mask, Tensor? num_nodes, Tensor? temperature,"
    " bool given, bool? symmetric, bool want_gram, bool want_link, bool want_entropy, bool mean, bool save,"
    " str backend) -> (Tensor s, Tensor x_pooled, Tensor adj_pooled, Tensor gram, Tensor vectors, Tensor scalars,"
    " Tensor total_entropy, Tensor link_norm, Tensor m, Tensor is_symmetric)"
)
_LIB.define(
    "soft_pool_dense_backward(Tensor? ds, Tensor? dx, Tensor? dadj, Tensor? dgram, Tensor? dvectors,"
    " Tensor? dscalars, Tensor? dtotal_entropy, Tensor? dlink_norm, Tensor s, Tensor gram, Tensor link_norm, Tensor m,"
    " Tensor is_symmetric, Tensor x, Tensor adj, Tensor? mask, Tensor? num_nodes, Tensor? temperature, bool given,"
    " bool mean, bool need_logits, bool need_x, bool need_adj, str backend) -> (Tensor, Tensor, Tensor)"
)


# Where things are among the arguments of the operator, and of its backward.
_WANT_GRAM, _MEAN, _SAVE, _BACKEND = 8, 11, 12, 13
_GRADS, _S, _X, _ADJ, _NEEDS = slice(8), 8, 13, 14, slice(20, 23)


def _forward(
    logits: Tensor,
    x: Tensor,
    adj: Tensor,
    mask: Tensor | None,
    num_nodes: Tensor | None,
    temperature: Tensor | None,
    *options: Any,
) -> tuple[Tensor, ...]:
    _checks.check_values(logits.size(1), num_nodes, temperature)
    filler = backends.select("soft_pool_dense", logits.device.type, options[-1]).filler("soft_pool_dense")
    return filler.forward(logits, x, adj, mask, num_nodes, temperature, *options[:-1])


def _backward(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    filler = backends.select("soft_pool_dense", args[_S].device.type, args[-1]).filler("soft_pool_dense")
    return filler.backward(args[_GRADS], *args[_S : _NEEDS.start], args[_NEEDS])


def _forward_fake(*args: Any) -> tuple[Tensor, ...]:
    """The shapes of the outputs, which every backend returns."""
    logits, x, adj = args[:3]
    want_gram, save = args[_WANT_GRAM], args[_SAVE]
    b, n, k = logits.shape
    acc = accumulation_dtype(logits, x, adj)
    channels = adj.shape[1:-2]  # (R,), or () without a dimension of edge types
    r = channels[0] if channels else 1
    empty = logits.new_empty
    gram_size, kept = k if want_gram else 0, n if save else 0
    return DenseForward(
        s=empty(b, n, k),
        x=x.new_empty(b, k, x.size(2)),
        adj=empty((b, *channels, k, k), dtype=acc),
        gram=empty((b, gram_size, gram_size), dtype=acc),
        vectors=empty((b, 1 + r, k), dtype=acc),
        scalars=empty((b, 2 + 4 * r), dtype=acc),
        total_entropy=empty((), dtype=acc),
        link_norm=empty(channels, dtype=acc),
        m=empty((b, r, kept, k), dtype=acc),
        symmetric=empty((b, r if save else 0), dtype=torch.bool),
    )


def _backward_fake(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    def like(t: Tensor, needed: bool) -> Tensor:
        return t.new_empty(t.shape if needed else (0,))

    need_logits, need_x, need_adj = args[_NEEDS]
    return like(args[_S], need_logits), like(args[_X], need_x), like(args[_ADJ], need_adj)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    """Put aside what the backward needs."""
    logits, x, adj, mask, num_nodes, temperature, given = inputs[:7]
    s, _, _, gram, _, _, _, link_norm, m, is_symmetric = output
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(
        s, gram, link_norm, m, is_symmetric, x, adj, mask, num_nodes, temperature,
        logits if temperature is not None and temperature.requires_grad else None,
    )  # fmt: skip
    ctx.given, ctx.mean, ctx.backend = given, inputs[_MEAN], inputs[_BACKEND]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    if not inputs[_SAVE]:
        raise RuntimeError("soft_pool_dense was called with save=False and cannot be differentiated")
    _keep(ctx, inputs, output)
    ctx.mark_non_differentiable(*output[8:])


def _autograd(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    return _gradients(ctx, grads, torch.ops.hierpool.soft_pool_dense_backward)


def _gradients(
    ctx: Any, grads: tuple[Tensor | None, ...], backward: Callable[..., tuple[Tensor, Tensor, Tensor]]
) -> tuple[Tensor | None, ...]:
    *saved, temperature, logits = ctx.saved_tensors
    need_logits, need_x, need_adj = ctx.needs_input_grad[:3]
    need_temperature = ctx.needs_input_grad[5]
    dlogits, dx, dadj = backward(
        *grads[_GRADS],
        *saved,
        temperature,
        ctx.given,
        ctx.mean,
        need_logits or need_temperature,
        need_x,
        need_adj,
        ctx.backend,
    )
    dtemperature = None
    if need_temperature:  # logits in padding may be NaN, where dlogits is 0
        product = torch.where(dlogits != 0, dlogits * logits, 0)
        dtemperature = -product.sum(dtype=torch.float64).to(temperature.dtype) / temperature
    return (
        dlogits if need_logits else None,
        dx if need_x else None,
        dadj if need_adj else None,
        None,
        None,
        dtemperature,
        *(None,) * 8,
    )


class _Eager(torch.autograd.Function):
    """The operator without the dispatcher: a small batch takes less time than three trips through Python."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> tuple[Tensor, ...]:
        output = _forward(*args)
        _setup_context(ctx, args, output)
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True: the operator knows that it has no second derivative
            return _autograd(ctx, *grads)
        return _gradients(ctx, grads, _backward)


class _EagerPooled(_Eager):
    """The same with four outputs: each one more costs autograd more than a small graph's arithmetic."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> tuple[Tensor, ...]:
        output = _forward(*args)
        _keep(ctx, args, output)
        return _pooled(output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        dx, dadj, dtotal_entropy, dlink_norm = grads
        return _Eager.backward(ctx, None, dx, dadj, None, None, None, dtotal_entropy, dlink_norm)


def _pooled(output: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Pooled x and adj, total entropy and link norm."""
    return output[1], output[2], output[6], output[7]


def _seen() -> bool:
    """Whether somebody watches who must see the operator: a compiler, a tracer."""
    return torch.compiler.is_compiling() or is_in_torch_dispatch_mode()


def _transformed() -> bool:
    """Whether torch.func or forward-mode AD is at work, which no operator with a formula of its own goes along with."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def _plain(*args: Any) -> tuple[Tensor, ...]:
    """The operator in differentiable PyTorch."""
    if args[_BACKEND] not in ("auto", "reference"):
        raise RuntimeError(
            f"backend {args[_BACKEND]!r} cannot run soft_pool_dense under transforms of torch.func or forward-mode AD;"
            " 'auto' and 'reference' can"
        )
    return fallback.forward(*args[:_BACKEND])


def _call(args: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """All outputs of the operator, by the shortest way."""
    if _seen():
        return torch.ops.hierpool.soft_pool_dense(*args)
    if _transformed():
        return _plain(*args)
    return _Eager.apply(*args) if args[_SAVE] else _forward(*args)


def _no_second_derivative(ctx: Any, *grads: Tensor | None) -> tuple[None, ...]:
    raise RuntimeError(
        "soft_pool_dense has no second derivative; hierpool.reference.soft_pool_dense is differentiable any "
        "number of times"
    )


def _forward_defined(*args: Any) -> tuple[Tensor, ...]:
    """The outputs with every element defined: backends leave the rows of M that belong to padding alone."""
    output = _forward(*args)
    valid = valid_rows(args[0], args[3], args[4])
    if valid is not None and args[_SAVE]:
        output[8].masked_fill_(~valid[:, None, :, None], 0)
    return output


for _key in ("CPU", "CUDA"):
    _LIB.impl("soft_pool_dense", _forward_defined, _key)
    _LIB.impl("soft_pool_dense_backward", _backward, _key)
torch.library.register_fake(_OP, _forward_fake, lib=_LIB)
torch.library.register_fake(_OP_BACKWARD, _backward_fake, lib=_LIB)
torch.library.register_autograd(_OP, _autograd, setup_context=_setup_context, lib=_LIB)
torch.library.register_autograd(_OP_BACKWARD, _no_second_derivative, lib=_LIB)


def soft_pool(
    x: Tensor,
    adj: Tensor,
    s: Tensor,
    *,
    mask: Tensor | None = None,
    num_nodes: Tensor | None = None,
    assignment: Literal["softmax", "given"] = "softmax",
    temperature: float | Tensor = 1.0,
    symmetric: bool | None = None,
    link_loss: Literal["frobenius"] | None = "frobenius",
    entropy: bool = True,
    gram: bool | None = None,
    backend: str = "auto",
) -> SoftPoolRecord:
    r"""Pool a padded batch of graphs by a soft assignment, in one pass over the nodes.

    .. math::
        S = m \odot \mathrm{softmax}(L / T), \quad X' = S^T X, \quad A' = S^T A S

    together with the sums from which the auxiliary losses follow; see :class:`SoftPoolRecord`. No ``N x N``
    temporary is made in forward or backward, padding costs nothing, and NaN or inf in padding reaches no output.

    Args:
        x: node features :math:`X`, ``[B, N, F]``, float64, float32, bfloat16 or float16.
        adj: adjacency :math:`A`, ``[B, N, N]``, or ``[B, R, N, N]`` for R edge types; weighted or not, directed or
            not; a floating dtype, or bool, int8 or uint8 with values used as they are. It is read where it lies,
            without a copy, if its last dimension is contiguous.
        s: assignment logits :math:`L`, ``[B, N, K]``; the assignment :math:`S` itself if ``assignment="given"``.
        mask: valid nodes, ``[B, N]``, any dtype, non-zero means valid; may have holes. It selects rows of ``x`` and
            ``s`` and rows and columns of ``adj``.
        num_nodes: number of valid nodes, int64 ``[B]``: the first ``num_nodes[b]`` of graph ``b`` are valid.
            Exclusive with ``mask``.
        assignment: ``"softmax"`` of ``s`` over clusters, or ``"given"``: ``s`` is used as it is.
        temperature: :math:`T > 0`, a float or a 0-d tensor (which may need a gradient, and whose changes do not
            recompile).
        symmetric: whether every :math:`A` equals its transpose. ``True`` saves the product :math:`A^T S` of the
            backward and is not checked; ``None`` finds out, exactly.
        link_loss: ``"frobenius"`` for :math:`|A - S S^T|_F^2`, or ``None`` to skip it.
        entropy: whether to compute the entropies.
        gram: whether to compute :math:`S^T S`; ``None``: if ``link_loss`` needs it.
        backend: ``"auto"``, ``"native"`` or ``"reference"``; see :func:`hierpool.explain`.

    Returns:
        The record. Gradients flow to ``s``, ``x``, ``adj`` and ``temperature``; results do not depend on the number
        of threads. A second derivative raises; :func:`hierpool.reference.soft_pool_dense` has them. Transforms of
        ``torch.func`` and forward-mode AD run on that reference.

    Raises:
        TypeError: an argument is not a tensor, or its dtype or layout is not supported.
        ValueError: shapes, devices or values disagree; the message names the argument.
        RuntimeError: a named backend cannot run here; the message says why.

    Source: Ying et al., NeurIPS 2018 (arXiv:1806.08804).
    """
    args = _arguments(
        x, adj, s, mask, num_nodes, assignment, temperature, symmetric, link_loss, entropy, gram, backend
    )
    out = _call(args)
    return SoftPoolRecord(out[0], out[1], out[2], out[3] if args[_WANT_GRAM] else None, *out[4:8])


def pooled_means(
    x: Tensor, adj: Tensor, s: Tensor, mask: Tensor | None, symmetric: bool | None, mean: bool, backend: str
) -> tuple[Tensor, ...]:
    """Pooled x and adj, total entropy and link norm, for drop-ins.

    If ``mean``, the entropy is divided by :math:`B N` and the link norm by :math:`B N^2`.
    """
    args = _arguments(x, adj, s, mask, symmetric=symmetric, mean=mean, backend=backend)
    if args[_SAVE] and not _seen() and not _transformed():
        return _EagerPooled.apply(*args)
    return _pooled(_call(args))


def _arguments(
    x: Tensor,
    adj: Tensor,
    s: Tensor,
    mask: Tensor | None = None,
    num_nodes: Tensor | None = None,
    assignment: str = "softmax",
    temperature: float | Tensor = 1.0,
    symmetric: bool | None = None,
    link_loss: str | None = "frobenius",
    entropy: bool = True,
    gram: bool | None = None,
    backend: str = "auto",
    mean: bool = False,
) -> tuple[Any, ...]:
    """The arguments of :func:`soft_pool`, checked, as the operator takes them."""
    _checks.check_dense(x, adj, s, mask, num_nodes)
    given = _checks.check_choice("assignment", assignment, ("softmax", "given")) == 1
    want_link = _checks.check_choice("link_loss", link_loss, (None, "frobenius")) == 1
    backends.check_name(backend)
    _checks.check_flag("symmetric", symmetric)
    _checks.check_flag("gram", gram)
    if not isinstance(entropy, bool):
        raise TypeError(f"entropy must be True or False, got {entropy!r}")
    if gram is None:
        gram = want_link
    elif want_link and not gram:
        raise ValueError(
            "gram=False leaves out what link_loss='frobenius' needs; pass link_loss=None as well"
        )
    if mask is not None and mask.dtype is not torch.bool:
        mask = mask != 0
    if num_nodes is not None:
        num_nodes = num_nodes.to(torch.int64)
    scale = _checks.temperature_tensor(temperature, given, s)
    save = torch.is_grad_enabled() and (
        s.requires_grad or x.requires_grad or adj.requires_grad or (scale is not None and scale.requires_grad)
    )
    return (
        s, x, adj, mask, num_nodes, scale, given, symmetric, gram, want_link, entropy, mean, save, backend
    )  # fmt: skip
