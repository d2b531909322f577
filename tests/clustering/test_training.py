"""Training of the assignment network: losses find communities, and runs are repeatable bit for bit."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hierpool import RaggedGraph, metrics, soft_pool
from hierpool.clustering import AssignmentNet, ClusterConfig, NodeInputs, cluster, node_inputs
from hierpool.clustering.memory import GraphSize, resolve
from hierpool.clustering.objective import OBJECTIVES, scaled_link_loss
from hierpool.data import stochastic_block_model
from hierpool.training import CheckpointError
from hierpool.training.memory import GIB
from tests.support.training import same_weights, without_times

Planted = tuple[RaggedGraph, Tensor, NodeInputs]
SMALL = ClusterConfig(
    k=6, epochs=8, batch_nodes=1000, hidden_channels=16, feature_channels=16, products=8, checkpoint_every=5
)


@pytest.fixture(scope="module")
def planted() -> Planted:
    graph, labels = stochastic_block_model(3000, 6, mean_degree=12, mixing=0.2, seed=1)
    return graph, labels, node_inputs(graph, None, channels=16, products=8, seed=0)


@pytest.mark.parametrize("loss", OBJECTIVES)
@pytest.mark.parametrize("batch_nodes", [1000, 3000])
def test_the_loss_finds_planted_communities(planted: Planted, loss: str, batch_nodes: int) -> None:
    """The result is better than the initial assignment."""
    graph, labels, inputs = planted
    config = replace(SMALL, loss=loss, batch_nodes=batch_nodes, epochs=40)
    result = cluster(config, graph, inputs)
    found = metrics.normalized_mutual_information(result.net.assign(inputs)[0], labels)
    torch.manual_seed(0)
    untrained = AssignmentNet(16, 16, 6)
    untrained.initialize_head(inputs, torch.Generator().manual_seed(0))
    before = metrics.normalized_mutual_information(untrained.assign(inputs)[0], labels)
    assert found > 0.96
    assert found > before + 0.03
    assert result.history[-1]["loss"] < result.history[0]["loss"]


def test_a_run_repeats_and_resumes_bit_for_bit(planted: Planted, tmp_path: Path) -> None:
    graph, _, inputs = planted
    whole = cluster(SMALL, graph, inputs)

    def stop(row: dict[str, float]) -> None:
        if row["step"] == 13:  # in the middle of an epoch of three, after the checkpoint of step 10
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cluster(SMALL, graph, inputs, folder=tmp_path, on_step=stop)
    torch.manual_seed(12345)  # the global generator is not used
    steps: list[float] = []
    resumed = cluster(
        SMALL, graph, inputs, folder=tmp_path, resume=True, on_step=lambda row: steps.append(row["step"])
    )
    assert steps == list(range(11, 25))
    assert same_weights(resumed.net, whole.net)
    assert without_times(resumed.history) == without_times(whole.history)
    with open(tmp_path / "log.csv", newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == [str(float(step)) for step in range(1, 25)]
    assert same_weights(cluster(SMALL, graph, inputs, folder=tmp_path, resume=True).net, whole.net)
    assert not same_weights(cluster(replace(SMALL, seed=1), graph, inputs).net, whole.net)


def test_checkpoints_of_other_runs_are_refused(planted: Planted, tmp_path: Path) -> None:
    graph, _, inputs = planted
    config = replace(SMALL, epochs=1)
    cluster(config, graph, inputs, folder=tmp_path, fingerprint="a")
    with pytest.raises(
        CheckpointError,
        match="another run: fingerprint is 'a' in the checkpoint and 'b' in this run",
    ):
        cluster(config, graph, inputs, folder=tmp_path, fingerprint="b", resume=True)
    with pytest.raises(
        CheckpointError, match="belongs to another run: k is 6 in the checkpoint and 5 in this run"
    ):
        cluster(replace(config, k=5), graph, inputs, folder=tmp_path, fingerprint="a", resume=True)


def test_the_scaled_link_loss_has_the_best_scale() -> None:
    torch.manual_seed(0)
    adj = torch.rand(12, 12, dtype=torch.float64).round()
    adj = torch.maximum(adj, adj.t())
    logits = torch.randn(12, 3, dtype=torch.float64)
    record = soft_pool(torch.zeros(12, 0).double(), RaggedGraph.from_dense(adj), logits)
    s = logits.softmax(1)
    product = s @ s.t()
    scale = (adj * product).sum() / product.square().sum()
    best = (adj - scale * product).square().sum() / adj.square().sum()
    torch.testing.assert_close(1 - torch.exp(-2 * scaled_link_loss(record)), best, rtol=1e-12, atol=0)


def test_a_batch_without_edges_has_no_gradient_of_the_fit() -> None:
    graph = RaggedGraph.from_edge_index(torch.zeros(2, 0, dtype=torch.int64), 4)
    for objective in OBJECTIVES.values():
        logits = torch.randn(4, 3, requires_grad=True)
        fit = objective.terms[0](soft_pool(torch.zeros(4, 0), graph, logits, **objective.options))
        assert fit.item() == 0.0
        fit.backward()
        assert logits.grad is not None
        assert logits.grad.eq(0).all()


def test_initial_clusters_are_centred_at_different_nodes() -> None:
    directions = torch.eye(8).repeat_interleave(50, 0)
    net = AssignmentNet(8, 8, 8)
    with torch.no_grad():
        net.lin_features.weight.copy_(torch.eye(8))
        net.lin_features.bias.zero_()
        net.lin_propagated.weight.zero_()
    inputs = NodeInputs(directions, directions)
    net.initialize_head(inputs, torch.Generator().manual_seed(0))
    clusters, probability = net.assign(inputs, rows=33)
    assert len(clusters.unique()) == 8
    assert probability.min() > 0.5
    one = AssignmentNet(8, 8, 3)
    same = NodeInputs(torch.ones(5, 8), torch.ones(5, 8))
    one.initialize_head(same, torch.Generator().manual_seed(0))  # fewer different nodes than clusters
    assert one(same).isfinite().all()


def test_a_resolved_configuration_is_within_the_limit() -> None:
    size = GraphSize(1_000_000, 10_000_000, False, 0)
    config, free = resolve(ClusterConfig(k=100), size, None, before=GIB)
    assert (config.batch_nodes, config.epochs, config.feature_channels) == (32_768, 5, 128)
    assert 2 * GIB < free.total < 4 * GIB
    assert resolve(ClusterConfig(k=100), size, free.total / GIB + 0.01, before=GIB) == (config, free)
    large = ClusterConfig(k=100, batch_nodes=1_000_000)
    _, whole = resolve(large, size, None, before=GIB)
    assert whole.total > 4 * GIB
    with pytest.raises(
        ValueError, match=r"memory-limit is 4 GiB, but a clustering in batches of 1000000 nodes takes 5\."
    ):
        resolve(large, size, 4.0, before=GIB)
    with pytest.raises(
        ValueError, match="memory-limit is 1 GiB, but a clustering in batches of 1024 nodes takes"
    ):
        resolve(ClusterConfig(k=100), size, 1.0, before=GIB)
    tight, less = resolve(ClusterConfig(k=2000, feature_channels=64), size, 2.95, before=GIB)
    assert 16_000 <= tight.batch_nodes < 32_768
    assert less.total <= 2.95 * GIB


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
