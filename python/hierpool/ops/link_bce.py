"""``hierpool::link_bce``: the binary cross-entropy between an adjacency and its soft assignment."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from hierpool import backends, reference
from hierpool.backends import triton
from hierpool.contract import Csr, Dense, Padded, Ragged, accumulation_dtype
from hierpool.graph import RaggedGraph
from hierpool.ops import _checks
from hierpool.ops._operator import Operator


class Options(NamedTuple):
    """Arguments that are not tensors."""

    normalize: str | None
    symmetric: bool  # every A equals its transpose
    backend: str


class Call(NamedTuple):
    """The arguments."""

    s: Tensor  # [B, N, K], or [N, K]
    adj: Dense | Csr
    rows: Padded | Ragged
    eps: Tensor  # [] on the CPU; a tensor, so that compilers do not compile for every value
    options: Options


class Out(NamedTuple):
    """The result."""

    loss: Tensor  # []


class Upstream(NamedTuple):
    """Its gradient."""

    loss: Tensor


class Leaves(NamedTuple):
    """Arguments that may need a gradient."""

    s: Any
    value: Any


class LinkBce(Operator):
    """The operator of the cross-entropy link loss."""

    def check_values(self, call: Call) -> None:
        _checks.check_rows(call.s, call.rows)

    def shapes(self, call: Call) -> Out:
        return Out(call.s.new_empty((), dtype=accumulation_dtype(call.s, call.adj.value)))

    def composite(self, call: Call) -> Out:
        s, adj, rows, eps, options = call
        normalize = options.normalize
        if isinstance(adj, Dense):
            return Out(reference.link_bce(s, adj.value, *rows, eps=eps, normalize=normalize))
        assert isinstance(rows, Ragged)
        value, rowptr, col = adj[:3]
        return Out(reference.link_bce_csr(s, rowptr, col, value, rows.ptr, eps=eps, normalize=normalize))


OPERATOR = LinkBce()


def link_bce(
    s: Tensor,
    adj: Tensor | RaggedGraph,
    *,
    mask: Tensor | None = None,
    num_nodes: Tensor | None = None,
    eps: float = 1e-7,
    normalize: Literal["valid", "numel"] | None = "valid",
    symmetric: bool | None = None,
    backend: str = "auto",
) -> Tensor:
    r"""Link loss of the original DiffPool code: the cross-entropy of :math:`A` under :math:`S S^T`.

    .. math::
        \frac{1}{c} \sum_b \sum_{i, j} -A_{ij} \log(q_{ij} + \epsilon) - (1 - A_{ij}) \log(1 - q_{ij} + \epsilon),
        \quad q_{ij} = \min(s_i \cdot s_j, 1)

    The sums are over the valid nodes of every graph. Neither forward nor backward allocates ``N x N`` elements: time is
    :math:`O(\sum_b n_b^2 K)`, and temporary memory is that of ``s``. The derivative of :math:`\min(p, 1)` at 1 is 1/2,
    as for ``torch.min`` in the original code.

    In a padded batch, an argument with one graph, or without the dimension of graphs, is shared by all graphs. It is
    not copied.

    Args:
        s: the assignment :math:`S`, not logits (``record.s`` of :func:`hierpool.soft_pool`), ``[B, N, K]``, without
            negative entries; float64, float32, bfloat16 or float16. With a ragged graph ``[N, K]``.
        adj: adjacency :math:`A`, a :class:`hierpool.RaggedGraph` or ``[B, N, N]``, directed or not, with any weights; a
            floating dtype, bool, int8 or uint8. A tensor is not copied if its last dimension is contiguous. Pairs
            that a ragged graph does not store have the entry 0.
        mask: valid nodes of a padded batch, ``[B, N]``, any dtype, non-zero means valid; may have holes. It selects
            rows of ``s`` and rows and columns of ``adj``.
        num_nodes: number of valid nodes of a padded batch, ``[B]``: the first ``num_nodes[b]`` of graph ``b`` are
            valid. Exclusive with ``mask``.
        eps: :math:`\epsilon`, at least the smallest normal number of float32, 1.2e-38.
        normalize: the divisor :math:`c`. ``"valid"``: the number of pairs of valid nodes, :math:`\sum_b n_b^2`, as in
            the original code. ``"numel"``: the number of entries of the padded adjacency, :math:`B N^2`; a ragged graph
            counts as padded to its largest graph. ``None``: 1.
        symmetric: ``True`` states that every dense :math:`A` equals its transpose, so that half of it is read; not
            checked. Must be ``None`` with a ragged graph.
        backend: ``"auto"``, ``"native"``, ``"triton"`` or ``"reference"``; see :func:`hierpool.explain`.

    Returns:
        0-d tensor, in nats; float64 if ``s`` or ``adj`` is float64, else float32. It is 0 without nodes, and NaN if a
        :math:`s_i \cdot s_j + \epsilon` is not positive. Gradients flow to ``s``, and to ``adj`` or the values of the
        ragged graph. Results do not depend on the number of threads. Second derivatives, transforms of ``torch.func``
        and forward-mode AD run on :func:`hierpool.reference.link_bce`.

    Raises:
        TypeError: an argument is not a tensor, or its dtype or layout is not supported.
        ValueError: a shape, device or value is invalid; the message names the argument.
        RuntimeError: the named backend cannot run; the message gives the reason.

    Source: ``SoftPoolingGcnEncoder.loss`` in the code of Ying et al., NeurIPS 2018 (arXiv:1806.08804).
    """
    backends.check_name(backend)
    _checks.check_choice("normalize", normalize, (None, "numel", "valid"))
    if not isinstance(eps, (float, torch.SymFloat)):
        raise TypeError(f"eps must be a float, got {type(eps).__name__}")
    if not torch.finfo(torch.float32).tiny <= eps < float("inf"):
        raise ValueError(f"eps must be finite and at least 1.2e-38, got {eps}")
    # Other backends do without a transpose.
    turned = backend == "triton" or (isinstance(s, Tensor) and s.device.type in triton.DEVICES)
    structure, rows, s = _checks.link_structure(
        s, adj, mask, num_nodes, transpose=turned, symmetric=symmetric
    )
    known = adj.is_symmetric if isinstance(adj, RaggedGraph) else symmetric is True
    added = _checks.scalar_tensor(eps, torch.float64, torch.device("cpu"))
    (loss,) = OPERATOR(Call(s, structure, rows, added, Options(normalize, known, backend)))
    return loss
