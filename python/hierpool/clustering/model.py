"""The network that assigns nodes to clusters."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hierpool.clustering.features import NodeInputs

_SAMPLES_PER_CLUSTER = 100


class AssignmentNet(nn.Module):
    r"""A graph layer and a linear head: logits of an assignment of nodes to clusters.

    .. math:: L = \hat H W + b, \qquad H = \mathrm{SELU}(Z W_1 + P^2 Z W_2 + c)

    with the rows of :math:`\hat H` those of :math:`H` at unit length, and :math:`Z`, :math:`P^2 Z` the
    :class:`NodeInputs`.

    Args:
        in_channels: F.
        hidden_channels: columns of :math:`H`.
        k: clusters.
    """

    def __init__(self, in_channels: int, hidden_channels: int, k: int) -> None:
        super().__init__()
        self.near = nn.Linear(in_channels, hidden_channels)
        self.far = nn.Linear(in_channels, hidden_channels, bias=False)
        self.head = nn.Linear(hidden_channels, k)

    def embed(self, inputs: NodeInputs) -> Tensor:
        """Rows of unit length, ``[N, hidden_channels]``."""
        return F.normalize(F.selu(self.near(inputs.near) + self.far(inputs.far)), dim=1)

    def forward(self, inputs: NodeInputs) -> Tensor:
        """Logits ``[N, K]``."""
        out: Tensor = self.head(self.embed(inputs))
        return out

    @torch.no_grad()
    def start_from_seeds(self, inputs: NodeInputs, generator: torch.Generator) -> None:
        """Set the head so that each cluster is around one node, the nodes far from each other.

        They are chosen by k-means++ on a sample, with several candidates for each. From random weights all clusters
        look alike, and most are never told apart.

        Source: Arthur, Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007, section 5.
        """
        k, n = self.head.out_features, inputs.near.size(0)
        sample = torch.randperm(n, generator=generator)[: _SAMPLES_PER_CLUSTER * k].sort().values
        candidates = inputs.rows(sample)
        # Where clusters are apart, not yet mixed by random weights.
        seeds = _far_apart(torch.cat(candidates, 1) * 0.5**0.5, k, generator)
        # First logits are cosines times this: nodes lean to the seed they resemble, whatever the number of others,
        # and the loss is free to move them.
        sharpness = 1 + math.log(k)
        self.head.weight.copy_(sharpness * self.embed(candidates.rows(seeds)))
        self.head.bias.zero_()

    @torch.no_grad()
    def assign(
        self, inputs: NodeInputs, rows: int = 1 << 15, keep: Callable[[Tensor, int], None] | None = None
    ) -> tuple[Tensor, Tensor]:
        """The likeliest cluster of every node, int64 ``[N]``, and its probability, float32 ``[N]``.

        Args:
            inputs: of all nodes.
            rows: nodes at a time.
            keep: called with every block of probabilities ``[rows, K]`` and the number of its first node.
        """
        clusters, probabilities = [], []
        for start in range(0, inputs.near.size(0), rows):
            s = self(inputs.rows(slice(start, start + rows))).softmax(1)
            if keep is not None:
                keep(s, start)
            probability, cluster = s.max(1)
            clusters.append(cluster)
            probabilities.append(probability)
        return torch.cat(clusters), torch.cat(probabilities)


def _far_apart(points: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Numbers of ``k`` rows of unit length, each drawn in proportion to the squared distance to those before it."""
    trials = 2 + 2 * math.ceil(math.log(k + 1))
    n = points.size(0)
    chosen = [int(torch.randint(n, (1,), generator=generator))]
    distance = (2 - 2 * points @ points[chosen[0]]).clamp(min=0)  # squared
    for _ in range(1, k):
        # Where all points are taken, any will do.
        chances = distance if float(distance.sum()) > 0 else torch.ones(n)
        candidates = torch.multinomial(chances, trials, replacement=True, generator=generator)
        distances = torch.minimum(distance, (2 - 2 * points[candidates] @ points.t()).clamp(min=0))
        best = int(distances.sum(1).argmin())
        distance = distances[best]
        chosen.append(int(candidates[best]))
    return torch.tensor(chosen)
