"""Arguments that all graphs share, of every layer for padded batches."""

from __future__ import annotations

import pytest
import torch

import hierpool.nn
from hierpool.integrations.pyg.patching import NAMES
from hierpool.nn import SAGEConv, SAGEStack, SelectOutput, select_valid
from tests.support.public import Example, examples
from tests.support.shared import SIZES, assert_shared_is_expanded

NN = {*hierpool.nn.__all__, "DiffPoolNet"}
# Those with a counterpart in PyTorch Geometric have its shapes of results: tests/integrations/test_pyg_shared.py. A
# matrix remains one in select_valid, and lift takes the pooled features of each graph.
OTHERS = {*NAMES, "select_valid", "lift"}
LAYERS = [one for one in examples() if one.name in NN - OTHERS and not one.is_sparse]
POOLERS = [example for example in LAYERS if example.is_pooler]


@pytest.mark.parametrize("example", LAYERS, ids=str)
def test_results_and_gradients_are_those_of_copies(example: Example) -> None:
    assert_shared_is_expanded(example, example.make(SIZES))


@pytest.mark.parametrize("example", POOLERS, ids=str)
def test_of_logits_and_features_of_the_assignment(example: Example) -> None:
    random = torch.Generator().manual_seed(4)
    b, n, f = SIZES.b, SIZES.n, SIZES.f
    for name, width in (("logits", 3), ("assign_x", f)):
        more = {name: torch.randn(b, n, width, generator=random, dtype=torch.float64)}
        assert_shared_is_expanded(example, example.make(SIZES), more)


@pytest.mark.parametrize("example", POOLERS, ids=str)
def test_a_fixed_assignment(example: Example) -> None:
    pooler, given = example.make(SIZES), example.arguments(SIZES)
    clusters = torch.arange(SIZES.n) % 3
    found = [
        pooler(
            **given, so=SelectOutput.from_clusters(clusters if shape is None else clusters.expand(shape), 3)
        )
        for shape in (None, (1, SIZES.n), (SIZES.b, SIZES.n))
    ]
    for other in found[:2]:
        torch.testing.assert_close(
            (other.x, other.adj, other.loss), (found[2].x, found[2].adj, found[2].loss)
        )


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_entries_that_no_graph_uses_are_not_read(poison: float) -> None:
    torch.manual_seed(0)
    x, adj = torch.randn(3, 6, 4), torch.rand(6, 6)
    mask = torch.arange(6) < torch.tensor([4, 5, 3])[:, None]
    bad = adj.clone()
    bad[5] = bad[:, 5] = poison
    for layer in (SAGEConv(4, 5), SAGEStack(4, 5, 3)):
        assert torch.equal(layer(x, bad, mask), layer(x, adj, mask))


def test_one_matrix_remains_one() -> None:
    """Also if it is given as an expanded view; entries of a pair of nodes that no graph has are 0."""
    mask = torch.tensor([[True, True, False], [False, True, True]])
    for adj in (torch.ones(3, 3), torch.ones(1, 3, 3), torch.ones(1, 3, 3).expand(2, 3, 3)):
        x, found, valid = select_valid(torch.ones(2, 3, 4), adj, mask)
        assert torch.equal(found, torch.tensor([[[1.0, 1, 0], [1, 1, 1], [0, 1, 1]]]))
        assert torch.equal(valid, mask)
        assert x.sum() == 16
