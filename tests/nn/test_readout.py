"""Readout over valid nodes."""

from __future__ import annotations

import pytest
import torch

from hierpool import RaggedGraph
from hierpool.nn import readout


@pytest.mark.parametrize("kind", ["max", "mean", "sum"])
def test_each_graph_on_its_own(kind: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 5, 4)
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 0, 1, 0], [0, 0, 0, 0, 0]])
    reduce = {"max": lambda t: t.amax(0), "mean": lambda t: t.mean(0), "sum": lambda t: t.sum(0)}[kind]
    poisoned = torch.where(mask[..., None] != 0, x, torch.nan)
    got = readout(poisoned, mask, kind)
    for b in range(2):
        torch.testing.assert_close(got[b], reduce(x[b][mask[b] != 0]))
    assert got[2].eq(0).all()
    torch.testing.assert_close(readout(x, None, kind)[1], reduce(x[1]))
    assert torch.equal(readout(x[:, :0], None, kind), torch.zeros(3, 4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_means_of_sums_that_float16_cannot_hold(dtype: torch.dtype) -> None:
    n = 1000
    graph = RaggedGraph.from_edge_index(torch.zeros(2, 0, dtype=torch.int64), n)
    x = torch.full((n, 2), 100.0, dtype=dtype)
    expected = torch.full((1, 2), 100.0, dtype=dtype)
    torch.testing.assert_close(readout(x, None, "mean", graph=graph), expected)
    torch.testing.assert_close(readout(x[None], torch.ones(1, n), "mean"), expected)


def test_unknown_kind() -> None:
    with pytest.raises(ValueError, match=r"kind must be one of .* got 'median'"):
        readout(torch.ones(1, 2, 3), kind="median")
