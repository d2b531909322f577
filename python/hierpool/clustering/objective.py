"""The losses that a clustering may minimise: two terms each, from the record of soft pooling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from hierpool import losses
from hierpool.record import SoftPoolRecord

Loss = Callable[[SoftPoolRecord], Tensor]


class Objective(NamedTuple):
    """A loss of two terms.

    Attributes:
        names: of the terms.
        terms: the fit to the graph, and what keeps the clusters balanced, or nodes sure of theirs.
        weight: usual weight of the second term. The entropy's is small: at 1 it freezes the first guess.
        options: what :func:`hierpool.soft_pool` must compute for them.
    """

    names: tuple[str, str]
    terms: tuple[Loss, Loss]
    weight: float
    options: dict[str, Any]


def link_angle(record: SoftPoolRecord) -> Tensor:
    r"""DiffPool's link loss at the best scale of the reconstruction, :math:`-\log \cos(A, S S^T)`.

    .. math:: \min_\alpha |A - \alpha S S^T|_F^2 = |A|_F^2 (1 - \cos^2), \qquad
              \cos = \frac{\mathrm{tr}(S^T A S)}{|A|_F \, |S^T S|_F}

    With :math:`\alpha = 1`, which suits graphs of a few dense clusters, the loss of a large sparse graph is least where
    there are no clusters: :math:`|S S^T|` of clusters is many times :math:`|A|`. The logarithm gives its gradient the
    same size for graphs of all sizes.

    Returns:
        0-d, of a record of one graph; 0 if it has no edges.
    """
    assert record.gram is not None
    trace = record.adj.diagonal(dim1=-2, dim2=-1).sum()
    some = trace > 0
    norms = (record.adj_sq.sum() * record.gram.square().sum()).where(some, 1).sqrt()
    return norms.log() - trace.where(some, 1).log()


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
        (link_angle, losses.entropy_loss),
        0.1,
        {"link_loss": None, "entropy": True, "gram": True},
    ),
}
