"""``hierpool::total_variation``: the total variation of an assignment over the edges of a batch of graphs."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from hierpool import backends, reference
from hierpool.contract import Csr, Dense, Padded, Ragged, accumulation_dtype
from hierpool.graph import RaggedGraph
from hierpool.ops import _checks
from hierpool.ops._operator import Operator


class TotalVariation(NamedTuple):
    """What :func:`total_variation` returns.

    Attributes:
        variation: total variation of each graph, ``[B]``.
        entries: number of non-zero entries of each graph, ``[B]``, in the dtype of ``variation``.
    """

    variation: Tensor
    entries: Tensor


Out = TotalVariation


class Options(NamedTuple):
    """Arguments that are not tensors."""

    backend: str


class Call(NamedTuple):
    """The arguments."""

    s: Tensor  # [B, N, K], or [N, K]
    adj: Dense | Csr
    rows: Padded | Ragged
    options: Options


class Upstream(NamedTuple):
    """The gradient of the variation."""

    variation: Tensor


class Leaves(NamedTuple):
    """Arguments that may need a gradient."""

    s: Any
    value: Any


class TotalVariationOperator(Operator):
    """The operator of the total variation."""

    def check_values(self, call: Call) -> None:
        _checks.check_rows(call.s, call.rows)

    def shapes(self, call: Call) -> TotalVariation:
        acc = accumulation_dtype(call.s, call.adj.value)
        graphs = call.rows.ptr.numel() - 1 if isinstance(call.rows, Ragged) else call.s.size(0)
        return TotalVariation(call.s.new_empty(graphs, dtype=acc), call.s.new_empty(graphs, dtype=acc))

    def composite(self, call: Call) -> TotalVariation:
        s, adj, rows, _ = call
        if isinstance(adj, Dense):
            return TotalVariation(*reference.total_variation(s, adj.value, *rows))
        assert isinstance(rows, Ragged)
        return TotalVariation(*reference.total_variation_csr(s, adj.rowptr, adj.col, adj.value, rows.ptr))


OPERATOR = TotalVariationOperator()


def total_variation(
    s: Tensor,
    adj: Tensor | RaggedGraph,
    *,
    mask: Tensor | None = None,
    num_nodes: Tensor | None = None,
    backend: str = "auto",
) -> TotalVariation:
    r"""The total variation of an assignment :math:`S` over the edges of each graph.

    .. math::
        \mathrm{variation}_b = \sum_{i, j} A_{ij} \, \lVert s_i - s_j \rVert_1, \quad
        \mathrm{entries}_b = |\{(i, j): A_{ij} \ne 0\}|

    The sum is over the valid nodes of graph :math:`b`; an edge stored in both directions counts twice. The derivative
    with respect to :math:`s_i` is :math:`\sum_j (A_{ij} + A_{ji}) \, \mathrm{sign}(s_i - s_j)` with
    :math:`\mathrm{sign}(0) = 0`. Neither forward nor backward allocates ``N x N`` or ``E x K`` elements: time is
    :math:`O(E K)` plus that of reading a dense :math:`A`, and temporary memory is that of ``s``. In a padded batch, an
    argument with one graph, or without the dimension of graphs, is shared by all graphs. It is not copied.

    Args:
        s: :math:`S`, ``[B, N, K]``; float64, float32, bfloat16 or float16. With a ragged graph ``[N, K]``, in the
            caller's order of nodes.
        adj: adjacency :math:`A`, a :class:`hierpool.RaggedGraph` or ``[B, N, N]``, directed or not, with weights of any
            sign; a floating dtype, bool, int8 or uint8. A tensor is not copied if its last dimension is contiguous.
        mask: valid nodes of a padded batch, ``[B, N]``, any dtype, non-zero means valid; may have holes. It selects
            rows of ``s`` and rows and columns of ``adj``.
        num_nodes: number of valid nodes of a padded batch, ``[B]``: the first ``num_nodes[b]`` of graph ``b`` are
            valid. Exclusive with ``mask``.
        backend: ``"auto"``, ``"native"``, ``"triton"`` or ``"reference"``; see :func:`hierpool.explain`.

    Returns:
        ``(variation, entries)``, both ``[B]``, float64 if ``s`` or ``adj`` is float64, else float32. Gradients of the
        variation flow to ``s``, and to all valid entries of ``adj``, including zeros, or to the values of the ragged
        graph. ``entries`` has no gradient. Results do not depend on the number of threads. Second derivatives,
        transforms of ``torch.func`` and forward-mode AD run on :func:`hierpool.reference.total_variation`.

    Raises:
        TypeError: an argument is not a tensor, or its dtype or layout is not supported.
        ValueError: a shape, device or value is invalid; the message names the argument.
        RuntimeError: the named backend cannot run; the message gives the reason.

    Source: Hansen and Bianchi, "Total Variation Graph Neural Networks", ICML 2023 (arXiv:2211.06218).
    """
    backends.check_name(backend)
    structure, rows, s = _checks.link_structure(s, adj, mask, num_nodes, transpose=True)
    variation, entries = OPERATOR(Call(s, structure, rows, Options(backend)), TotalVariation._fields)
    return TotalVariation(variation, entries)
