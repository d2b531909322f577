"""The opponent of a whole training step: the network of `hierpool.models`, made of PyTorch Geometric's dense layers.

Put together as in PyG's own example of DiffPool: ``DenseSAGEConv``, ReLU, ``BatchNorm1d`` over all rows, padding and
all, and ``dense_diff_pool``. Depths, widths, readouts and classifier are those of `DiffPoolNet`, so on a batch without
padding both are one function of the same parameters, which `share_weights` lets them have.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch_geometric.nn import DenseSAGEConv, dense_diff_pool

from hierpool.models import DiffPoolNet


class PygStack(nn.Module):
    """Dense GraphSAGE layers, their outputs concatenated."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(DenseSAGEConv(a, b, normalize=True) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(nn.BatchNorm1d(size) for size in sizes[1:-1])

    def forward(self, x: Tensor, adj: Tensor, mask: Tensor | None = None) -> Tensor:
        outputs = []
        for i, conv in enumerate(self.convs):
            x = conv(x, adj, mask)
            if i < len(self.norms):
                x = self.norms[i](x.relu().flatten(0, 1)).view_as(x)
            outputs.append(x)
        return torch.cat(outputs, -1)


class PygDiffPoolNet(nn.Module):
    """`DiffPoolNet` with mean aggregation, batch norm, maximum readout and PyG's losses, of PyG's layers."""

    def __init__(
        self, in_channels: int, num_classes: int, clusters: tuple[int, ...], hidden: int, layers: int,
        head_channels: int,
    ) -> None:  # fmt: skip
        super().__init__()

        def sizes(fan_in: int, fan_out: int) -> list[int]:
            return [fan_in] + [hidden] * (layers - 1) + [fan_out]

        width = hidden * layers
        fan_in = (in_channels, *(width for _ in clusters))
        self.embeddings = nn.ModuleList(PygStack(sizes(size, hidden)) for size in fan_in)
        self.assignments = nn.ModuleList(
            PygStack(sizes(size, k)) for size, k in zip(fan_in, clusters, strict=False)
        )
        self.linears = nn.ModuleList(nn.Linear(hidden * (layers - 1) + k, k) for k in clusters)
        end = nn.Linear(width * len(fan_in), head_channels), nn.ReLU(), nn.Dropout(0.0)
        self.head = nn.Sequential(*end, nn.Linear(head_channels, num_classes))

    def forward(self, x: Tensor, adj: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Class logits, and the link and entropy losses summed over levels."""
        summaries, links, entropies = [], [], []
        for embedding, assignment, linear in zip(
            self.embeddings, self.assignments, self.linears, strict=False
        ):
            z = embedding(x, adj, mask)
            logits = linear(assignment(x, adj, mask))
            summaries.append((z if mask is None else z.masked_fill(~mask[..., None], -torch.inf)).amax(1))
            x, adj, link, entropy = dense_diff_pool(z, adj, logits, mask)
            mask = None
            links.append(link)
            entropies.append(entropy)
        summaries.append(self.embeddings[-1](x, adj).amax(1))
        return self.head(torch.cat(summaries, -1)), sum(links), sum(entropies)


def share_weights(theirs: PygDiffPoolNet, ours: DiffPoolNet) -> None:
    """Give PyG's network the parameters of ours."""
    renamed = {}
    for name, value in ours.state_dict().items():
        parts = name.split(".")
        if parts[0] == "pools":  # pools.i.assignment.{stack,linear}
            parts = [{"stack": "assignments", "linear": "linears"}[parts[3]], parts[1], *parts[4:]]
        renamed[".".join(parts)] = value
    missing, unexpected = theirs.load_state_dict(renamed, strict=False)
    wrong = unexpected + [name for name in missing if not name.endswith("num_batches_tracked")]
    if wrong:
        raise ValueError(f"the networks differ in {', '.join(wrong)}")
