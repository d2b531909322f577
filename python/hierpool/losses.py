"""Auxiliary losses of soft poolers, as small tensor code on the record of :func:`hierpool.soft_pool`.

Nothing here touches a node or an edge: every loss is a function of the record's per-graph sums, so it costs
the same for ten nodes as for ten thousand. Records of dense batches, of several edge types and of ragged batches
all serve. 0/0 (an empty batch, a graph without valid nodes, a graph without edges) is defined as value 0 with
gradient 0.

===========================================  ======================================================================
method                                       losses, added with weight 1 in its paper
===========================================  ======================================================================
DiffPool                                     :func:`link_prediction`, :func:`entropy`
MinCut                                       :func:`mincut`, :func:`orthogonality`
DMoN                                         :func:`modularity`, :func:`collapse`
===========================================  ======================================================================

Which arguments of DiffPool's two give which library's loss (values checked against the installed library in the tests):

==========================================  ==================================  =============================
library                                     :func:`link_prediction`             :func:`entropy`
==========================================  ==================================  =============================
paper                                       ``"mean_graph"``, ``None``          ``"mean_graph"``, ``"valid"``
PyG ``dense_diff_pool``                     ``"global"``, ``"numel"``           ``"global"``, ``"padded"``
PyG, ``normalize=False``                    ``"global"``, ``None``              ``"global"``, ``"padded"``
tgp batched                                 ``"global"``, ``None``              ``"global"``, ``"valid"``
tgp batched, ``normalize_loss=True``        ``"global"``, ``"numel"``           ``"global"``, ``"valid"``
tgp unbatched, ``normalize_loss=True``      ``"global"``, ``"valid"``           ``"global"``, ``"valid"``
Spektral                                    ``"mean_graph"``, ``None``          ``"global"``, ``"padded"``
DGL example, second level on                ``"mean_graph"``, ``"valid"``       ``"mean_graph"``, ``None``
original code, 2020                         cross-entropy, ``"valid"``          none
==========================================  ==================================  =============================

The cross-entropy of the original code needs all pairs of nodes, and is an operator of its own:
:func:`hierpool.link_bce`.

The record's entropy has no epsilon inside the logarithm; the libraries' differ from it by less than
``K * eps`` per node (``eps`` 1e-15 in PyG, 1e-8 in tgp, 1e-7 in Spektral).

In a ragged batch the padded rows of these normalisations are those that a dense batch would have: as many for every
graph as the largest one has nodes.

Sources: DiffPool, Ying et al., NeurIPS 2018 (arXiv:1806.08804), section 3.3; MinCut, Bianchi, Grattarola, Alippi,
"Spectral Clustering with Graph Neural Networks for Graph Pooling", ICML 2020 (arXiv:1907.00481), equations 8 and 9;
DMoN, Tsitsulin, Palowitch, Perozzi, Müller, "Graph Clustering with Graph Neural Networks", JMLR 24, 2023
(arXiv:2006.16904), equation 8.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierpool.record import SoftPoolRecord

REDUCTIONS = ("global", "mean_graph")


class Convention(NamedTuple):
    """How one library reduces and normalises DiffPool's two losses: keyword arguments of the functions below."""

    link: dict[str, Any]
    entropy: dict[str, Any]


def _convention(reduction: str, link: str | None, entropy: str | None) -> Convention:
    return Convention(
        {"reduction": reduction, "normalize": link}, {"reduction": reduction, "normalize": entropy}
    )


# By library, its normalisation switched on; for example link_prediction(record, **CONVENTIONS["pyg"].link).
CONVENTIONS = {
    "paper": _convention("mean_graph", None, "valid"),
    "pyg": _convention("global", "numel", "padded"),
    "tgp": _convention("global", "numel", "valid"),
    "tgp_unbatched": _convention("global", "valid", "valid"),
    "original": _convention("global", "valid", "valid"),
}


def link_prediction(
    record: SoftPoolRecord, *, reduction: str = "global", normalize: str | None = None
) -> Tensor:
    r"""Frobenius link-prediction loss :math:`|A - S S^T|_F` of DiffPool.

    ===============  ==========================================================================================
    ``"global"``     :math:`c^{-1} (\sum_b |A_b - S_b S_b^T|_F^2)^{1/2}`: one norm over the whole batch
    ``"mean_graph"`` :math:`B^{-1} \sum_b c_b^{-1} |A_b - S_b S_b^T|_F`: each graph's own norm, averaged
    ===============  ==========================================================================================

    Args:
        record: of :func:`hierpool.soft_pool` called with ``link_loss="frobenius"``.
        reduction: ``"global"`` or ``"mean_graph"``.
        normalize: the divisor. ``None``: 1. ``"numel"``: the entries of the padded adjacency, :math:`c = B N^2`,
            :math:`c_b = N^2`. ``"valid"``: the entries between valid nodes, :math:`c = \sum_b n_b^2`,
            :math:`c_b = n_b^2`.

    Returns:
        0-d tensor of the record's accumulation dtype. With several edge types, the sum over them.

    Raises:
        ValueError: unknown ``reduction`` or ``normalize``.

    The gradient is 0 where the norm is 0. Backends: all (it works on the record).
    """
    _check_choice("reduction", reduction, REDUCTIONS)
    _check_choice("normalize", normalize, (None, "numel", "valid"))
    graphs, nodes = _padded(record)
    if reduction == "global":
        loss = record.link_norm if record.adj.dim() == 3 else record.link_norm.sum()
        if normalize == "numel":
            return _over(loss, graphs * nodes * nodes)
        return loss if normalize is None else _divide(loss, record.num_nodes.square().sum())
    norms = _root(record.link_sq)  # [B], or [B, R]
    norms = norms if record.adj.dim() == 3 else norms.sum(1)
    if normalize == "numel":
        norms = _over(norms, nodes * nodes)
    elif normalize == "valid":
        norms = _divide(norms, record.num_nodes.square())
    return _over(norms.sum(), graphs)


def entropy(record: SoftPoolRecord, *, reduction: str = "global", normalize: str | None = "valid") -> Tensor:
    r"""Entropy of the assignment, :math:`H(s) = -\sum_k s_k \log s_k` per node.

    ===============  ==========================================================================================
    ``"global"``     :math:`c^{-1} \sum_b \sum_i H(s_{bi})`: all nodes of the batch weigh the same
    ``"mean_graph"`` :math:`B^{-1} \sum_b c_b^{-1} \sum_i H(s_{bi})`: all graphs weigh the same
    ===============  ==========================================================================================

    Args:
        record: of :func:`hierpool.soft_pool` called with ``entropy=True``.
        reduction: ``"global"`` or ``"mean_graph"``.
        normalize: the divisor. ``"valid"``: valid nodes, :math:`c = \sum_b n_b`, :math:`c_b = n_b`.
            ``"padded"``: all rows, :math:`c = B N`, :math:`c_b = N`. ``None``: 1.

    Returns:
        0-d tensor of the record's accumulation dtype, in nats.

    Raises:
        ValueError: unknown ``reduction`` or ``normalize``.
    """
    _check_choice("reduction", reduction, REDUCTIONS)
    _check_choice("normalize", normalize, (None, "padded", "valid"))
    graphs, nodes = _padded(record)
    if reduction == "global":
        if normalize == "valid":
            return _divide(record.total_entropy, record.num_nodes.sum())
        return record.total_entropy if normalize is None else _over(record.total_entropy, graphs * nodes)
    if normalize == "valid":
        return _over(_divide(record.entropy, record.num_nodes).sum(), graphs)
    return _over(record.total_entropy, graphs * (1 if normalize is None else nodes))


def mincut(record: SoftPoolRecord) -> Tensor:
    r"""Relaxed normalised cut of MinCut pooling, :math:`-\mathrm{tr}(S^T A S) / \mathrm{tr}(S^T D S)`.

    :math:`D` holds the row sums of :math:`A`. Between -1, no edge between clusters, and 0 for weights that are not
    negative. Assigning every node alike reaches -1 as well, which :func:`orthogonality` is there to prevent.

    Args:
        record: of :func:`hierpool.soft_pool`.

    Returns:
        Mean over graphs, 0-d tensor of the record's accumulation dtype. With several edge types, the sum over them.
    """
    return _mean(record, -_divide(_trace(record.adj), record.cut_degree))


def orthogonality(record: SoftPoolRecord) -> Tensor:
    r"""Orthogonality loss of MinCut pooling, :math:`|\, S^T S / |S^T S|_F - I_K / \sqrt{K} \,|_F`.

    0 for clusters of equal size to which nodes belong entirely, and below :math:`\sqrt 2`.

    Args:
        record: of :func:`hierpool.soft_pool` called with ``gram=True``, or with ``link_loss="frobenius"``.

    Returns:
        Mean over graphs, 0-d tensor of the record's accumulation dtype. Its gradient is 0 where the norm is 0.

    Raises:
        ValueError: the record has no ``gram``.
    """
    if record.gram is None:
        raise ValueError("record must have gram, got None; call soft_pool with gram=True")
    k = record.gram.size(-1)
    norm = _root(record.gram.square().sum((-2, -1)))
    equal = torch.eye(k, dtype=norm.dtype, device=norm.device) * _reciprocal(k) ** 0.5
    apart = _root((_divide(record.gram, norm[:, None, None]) - equal).square().sum((-2, -1)))
    return _mean(record, torch.where(norm == 0, 0, apart))


def modularity(record: SoftPoolRecord) -> Tensor:
    r"""Spectral loss of DMoN, the negative modularity of a soft assignment.

    .. math:: -\frac{1}{2m} \mathrm{tr}\big(S^T (A - \tfrac{1}{2m} d d^T) S\big)
              = -\frac{1}{2m} \Big(\mathrm{tr}(S^T A S) - \frac{|S^T d|^2}{2m}\Big)

    with :math:`d = A 1` and :math:`2m = 1^T d`; of a directed graph, too, :math:`d` is the row sums.

    Args:
        record: of :func:`hierpool.soft_pool`.

    Returns:
        Mean over graphs, 0-d tensor of the record's accumulation dtype. With several edge types, the sum over them.
    """
    total = record.total_degree
    expected = _divide(record.volume.square().sum(-1), total)
    return _mean(record, -_divide(_trace(record.adj) - expected, total))


def collapse(record: SoftPoolRecord) -> Tensor:
    r"""Collapse regularisation of DMoN, :math:`\frac{\sqrt K}{n} |S^T 1| - 1`, over a graph's :math:`n` nodes.

    0 for clusters of equal size, :math:`\sqrt K - 1` if one cluster has every node.

    Args:
        record: of :func:`hierpool.soft_pool`.

    Returns:
        Mean over graphs, 0-d tensor of the record's accumulation dtype.
    """
    norm = _root(record.size.square().sum(-1))
    return _mean(record, _divide(norm * record.size.size(-1) ** 0.5 - record.num_nodes, record.num_nodes))


def _check_choice(argument: str, given: str | None, choices: tuple[str | None, ...]) -> None:
    if given not in choices:
        raise ValueError(f"{argument} must be one of {', '.join(map(repr, choices))}, got {given!r}")


def _padded(record: SoftPoolRecord) -> tuple[int, int | Tensor]:
    """Graphs, and rows of each one's padded assignment; of ragged graphs a 0-d tensor, which waits for no device."""
    if record.s.dim() == 3:
        return record.s.size(0), record.s.size(1)
    graphs = record.num_nodes.size(0)
    return graphs, record.num_nodes.detach().amax() if graphs else 0


def _trace(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=-2, dim2=-1).sum(-1)


def _mean(record: SoftPoolRecord, values: Tensor) -> Tensor:
    """Mean over graphs of ``[B]``, or of the sums over edge types of ``[B, R]``."""
    return _over(values.sum(), record.adj.size(0))


def _over(value: Tensor, count: int | Tensor) -> Tensor:
    """``value / count``, and 0 for an empty batch."""
    return _divide(value, count) if isinstance(count, Tensor) else value * _reciprocal(count)


def _reciprocal(count: int) -> float:
    """1 / count, and 0 for an empty batch."""
    return 1.0 / count if count else 0.0


def _divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Quotient with 0/0 = 0 and gradient 0 there."""
    some = denominator != 0
    quotient = numerator / torch.where(some, denominator, 1)
    return torch.where(some, quotient, 0)


def _root(square: Tensor) -> Tensor:
    """Square root whose gradient at 0 is 0; NaN, where the loss was not computed, stays NaN."""
    zero = square == 0
    return torch.where(zero, 0, torch.where(zero, 1, square).sqrt())
