"""The public operator of soft pooling, for every way to store the adjacency."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from hierpool.graph import RaggedGraph
from hierpool.ops import soft_pool_csr, soft_pool_dense
from hierpool.ops._soft_pool import SoftPoolOperator
from hierpool.record import SoftPoolRecord


def soft_pool(
    x: Tensor,
    adj: Tensor | RaggedGraph,
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
    r"""Pool a batch of graphs by a soft assignment, in one pass over the nodes.

    .. math::
        S = m \odot \mathrm{softmax}(L / T), \quad X' = S^T X, \quad A' = S^T A S

    together with the sums from which the auxiliary losses follow; see :class:`SoftPoolRecord`. No ``N x N``
    temporary is made in forward or backward, padding costs nothing, and NaN or inf in padding reaches no output.
    A ragged batch takes memory :math:`O(E + N K)`, with no loop over graphs and no array of ``E x K``.

    Args:
        x: node features :math:`X`, ``[B, N, F]``, float64, float32, bfloat16 or float16. Of a ragged batch: those of
            all nodes, ``[N, F]``.
        adj: adjacency :math:`A`, ``[B, N, N]``, or ``[B, R, N, N]`` for R edge types; weighted or not, directed or
            not; a floating dtype, or bool, int8 or uint8 with values used as they are. It is read where it lies,
            without a copy, if its last dimension is contiguous. Or a ragged batch with a sparse :math:`A`,
            :class:`hierpool.RaggedGraph`.
        s: assignment logits :math:`L`, ``[B, N, K]``, of a ragged batch ``[N, K]``; the assignment :math:`S` itself if
            ``assignment="given"``.
        mask: valid nodes, ``[B, N]``, any dtype, non-zero means valid; may have holes. It selects rows of ``x`` and
            ``s`` and rows and columns of ``adj``. Padded batches only.
        num_nodes: number of valid nodes, int64 ``[B]``: the first ``num_nodes[b]`` of graph ``b`` are valid.
            Exclusive with ``mask``. Padded batches only.
        assignment: ``"softmax"`` of ``s`` over clusters, or ``"given"``: ``s`` is used as it is.
        temperature: :math:`T > 0`, a float or a 0-d tensor (which may need a gradient, and whose changes do not
            recompile).
        symmetric: whether every :math:`A` equals its transpose. ``True`` saves the product :math:`A^T S` of the
            backward and is not checked; ``None`` finds out, exactly. A ragged graph knows it: ``graph.is_symmetric``.
        link_loss: ``"frobenius"`` for :math:`|A - S S^T|_F^2`, or ``None`` to skip it.
        entropy: whether to compute the entropies.
        gram: whether to compute :math:`S^T S`; ``None``: if ``link_loss`` needs it.
        backend: ``"auto"``, ``"native"``, ``"triton"`` or ``"reference"``; see :func:`hierpool.explain`.

    Returns:
        The record. Gradients flow to ``s``, ``x``, ``temperature`` and ``adj``, of a ragged graph to its ``value``;
        results do not depend on the number of threads. A second derivative raises;
        :func:`hierpool.reference.soft_pool_dense` and ``soft_pool_csr`` have them. Transforms of ``torch.func`` and
        forward-mode AD run on these references.

    Raises:
        TypeError: an argument is not a tensor, or its dtype or layout is not supported.
        ValueError: shapes, devices or values disagree; the message names the argument.
        RuntimeError: a named backend cannot run here; the message says why.

    Source: Ying et al., NeurIPS 2018 (arXiv:1806.08804).
    """
    options: dict[str, Any] = {
        "assignment": assignment,
        "temperature": temperature,
        "link_loss": link_loss,
        "entropy": entropy,
        "gram": gram,
        "backend": backend,
    }
    if not isinstance(adj, RaggedGraph):
        args = soft_pool_dense.arguments(x, adj, s, mask, num_nodes, symmetric=symmetric, **options)
        return soft_pool_dense.soft_pool_dense.record(args)
    for name, value in (("mask", mask), ("num_nodes", num_nodes), ("symmetric", symmetric)):
        if value is not None:
            raise ValueError(
                f"{name} must be None with a RaggedGraph, which knows its nodes and symmetry, got {value!r:.40}"
            )
    args = soft_pool_csr.arguments(x, adj, s, **options)
    record = soft_pool_csr.soft_pool_csr.record(args)
    return record if adj.order is None else record._replace(s=adj.in_callers_order(record.s))


def pool_fields(
    names: tuple[str, ...],
    x: Tensor,
    adj: Tensor | RaggedGraph,
    s: Tensor,
    mask: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, ...]:
    """Some fields of the record, by their names in its order: each more costs a small batch time.

    Options are those of :func:`soft_pool`, and ``mean``: divide ``total_entropy`` by :math:`B N` and ``link_norm`` by
    :math:`B N^2`, with :math:`N` the rows of a padded graph, or the nodes of the largest of a ragged batch. Rows of
    ``s`` stay in the order of a ragged graph's matrix.
    """
    operator, args = pooling(x, adj, s, mask, **options)
    return operator.fields(args, names)


def pooling(
    x: Tensor, adj: Tensor | RaggedGraph, s: Tensor, mask: Tensor | None = None, **options: Any
) -> tuple[SoftPoolOperator, tuple[Any, ...]]:
    """The operator of these inputs, and its arguments, checked; see :func:`pool_fields`."""
    if not isinstance(adj, RaggedGraph):
        return soft_pool_dense.soft_pool_dense, soft_pool_dense.arguments(x, adj, s, mask, **options)
    return soft_pool_csr.soft_pool_csr, soft_pool_csr.arguments(x, adj, s, **options)
