"""The network that assigns nodes to clusters."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hierpool.clustering.features import NodeInputs
from hierpool.clustering.shared import Graph, count_nodes, rows_at

_SAMPLES_PER_CLUSTER = 100


class AssignmentNet(nn.Module):
    r"""A graph layer and a linear head: logits of an assignment of nodes to clusters.

    .. math:: L = \hat H W + b, \qquad H = \mathrm{SELU}(Z W_1 + P^2 Z W_2 + c)

    The rows of :math:`\hat H` are those of :math:`H`, scaled to unit length. :math:`Z` and :math:`P^2 Z` are the
    :class:`NodeInputs`.

    Args:
        in_channels: number of input features, F.
        hidden_channels: number of columns of :math:`H`.
        k: number of clusters.
    """

    def __init__(self, in_channels: int, hidden_channels: int, k: int) -> None:
        super().__init__()
        self.lin_features = nn.Linear(in_channels, hidden_channels)
        self.lin_propagated = nn.Linear(in_channels, hidden_channels, bias=False)
        self.head = nn.Linear(hidden_channels, k)

    def embed(self, inputs: NodeInputs) -> Tensor:
        """The rows of unit length, ``[N, hidden_channels]``."""
        h = self.lin_features(inputs.features) + self.lin_propagated(inputs.propagated)
        return F.normalize(F.selu(h), dim=1)

    def forward(self, inputs: NodeInputs) -> Tensor:
        """Logits ``[N, K]``."""
        out: Tensor = self.head(self.embed(inputs))
        return out

    @torch.no_grad()
    def initialize_head(
        self, inputs: NodeInputs, generator: torch.Generator, graph: Graph | None = None
    ) -> None:
        """Set the weights of the head so that each cluster is centred at one node.

        The nodes are chosen by greedy k-means++ on a sample. With random weights all clusters are similar, and training
        does not separate most of them.

        ``graph``: the graph of the nodes, if several processes share it; all choose the same nodes.

        Source: Arthur, Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007, section 5.
        """
        k, n = self.head.out_features, inputs.features.size(0) if graph is None else count_nodes(graph)
        sample = torch.randperm(n, generator=generator)[: _SAMPLES_PER_CLUSTER * k].sort().values
        if graph is None:
            candidates = inputs.rows(sample)
        else:
            candidates = NodeInputs(*(rows_at(graph, rows, sample) for rows in inputs))
        # The inputs separate clusters; embeddings of random weights do not.
        centres = _kmeans_plus_plus(torch.cat(candidates, 1) * 0.5**0.5, k, generator)
        # The initial logits are cosines times this factor: nodes prefer the most similar centre for every k, and the
        # loss can still move them.
        sharpness = 1 + math.log(k)
        self.head.weight.copy_(sharpness * self.embed(candidates.rows(centres)))
        self.head.bias.zero_()

    @torch.no_grad()
    def assign(
        self,
        inputs: NodeInputs,
        rows: int = 1 << 13,
        out: Tensor | None = None,
        clusters: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Compute the most probable cluster of every node, int64 ``[N]``, and its probability, float32 ``[N]``.

        Args:
            inputs: inputs of all nodes.
            rows: number of nodes at a time.
            out: tensor ``[N, K]`` that receives all probabilities.
            clusters: clusters whose probabilities are returned instead, int64 ``[N]``.
        """
        n = inputs.features.size(0)
        found = torch.empty(n, dtype=torch.int64) if clusters is None else clusters
        probabilities = torch.empty(n)
        for start in range(0, n, rows):
            part = slice(start, start + rows)
            s = self(inputs.rows(part)).softmax(1)
            if out is not None:
                out[part] = s
            if clusters is None:
                torch.max(s, 1, out=(probabilities[part], found[part]))
            else:
                probabilities[part] = s.gather(1, clusters[part, None])[:, 0]
        return found, probabilities


def _kmeans_plus_plus(points: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Indices of ``k`` rows of unit length, drawn in proportion to the squared distance to the rows drawn before."""
    trials = 2 + 2 * math.ceil(math.log(k + 1))
    n = points.size(0)
    chosen = [int(torch.randint(n, (1,), generator=generator))]
    distance = (2 - 2 * points @ points[chosen[0]]).clamp(min=0)  # squared
    for _ in range(1, k):
        # If all distances are 0, every row is as good.
        weights = distance if float(distance.sum()) > 0 else torch.ones(n)
        candidates = torch.multinomial(weights, trials, replacement=True, generator=generator)
        distances = torch.minimum(distance, (2 - 2 * points[candidates] @ points.t()).clamp(min=0))
        best = int(distances.sum(1).argmin())
        distance = distances[best]
        chosen.append(int(candidates[best]))
    return torch.tensor(chosen)
