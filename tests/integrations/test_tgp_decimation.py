"""NDP and MaxCut of torch-geometric-pool with the patch and without."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool import RaggedGraph
from hierpool.integrations.pyg.selecting import topk
from hierpool.integrations.tgp import patch
from hierpool.selection import components
from tests.integrations.test_tgp_selecting import F, call, drawn
from tests.support.tgp_poolers import poolers, unpatched

__all__ = ["unpatched"]  # a fixture

DRAWS = 200


def matrix(edges: Tensor, weight: Tensor | None, n: int) -> Tensor:
    weight = torch.ones(edges.size(1)) if weight is None else weight
    return torch.zeros(n, n, dtype=torch.float64).index_put(tuple(edges), weight.double(), accumulate=True)


@pytest.mark.filterwarnings(
    "ignore:Laplacian not provided", "ignore:.*spsolve.*", "ignore:.*Matrix is exactly"
)
def test_elimination_gives_the_same_graph() -> None:
    """Of nodes that either library keeps, whatever selects them."""
    from tgp.connect import KronConnect
    from tgp.select import SelectOutput

    connect = KronConnect()
    for seed in range(DRAWS):
        x, edges, weight, _ = drawn(seed)
        edges, weight = edges[:, edges[0] != edges[1]], weight[edges[0] != edges[1]]
        n = len(x)
        generator = torch.Generator().manual_seed(seed)
        kept = torch.randperm(n, generator=generator)[: 2 + seed % (n - 2)].sort().values
        so = SelectOutput(
            node_index=kept, num_nodes=n, cluster_index=torch.arange(len(kept)), num_supernodes=len(kept)
        )
        given = weight if seed % 3 else None
        theirs = connect(edges, so, given)
        with patch():
            ours = connect(edges, so, given)
        # Theirs solves in float32, with a ridge of 1e-6 for parts without a kept neighbour.
        torch.testing.assert_close(
            matrix(*ours, len(kept)), matrix(*theirs, len(kept)), rtol=1e-3, atol=0.011
        )
        close = (matrix(*ours, len(kept)) - matrix(*theirs, len(kept))).abs() > 1e-3
        assert close.double().mean() < 0.05  # weights at the threshold


def test_ndp_keeps_half_of_every_graph_and_lifts() -> None:
    pooler = poolers.NDPPooling()
    for seed in range(40):
        x, edges, weight, batch = drawn(seed)
        with patch():
            out = call(pooler, seed)
            torch.manual_seed(seed + 1)
            again = pooler(x, edges, edge_weight=weight, batch=batch)
            lifted = pooler(x=out.x, so=out.so, lifting=True)
        assert torch.equal(out.so.node_index, again.so.node_index)  # theirs draws
        assert out.batch.unique().tolist() == [0, 1, 2]
        torch.testing.assert_close(out.x, x[out.so.node_index])
        assert torch.equal(lifted[out.so.node_index], out.x)
        assert torch.equal(
            batch[out.so.node_index][out.edge_index[0]], batch[out.so.node_index][out.edge_index[1]]
        )
        side = torch.full((len(x),), -1.0, dtype=torch.float64)
        side[out.so.node_index] = 1
        cut = weight[side[edges[0]] != side[edges[1]]].sum()
        assert cut >= 0.5 * weight[edges[0] != edges[1]].sum()
    with patch():
        order = torch.randperm(len(x))
        mixed = pooler(x[order], order.argsort()[edges], edge_weight=weight, batch=batch[order])
    of = mixed.batch[mixed.edge_index]
    assert torch.equal(of[0], of[1])


@pytest.mark.parametrize(
    "options", [{}, {"degree_norm": True, "connect_red_op": "max"}, {"assign_all_nodes": False}]
)
def test_maxcut_gives_the_same_results(options: dict[str, Any]) -> None:
    """Where no node is out of reach, which they assign at random."""
    torch.manual_seed(0)
    pooler = poolers.MaxCutPooling(
        F, mp_units=[8, 8], mlp_units=[4], mlp_act="tanh", max_iter=30, **options
    ).double()
    whole = options.get("assign_all_nodes", True)
    compared = 0

    def results(seed: int) -> list[Any]:
        x, edges, weight, batch = drawn(seed)
        leaf, weights = x.requires_grad_(), weight.requires_grad_()
        out = pooler(leaf, edges, edge_weight=weights, batch=batch)
        total = out.x.square().sum() + out.loss["maxcut_loss"]
        total = total + out.edge_weight.square().sum() if whole else total
        grads = torch.autograd.grad(total, [leaf, weights, *pooler.parameters()])
        of_edges = [out.edge_index, out.edge_weight] if whole else []  # which they number by other nodes
        so = out.so.scores, out.so.cluster_index, out.so.s.coalesce().values()
        return [*so, out.x, *of_edges, out.batch, out.loss, *grads]

    draws = DRAWS if not options else 40
    for seed in range(draws):
        theirs = results(seed)
        _, edges, _, batch = drawn(seed)
        part = components(RaggedGraph.from_edge_index(edges, batch.numel()))
        if whole and not torch.isin(part, part[topk(theirs[0], 0.5, batch)]).all():
            continue
        with patch():
            torch.testing.assert_close(results(seed), theirs)
        compared += 1
    assert compared > draws // 4


def path(n: int) -> Tensor:
    ends = torch.stack([torch.arange(n - 1), torch.arange(1, n)])
    return torch.cat([ends, ends.flip(0)], 1)


def nodes_kept(edges: Tensor, n: int, seed: int, **options: Any) -> list[int]:
    torch.manual_seed(seed)
    found: list[int] = poolers.NDPPooling()(torch.ones(n, 1), edges, **options).so.node_index.tolist()
    return found


def test_the_same_nodes_are_kept_each_time() -> None:
    triangle = torch.tensor([[0, 1, 2, 1, 2, 0], [1, 2, 0, 0, 1, 2]])
    assert len({tuple(nodes_kept(triangle, 3, seed)) for seed in range(20)}) > 1
    with patch():
        assert len({tuple(nodes_kept(triangle, 3, seed)) for seed in range(20)}) == 1
        assert nodes_kept(torch.zeros(2, 0, dtype=torch.int64), 4, 0) == [0, 1, 2, 3]


def test_edges_of_a_mixed_batch_stay_in_their_graphs() -> None:
    edges = torch.cat([path(7), path(5) + 7], 1)

    def crossing(seed: int) -> bool:
        torch.manual_seed(seed)
        place = torch.randperm(12)
        batch = torch.empty(12, dtype=torch.int64).index_copy_(0, place, (torch.arange(12) > 6).long())
        out = poolers.NDPPooling()(torch.ones(12, 1), place[edges], batch=batch)
        return not torch.equal(*out.batch[out.edge_index])

    assert any(map(crossing, range(10)))
    with patch():
        assert not any(map(crossing, range(10)))


@pytest.mark.filterwarnings("ignore:Laplacian not provided", "ignore:.*spsolve.*")
def test_weights_of_an_elimination_keep_their_dtype() -> None:
    from tgp.connect import KronConnect
    from tgp.select import SelectOutput

    so = SelectOutput(
        node_index=torch.tensor([0, 2, 4]), num_nodes=5, cluster_index=torch.arange(3), num_supernodes=3
    )
    weight = torch.ones(8, dtype=torch.float64)
    theirs = KronConnect()(path(5), so, weight)[1]
    negative = KronConnect()(path(5), so, -weight)[1]
    assert negative.numel()
    with patch():
        ours = KronConnect()(path(5), so, weight)[1]
        with pytest.raises(ValueError, match="weights that are not negative"):
            KronConnect()(path(5), so, -weight)
    assert theirs.dtype is torch.float32
    assert ours.dtype is torch.float64
    torch.testing.assert_close(ours.float(), theirs)


def test_nodes_out_of_reach_and_repeated_edges() -> None:
    from tgp.utils.ops import get_assignments as theirs

    from hierpool.integrations.tgp.selecting import get_assignments as ours

    kept, far = torch.tensor([0, 1, 2]), torch.tensor([[0], [3]])
    drawn_ = set()
    for seed in range(20):
        torch.manual_seed(seed)
        drawn_.add(int(theirs(kept, far, batch=torch.zeros(9, dtype=torch.int64))[1, 8]))
        assert torch.equal(
            ours(kept, far, batch=torch.zeros(9, dtype=torch.int64)), ours(kept, far, num_nodes=9)
        )
    assert len(drawn_) > 1
    several = torch.tensor([[0, 1, 1], [2, 2, 2]])
    assert theirs(torch.tensor([0, 1]), several)[1].tolist() == [0, 1, 1]
    assert ours(torch.tensor([0, 1]), several)[1].tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match="edge_index must be provided"):
        ours(kept)
    with pytest.raises(ValueError, match="num_nodes, batch or edge_index must be given"):
        ours(kept, max_iter=0)
    assert ours(kept, max_iter=0, num_nodes=4)[1, :3].tolist() == [0, 1, 2]
