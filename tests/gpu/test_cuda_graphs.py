"""Steps that are captured in CUDA graphs, as the guide describes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hierpool
from hierpool import RaggedGraph


class Level(nn.Module):
    """One level of pooling, by an assignment that is learned."""

    def __init__(self, pool: Any) -> None:
        super().__init__()
        self.assign, self.pool = nn.Linear(16, 8), pool

    def forward(self, x: Tensor, adj: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        return self.pool(x, adj, self.assign(x), mask)


def batch(seed: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    x, adj = torch.randn(32, 48, 16, generator=draw), (torch.rand(32, 48, 48, generator=draw) < 0.1).float()
    mask = torch.arange(48) < torch.randint(1, 49, (32, 1), generator=draw)
    return x.to(device), adj.to(device), mask.to(device)


@pytest.mark.parametrize("name", ["dense_diff_pool", "dense_mincut_pool"])
def test_a_layer_that_is_captured_gives_the_same_bits(name: str, device: torch.device) -> None:
    torch.manual_seed(0)
    level = Level(getattr(hierpool, name)).to(device)

    def step(module: Any, seed: int) -> list[Tensor]:
        level.zero_grad()
        out = module(*batch(seed, device))
        sum(t.square().mean() for t in out).backward()
        return [t.detach().clone() for t in (*out, level.assign.weight.grad, level.assign.bias.grad)]

    expected = [step(level, seed) for seed in (1, 2)]
    captured = torch.cuda.make_graphed_callables(level, batch(0, device))
    for seed, found in zip((1, 2), expected, strict=True):
        torch.testing.assert_close(step(captured, seed), found, rtol=0, atol=0)


def test_a_training_step_of_one_graph_is_captured(device: torch.device) -> None:
    draw = torch.Generator().manual_seed(0)
    edges = torch.randint(200, (2, 2000), generator=draw)
    graph = RaggedGraph.from_edge_index(edges.to(device), 200)
    x = torch.randn(200, 16, generator=draw).to(device)

    def trained(captured: bool) -> list[Tensor]:
        torch.manual_seed(1)
        layer = nn.Linear(16, 8).to(device)
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.01, capturable=True)

        def step() -> None:
            optimizer.zero_grad()
            out = hierpool.mincut_pool(x, graph, layer(x))
            (out.mincut_loss + out.ortho_loss).backward()
            optimizer.step()

        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(3):
                step()
        torch.cuda.current_stream(device).wait_stream(side)
        if captured:
            replayed = torch.cuda.CUDAGraph()
            optimizer.zero_grad()
            with torch.cuda.graph(replayed):
                step()
        for _ in range(5):
            replayed.replay() if captured else step()
        torch.cuda.synchronize(device)
        return [parameter.detach().clone() for parameter in layer.parameters()]

    torch.testing.assert_close(trained(True), trained(False), rtol=0, atol=0)
