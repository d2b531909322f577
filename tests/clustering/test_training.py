"""Training the assignment network: its losses, that they find communities, and that runs repeat bit for bit."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hierpool import RaggedGraph, metrics, soft_pool
from hierpool.clustering import AssignmentNet, ClusterConfig, NodeInputs, cluster, node_inputs, plan
from hierpool.clustering.memory import GIB, Size, peak_memory_bytes
from hierpool.clustering.objective import OBJECTIVES, link_angle
from hierpool.data import stochastic_block_model
from hierpool.training import CheckpointError

SMALL = ClusterConfig(
    k=6, epochs=8, batch_nodes=1000, hidden_channels=16, feature_channels=16, products=8, checkpoint_every=5
)


@pytest.fixture(scope="module")
def planted() -> tuple[RaggedGraph, Tensor, NodeInputs]:
    graph, labels = stochastic_block_model(3000, 6, mean_degree=12, mixing=0.2, seed=1)
    return graph, labels, node_inputs(graph, None, channels=16, products=8, seed=0)


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("loss", OBJECTIVES)
@pytest.mark.parametrize("batch_nodes", [1000, 3000])
def test_the_loss_finds_planted_communities(
    planted: tuple[RaggedGraph, Tensor, NodeInputs], loss: str, batch_nodes: int
) -> None:
    """Better than the seeds that it starts from: the loss tells the communities apart."""
    graph, labels, inputs = planted
    config = replace(SMALL, loss=loss, batch_nodes=batch_nodes, epochs=40)
    result = cluster(config, graph, inputs)
    found = metrics.normalized_mutual_information(result.net.assign(inputs)[0], labels)
    torch.manual_seed(0)
    untrained = AssignmentNet(16, 16, 6)
    untrained.start_from_seeds(inputs, torch.Generator().manual_seed(0))
    before = metrics.normalized_mutual_information(untrained.assign(inputs)[0], labels)
    assert found > 0.96
    assert found > before + 0.03
    assert result.history[-1]["loss"] < result.history[0]["loss"]


def test_a_run_repeats_and_resumes_bit_for_bit(
    planted: tuple[RaggedGraph, Tensor, NodeInputs], tmp_path: Path
) -> None:
    graph, _, inputs = planted
    whole = cluster(SMALL, graph, inputs)

    class Interrupted(Exception):
        pass

    def stop(row: dict[str, float]) -> None:
        if row["step"] == 13:  # in the middle of an epoch of three, after the checkpoint of step 10
            raise Interrupted

    with pytest.raises(Interrupted):
        cluster(SMALL, graph, inputs, folder=tmp_path, on_step=stop)
    torch.manual_seed(12345)  # what happens in between has no say
    seen: list[float] = []
    resumed = cluster(
        SMALL, graph, inputs, folder=tmp_path, resume=True, on_step=lambda row: seen.append(row["step"])
    )
    assert seen == list(range(11, 25))
    assert same_weights(resumed.net, whole.net)
    values = [[{**row, "seconds": 0} for row in run.history] for run in (resumed, whole)]
    assert values[0] == values[1]
    with open(tmp_path / "log.csv", newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == [str(float(step)) for step in range(1, 25)]
    assert same_weights(cluster(SMALL, graph, inputs, folder=tmp_path, resume=True).net, whole.net)
    assert not same_weights(cluster(replace(SMALL, seed=1), graph, inputs).net, whole.net)


def test_checkpoints_of_other_runs_are_refused(
    planted: tuple[RaggedGraph, Tensor, NodeInputs], tmp_path: Path
) -> None:
    graph, _, inputs = planted
    config = replace(SMALL, epochs=1)
    cluster(config, graph, inputs, folder=tmp_path, fingerprint="a")
    with pytest.raises(CheckpointError, match="belongs to another run: fingerprint 'a' there, 'b' here"):
        cluster(config, graph, inputs, folder=tmp_path, fingerprint="b", resume=True)
    with pytest.raises(CheckpointError, match="belongs to another run: k 6 there, 5 here"):
        cluster(replace(config, k=5), graph, inputs, folder=tmp_path, fingerprint="a", resume=True)


def test_the_link_angle_is_the_best_scaled_link_loss() -> None:
    torch.manual_seed(0)
    adj = torch.rand(12, 12, dtype=torch.float64).round()
    adj = torch.maximum(adj, adj.t())
    logits = torch.randn(12, 3, dtype=torch.float64)
    record = soft_pool(torch.zeros(12, 0).double(), RaggedGraph.from_dense(adj), logits)
    s = logits.softmax(1)
    product = s @ s.t()
    scale = (adj * product).sum() / product.square().sum()
    best = (adj - scale * product).square().sum() / adj.square().sum()
    torch.testing.assert_close(1 - torch.exp(-2 * link_angle(record)), best, rtol=1e-12, atol=0)


def test_a_batch_without_edges_changes_nothing_by_its_fit() -> None:
    graph = RaggedGraph.from_edge_index(torch.zeros(2, 0, dtype=torch.int64), 4)
    for objective in OBJECTIVES.values():
        logits = torch.randn(4, 3, requires_grad=True)
        fit = objective.terms[0](soft_pool(torch.zeros(4, 0), graph, logits, **objective.options))
        assert fit.item() == 0.0
        fit.backward()
        assert logits.grad is not None
        assert logits.grad.eq(0).all()


def test_seeds_are_far_apart() -> None:
    directions = torch.eye(8).repeat_interleave(50, 0)
    net = AssignmentNet(8, 8, 8)
    with torch.no_grad():
        net.near.weight.copy_(torch.eye(8))
        net.near.bias.zero_()
        net.far.weight.zero_()
    inputs = NodeInputs(directions, directions)
    net.start_from_seeds(inputs, torch.Generator().manual_seed(0))
    clusters, probability = net.assign(inputs, rows=33)
    assert len(clusters.unique()) == 8
    assert probability.min() > 0.5
    one = AssignmentNet(8, 8, 3)
    same = NodeInputs(torch.ones(5, 8), torch.ones(5, 8))
    one.start_from_seeds(same, torch.Generator().manual_seed(0))  # fewer different nodes than clusters
    assert one(same).isfinite().all()


def test_a_plan_keeps_within_the_limit() -> None:
    size = Size(1_000_000, 10_000_000, False, 0)
    config, free = plan(ClusterConfig(k=100), size, None, before=GIB)
    assert (config.batch_nodes, config.epochs, config.feature_channels) == (32_768, 5, 128)
    assert 2 * GIB < free.total < 4 * GIB
    assert plan(ClusterConfig(k=100), size, free.total / GIB + 0.01, before=GIB) == (config, free)
    large = ClusterConfig(k=100, batch_nodes=1_000_000)
    _, whole = plan(large, size, None, before=GIB)
    assert whole.total > 4 * GIB
    with pytest.raises(
        ValueError, match=r"memory-limit is 4 GiB, but with batches of 1000000 nodes this takes 5\."
    ):
        plan(large, size, 4.0, before=GIB)
    with pytest.raises(ValueError, match="memory-limit is 1 GiB, but with batches of 1024 nodes this takes"):
        plan(ClusterConfig(k=100), size, 1.0, before=GIB)
    tight, less = plan(ClusterConfig(k=2000, feature_channels=64), size, 2.95, before=GIB)
    assert 16_000 <= tight.batch_nodes < 32_768
    assert less.total <= 2.95 * GIB


def test_the_peak_is_measured() -> None:
    before = peak_memory_bytes()
    held = torch.ones(1 << 28)  # 1 GiB, more than the tests before it held at once
    assert peak_memory_bytes() > max(before, held.nbytes)
    assert peak_memory_bytes() < before + held.nbytes + (1 << 28)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": -1}, "k must be at least 0, got -1"),
        ({"checkpoint_every": 0}, "checkpoint_every must be at least 1, got 0"),
        ({"lr": 0.0}, "lr must be positive, got 0.0"),
        ({"weight": -1.0}, "weight must not be negative, got -1.0"),
        ({"lr": float("nan")}, "lr must be positive, got nan"),
    ],
)
def test_bad_configurations(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClusterConfig(**options)  # type: ignore[arg-type]
