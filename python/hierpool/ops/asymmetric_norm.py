"""``hierpool::asymmetric_norm``: the balance term of the asymmetric Cheeger cut."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierpool import backends, reference
from hierpool.contract import Padded, Ragged, accumulation_dtype
from hierpool.graph import RaggedGraph
from hierpool.ops import _checks
from hierpool.ops._operator import Operator


class Options(NamedTuple):
    """Arguments that are not tensors."""

    backend: str


class Call(NamedTuple):
    """The arguments."""

    s: Tensor  # [B, N, K], or [N, K]
    rows: Padded | Ragged
    num_clusters: Tensor | None  # int64 [B]; None: K
    options: Options


class Out(NamedTuple):
    """The result, and tensors that the backward needs."""

    norm: Tensor  # [B]
    quantile: Tensor  # [B, K]
    row: Tensor  # int64 [B, K]: the row that the gradient of the quantile goes to
    slope: Tensor  # [B, K]: the derivative of the norm with respect to the quantile


class Upstream(NamedTuple):
    """The gradient of the norm."""

    norm: Tensor


class Saved(NamedTuple):
    """The fields of ``Out`` that the backward reads."""

    quantile: Tensor
    row: Tensor
    slope: Tensor


class Leaves(NamedTuple):
    """Arguments that may need a gradient."""

    s: Any


class AsymmetricNorm(Operator):
    """The operator of the asymmetric norm."""

    def check_values(self, call: Call) -> None:
        _checks.check_rows(call.s, call.rows)
        _checks.check_values(0, None, None, call.num_clusters, call.s.size(-1))

    def shapes(self, call: Call) -> Out:
        s, rows = call.s, call.rows
        b = rows.ptr.numel() - 1 if isinstance(rows, Ragged) else s.size(0)
        k, acc, empty = s.size(-1), accumulation_dtype(s), s.new_empty
        row = empty((b, k), dtype=torch.int64)
        return Out(empty((b,), dtype=acc), empty((b, k)), row, empty((b, k), dtype=acc))

    def composite(self, call: Call) -> Out:
        s, rows, num_clusters, _ = call
        if isinstance(rows, Ragged):
            return Out(*reference.asymmetric_norm(s, ptr=rows.ptr, num_clusters=num_clusters))
        return Out(*reference.asymmetric_norm(s, *rows, num_clusters=num_clusters))


OPERATOR = AsymmetricNorm()


def asymmetric_norm(
    s: Tensor,
    graph: RaggedGraph | None = None,
    *,
    mask: Tensor | None = None,
    num_nodes: Tensor | None = None,
    num_clusters: int | Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    r"""The asymmetric norm of an assignment :math:`S`: the distances of its columns from their quantiles.

    .. math::
        \sum_{i, k} \mathrm{asym}(s_{ik} - q_k), \quad \mathrm{asym}(t) = \begin{cases} \rho\, t & t \ge 0 \\
        -t & t < 0 \end{cases}, \quad \rho = K - 1

    The sum is over the :math:`n` valid nodes of a graph. :math:`q_k` is the :math:`\lfloor n / K \rfloor`-th largest
    entry of column :math:`k`, counted from 0, or the smallest entry if there are fewer. Hard clusters of :math:`n / K`
    nodes each have the norm :math:`n (K - 1)`, by which :func:`hierpool.losses.asym_norm_loss` divides.

    Quantiles are exact. Besides the gradient, there are no temporaries of the size of ``s``. Results do not depend on
    the number of threads.

    Args:
        s: the assignment :math:`S`, not logits, ``[B, N, K]``; float64, float32, bfloat16 or float16. With a ragged
            graph ``[N, K]``, in the caller's order of nodes.
        graph: the :class:`hierpool.RaggedGraph` of the nodes; its edges are not used.
        mask: valid nodes of a padded batch, ``[B, N]`` or ``[N]``, any dtype, non-zero means valid; may have holes.
            Other rows of ``s`` are ignored.
        num_nodes: number of valid nodes of a padded batch, ``[B]``: the first ``num_nodes[b]`` of graph ``b`` are
            valid. Exclusive with ``mask``.
        num_clusters: number of clusters :math:`K` of each graph, ``[B]`` or an int: its first columns. Others are
            ignored.
        backend: ``"auto"``, ``"native"``, ``"triton"`` or ``"reference"``; see :func:`hierpool.explain`.

    Returns:
        ``[B]``, float64 if ``s`` is float64, else float32; 0 for a graph without nodes.

        The derivative with respect to :math:`s_{ik}` is :math:`\rho` where :math:`s_{ik} \ge q_k` and -1 elsewhere. The
        derivative through :math:`q_k` is minus the sum of these over the column; it is added to one row, the first
        whose entry equals :math:`q_k`. NaN is treated as the largest number. A graph with NaN entries has norm NaN. The
        gradients to these entries and to the row of :math:`q_k` are then NaN, and those to a whole column if
        :math:`q_k` is NaN. Second derivatives, transforms of ``torch.func`` and forward-mode AD run on
        :func:`hierpool.reference.asymmetric_norm`.

    Raises:
        TypeError: an argument has the wrong type, dtype or layout.
        ValueError: a shape, device or value is invalid; the message names the argument.
        RuntimeError: the named backend cannot run; the message gives the reason.

    Source: Hansen and Bianchi, Total Variation Graph Neural Networks, ICML 2023 (arXiv:2211.06218).
    """
    s, mask = _checks.check_assignment(s, graph, mask, num_nodes)
    backends.check_name(backend)
    if graph is None:
        rows: Padded | Ragged = _checks.padded_rows(mask, num_nodes)
    else:
        s, rows = graph.in_graph_order(s), Ragged(graph.ptr)
    graphs = s.size(0) if graph is None else graph.num_graphs
    counts = _checks.cluster_counts(num_clusters, graphs, s)
    (norm,) = OPERATOR(Call(s, rows, counts, Options(backend)))
    return norm
