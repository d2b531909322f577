"""Estimates of memory: they follow sizes, agree with what a fresh process takes, and are limits."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from hierpool.data import GraphDataset
from hierpool.training import make_splits
from hierpool.training.memory import (
    GIB,
    Network,
    estimate,
    largest_batches,
    peak_memory_bytes,
    resident_memory_bytes,
    step_bytes,
)
from tests.support.paths import make_graphs
from tests.support.training import make_config, make_dataset

SPARSE = Network(8, 64, 64, 3, dense=False, foreign=False, mixed=False, relative=False, soft=True, stacks=2)
# Trains on one batch, and prints by how much the resident set grew beyond that of a small batch, and the estimate.
MEASURE = """
import sys
from hierpool.training.loop import TrainConfig, build_model, make_loader, make_optimizer, train_epoch
from hierpool.training.memory import Network, count_of, peak_memory_bytes, step_bytes
from tests.training.test_memory import path_dataset
import torch
torch.set_num_threads(1)
sizes, dense = [int(n) for n in sys.argv[1].split(",")], sys.argv[2] == "dense"
config = TrainConfig(dense=dense, ratio=0.25, pooler=sys.argv[3])
dataset = path_dataset([4, *sizes])
model = build_model(config, dataset)
optimizer = make_optimizer(config, model)
for indices in (torch.tensor([0]), torch.arange(1, len(sizes) + 1)):
    before = peak_memory_bytes()
    train_epoch(model, optimizer, make_loader(config, dataset, indices), 1, config)
print(peak_memory_bytes() - before)
print(step_bytes(sizes, Network.of(config, dataset), [count_of(pool, config) for pool in model.pools]))
"""


def path_dataset(sizes: list[int]) -> GraphDataset:
    return GraphDataset("PATHS", tuple(make_graphs(sizes)), len(sizes), "index", "here", "0123")


def fixed(clusters: int, nodes: int) -> int:
    return clusters


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is measured on Linux only")
@pytest.mark.parametrize(
    ("sizes", "form", "pooler"),
    [
        ([1200] + [200] * 19, "sparse", "diff"),
        ([800] * 6, "dense", "diff"),
        ([1200] + [200] * 19, "sparse", "mincut"),
        ([6000] + [1000] * 19, "sparse", "topk"),
        ([6000] + [1000] * 19, "sparse", "graclus"),
    ],
)
def test_a_step_takes_the_estimated_memory(sizes: list[int], form: str, pooler: str) -> None:
    command = [sys.executable, "-c", MEASURE, ",".join(map(str, sizes)), form, pooler]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True, timeout=120
    )
    grown, estimated = map(int, done.stdout.split())
    assert 0.8 < estimated / grown < 1.3


def test_the_estimate_follows_the_sizes_of_the_batch_and_its_levels() -> None:
    ten = [partial(fixed, 10)]
    one, two = (step_bytes([100] * count, SPARSE, ten) for count in (1, 2))
    assert two == pytest.approx(2 * one)
    assert step_bytes([100, 300], SPARSE, ten) == step_bytes([200, 200], SPARSE, ten)
    dense = SPARSE._replace(dense=True)
    assert (
        step_bytes([200, 200], dense, ten)
        < step_bytes([100, 300], dense, ten)
        < step_bytes([300, 300], dense, ten)
    )
    assert step_bytes([200, 200], dense, ten) > step_bytes([200, 200], SPARSE, ten)
    assert step_bytes([100], SPARSE, ten, backward=False) < 0.7 * one
    assert 1.2 * one < step_bytes([100], SPARSE._replace(mixed=True), ten) < 1.5 * one
    # Clusters that are a part of each graph: later levels are padded to the largest of them.
    quarter = [lambda n: -(-n // 4)] * 2
    mixed = step_bytes([40] * 31 + [4000], SPARSE, quarter)
    assert mixed > 3 * step_bytes([40] * 31, SPARSE, quarter) + step_bytes([4000], SPARSE, quarter)
    assert mixed < step_bytes([40] * 31 + [4000], SPARSE, [partial(fixed, 1000), partial(fixed, 250)])


def test_only_largest_batches_are_compared() -> None:
    batches = [[1, 2], [3, 3], [5], [1, 1, 1], [4], [3, 3]]
    assert largest_batches(batches) == [[3, 3], [5], [1, 1, 1]]


def test_all_batches_of_a_run_count() -> None:
    sizes = [20] * 30 + [900]
    dataset = path_dataset(sizes)
    config = make_config(batch_size=4)
    splits = make_splits(make_config(folds=5), make_dataset(31))
    found = estimate(config, dataset, splits, before=GIB)
    assert sorted(found.batch) == [20, 20, 20, 900]
    limited = estimate(make_config(batch_size=4, max_pairs_per_batch=1_000_000), dataset, splits, before=GIB)
    assert limited.step < found.step
    assert found.total > GIB + GIB // 4 + found.step
    state = torch.get_rng_state()
    estimate(config, dataset, splits)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_estimate_above_the_limit_is_refused() -> None:
    dataset = make_dataset()
    found = estimate(make_config(), dataset, make_splits(make_config(), dataset), before=GIB)
    found.check(None)
    found.check(1.3)
    with pytest.raises(
        ValueError,
        match=r"memory-limit is 1\.2 GiB, but training takes about 1\.25 GiB .* 8 graphs of at most 8 nodes, .*; "
        "a smaller --batch-size, --max-nodes-per-batch or --ratio takes less",
    ):
        found.check(1.2)


def test_the_peak_is_measured() -> None:
    before, now = peak_memory_bytes(), resident_memory_bytes()
    assert now <= before
    held = torch.ones((before - now + (1 << 26)) // 4)
    assert peak_memory_bytes() > max(before, held.nbytes)
    assert peak_memory_bytes() < before + held.nbytes + (1 << 28)
