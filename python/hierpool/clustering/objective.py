"""The losses of clustering, with two terms each, as functions of the record of soft pooling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from hierpool import SoftPoolRecord, losses

Loss = Callable[[SoftPoolRecord], Tensor]


class Objective(NamedTuple):
    """A loss with two terms.

    Attributes:
        names: names of the terms.
        terms: the fit to the graph, and a regulariser that balances clusters or lowers the entropy.
        weight: usual weight of the regulariser. The weight of the entropy is small; with 1 the initial assignment would
            not change.
        options: arguments of :func:`hierpool.soft_pool` that the terms need.
    """

    names: tuple[str, str]
    terms: tuple[Loss, Loss]
    weight: float
    options: dict[str, Any]


def scaled_link_loss(record: SoftPoolRecord) -> Tensor:
    r"""DiffPool's link loss for the best scale of the reconstruction, :math:`-\log \cos(A, S S^T)`.

    .. math:: \min_\alpha |A - \alpha S S^T|_F^2 = |A|_F^2 (1 - \cos^2), \qquad
              \cos = \frac{\mathrm{tr}(S^T A S)}{|A|_F \, |S^T S|_F}

    :math:`\alpha = 1` suits graphs with a few dense clusters. In a large sparse graph :math:`|S S^T|` is many times
    :math:`|A|`, and the loss with :math:`\alpha = 1` is minimal without clusters. The logarithm makes the size of the
    gradient independent of the size of the graph.

    Args:
        record: record of one graph, with ``gram``.

    Returns:
        0-d tensor; 0 if the graph has no edges.
    """
    assert record.gram is not None
    trace = record.adj.diagonal(dim1=-2, dim2=-1).sum()
    has_edges = trace > 0
    logarithms = [
        value.where(has_edges, 1).log()
        for value in (record.adj_norm.sum(), record.gram.square().sum().sqrt(), trace)
    ]
    return logarithms[0] + logarithms[1] - logarithms[2]


OBJECTIVES = {
    "dmon": Objective(
        ("modularity_loss", "collapse_loss"),
        (losses.spectral_loss, losses.cluster_loss),
        1.0,
        {"link_loss": None, "entropy": False, "gram": False},
    ),
    "mincut": Objective(
        ("cut_loss", "orthogonality_loss"),
        (losses.mincut_loss, losses.orthogonality_loss),
        1.0,
        {"link_loss": None, "entropy": False, "gram": True},
    ),
    "diffpool": Objective(
        ("link_loss", "entropy_loss"),
        (scaled_link_loss, losses.entropy_loss),
        0.1,
        {"link_loss": None, "entropy": True, "gram": True},
    ),
}
