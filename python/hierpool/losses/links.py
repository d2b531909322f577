"""The two losses of DiffPool, and their normalisations in different libraries."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from hierpool.losses._tensors import Record, check_choice, computed, divide, over, padded

REDUCTIONS = ("global", "mean_graph")


class Convention(NamedTuple):
    """Keyword arguments of the functions below that reproduce one library."""

    link: dict[str, Any]
    entropy: dict[str, Any]


def _convention(reduction: str, link: str | None, entropy: str | None) -> Convention:
    return Convention(
        {"reduction": reduction, "normalize": link}, {"reduction": reduction, "normalize": entropy}
    )


# By library, with its normalisation enabled. Use: link_pred_loss(record, **CONVENTIONS["pyg"].link).
CONVENTIONS = {
    "paper": _convention("mean_graph", None, "valid"),
    "pyg": _convention("global", "numel", "padded"),
    "tgp": _convention("global", "numel", "valid"),
    "tgp_unbatched": _convention("global", "valid", "valid"),
    "original": _convention("global", "valid", "valid"),
}


def link_pred_loss(record: Record, *, reduction: str = "global", normalize: str | None = None) -> Tensor:
    r"""Frobenius link-prediction loss :math:`|A - S S^T|_F` of DiffPool.

    ================  ==========================================================================================
    ``"global"``      :math:`c^{-1} (\sum_b |A_b - S_b S_b^T|_F^2)^{1/2}`: one norm over the batch
    ``"mean_graph"``  :math:`B^{-1} \sum_b c_b^{-1} |A_b - S_b S_b^T|_F`: the mean of the norms of the graphs
    ================  ==========================================================================================

    Args:
        record: from :func:`hierpool.soft_pool` or :func:`hierpool.sparse_soft_pool`, with ``link_loss="frobenius"``.
        reduction: ``"global"`` or ``"mean_graph"``.
        normalize: the divisor. ``None``: 1. ``"numel"``: the entries of the padded adjacency, :math:`c = B N^2`,
            :math:`c_b = N^2`. ``"valid"``: the entries between valid nodes, :math:`c = \sum_b n_b^2`,
            :math:`c_b = n_b^2`.

    Returns:
        0-d tensor of the record's accumulation dtype. With several edge types, the sum over them.

    Raises:
        ValueError: ``reduction`` or ``normalize`` is unknown, or the record was made without the link loss.

    The gradient is 0 where the norm is 0.
    """
    check_choice("reduction", reduction, REDUCTIONS)
    check_choice("normalize", normalize, (None, "numel", "valid"))
    graphs, nodes = padded(record)
    if reduction == "global":
        loss = _link(record, "link_norm").sum()  # over edge types
        if normalize == "numel":
            return over(loss, graphs * nodes * nodes)
        return loss if normalize is None else divide(loss, record.num_nodes.square().sum())
    norms = _link(record, "link")
    norms = norms if norms.dim() == 1 else norms.sum(1)  # [B]
    if normalize == "numel":
        norms = over(norms, nodes * nodes)
    elif normalize == "valid":
        norms = divide(norms, record.num_nodes.square())
    return over(norms.sum(), graphs)


def entropy_loss(record: Record, *, reduction: str = "global", normalize: str | None = "valid") -> Tensor:
    r"""Entropy of the assignment, :math:`H(s) = -\sum_k s_k \log s_k` per node.

    ================  ==========================================================================================
    ``"global"``      :math:`c^{-1} \sum_b \sum_i H(s_{bi})`: equal weights for the nodes of the batch
    ``"mean_graph"``  :math:`B^{-1} \sum_b c_b^{-1} \sum_i H(s_{bi})`: equal weights for the graphs
    ================  ==========================================================================================

    Args:
        record: from :func:`hierpool.soft_pool` or :func:`hierpool.sparse_soft_pool`, with ``entropy=True``.
        reduction: ``"global"`` or ``"mean_graph"``.
        normalize: the divisor. ``"valid"``: valid nodes, :math:`c = \sum_b n_b`, :math:`c_b = n_b`.
            ``"padded"``: all rows, :math:`c = B N`, :math:`c_b = N`. ``None``: 1.

    Returns:
        0-d tensor of the record's accumulation dtype, in nats.

    Raises:
        ValueError: ``reduction`` or ``normalize`` is unknown, or the record was made without entropies.
    """
    check_choice("reduction", reduction, REDUCTIONS)
    check_choice("normalize", normalize, (None, "padded", "valid"))
    graphs, nodes = padded(record)
    total: Tensor = computed(record, "total_entropy", "entropy=True")
    if reduction == "global":
        if normalize == "valid":
            return divide(total, record.num_nodes.sum())
        return total if normalize is None else over(total, graphs * nodes)
    if normalize == "valid":
        return over(divide(computed(record, "entropy", "entropy=True"), record.num_nodes).sum(), graphs)
    return over(total, graphs * (1 if normalize is None else nodes))


def _link(record: Record, field: str) -> Tensor:
    found: Tensor = computed(record, field, 'link_loss="frobenius"')
    return found
