"""Training: runs are repeatable and resumable bit for bit, and test graphs are used once."""

from __future__ import annotations

import csv
import math
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch

from hierpool import training
from hierpool.data import cross_validation, holdout
from hierpool.training import FoldResult, TrainConfig, loop, train_fold
from hierpool.training.checkpoint import CheckpointError
from hierpool.training.config import MAX_SEED, POOLER_NAMES
from hierpool.training.tensorboard import TensorBoardLog
from tests.support.training import make_config, make_dataset, same_weights, without_times

DATASET = make_dataset()
SPLIT = holdout(DATASET.labels, 0)


@pytest.fixture(scope="module")
def whole() -> FoldResult:
    """A run of four epochs."""
    return train_fold(make_config(), DATASET, SPLIT)


def test_learns_to_tell_rings_from_paths() -> None:
    dataset = make_dataset(60)
    result = train_fold(make_config(epochs=15), dataset, holdout(dataset.labels, 0))
    assert result.history[-1]["task_loss"] < 0.5 * result.history[0]["task_loss"]
    assert result.test_accuracy == 1.0


def test_the_seed_and_the_fold_determine_a_run(whole: FoldResult) -> None:
    again = train_fold(make_config(), DATASET, SPLIT)
    assert same_weights(whole.model, again.model)
    assert without_times(whole.history) == without_times(again.history)
    assert not same_weights(whole.model, train_fold(make_config(seed=1), DATASET, SPLIT).model)
    assert not same_weights(whole.model, train_fold(make_config(), DATASET, SPLIT, fold=1).model)


def test_a_resumed_run_equals_the_uninterrupted_run(whole: FoldResult, tmp_path: Path) -> None:
    def stop(row: dict[str, float]) -> None:
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_fold(make_config(), DATASET, SPLIT, folder=tmp_path, on_epoch=stop)
    torch.manual_seed(12345)  # the global generator is restored
    epochs: list[float] = []
    resumed = train_fold(
        make_config(),
        DATASET,
        SPLIT,
        folder=tmp_path,
        resume=True,
        on_epoch=lambda row: epochs.append(row["epoch"]),
    )
    assert epochs == [3, 4]
    assert same_weights(resumed.model, whole.model)
    assert without_times(resumed.history) == without_times(whole.history)
    assert resumed[1:5] == whole[1:5]
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert float(rows[3]["task_loss"]) == whole.history[3]["task_loss"]


def test_epoch_is_chosen_on_validation_and_test_graphs_are_used_once(monkeypatch: pytest.MonkeyPatch) -> None:
    split = cross_validation(DATASET.labels, 5, 0)[0]
    test_graphs = DATASET.select(split.test)
    uses: list[bool] = []  # of test graphs, for each evaluation
    real = loop.evaluate

    def evaluate(model: torch.nn.Module, loader: Any, *processes: Any) -> tuple[float, float]:
        uses.append(any(graph is test for graph in loader.graphs for test in test_graphs))
        return real(model, loader, *processes)

    monkeypatch.setattr(loop, "evaluate", evaluate)
    result = train_fold(make_config(epochs=6), DATASET, split)
    assert uses == [False] * 6 + [True]
    merit = [(row["validation_accuracy"], -row["validation_loss"]) for row in result.history]
    assert result.best_epoch == merit.index(max(merit)) + 1
    assert result.validation_accuracy == max(merit)[0]


def test_pyg_in_place_of_ours_trains_to_the_same_numbers() -> None:
    pytest.importorskip("torch_geometric", reason="torch_geometric (extra: train) is not installed")
    ours, theirs = (
        train_fold(make_config(pool=pool, ratio_of="largest", epochs=2), DATASET, SPLIT)
        for pool in ("hierpool", "pyg")
    )
    for a, b in zip(without_times(ours.history), without_times(theirs.history), strict=True):
        assert a == pytest.approx(b, rel=1e-3)


def test_dense_and_sparse_train_to_the_same_numbers() -> None:
    sparse, dense = (
        train_fold(make_config(dense=dense, epochs=2), DATASET, SPLIT) for dense in (False, True)
    )
    for a, b in zip(without_times(sparse.history), without_times(dense.history), strict=True):
        assert a == pytest.approx(b, rel=1e-3)
    # The parameters of the sparse network give the same accuracy on dense batches.
    loader = loop.make_loader(make_config(dense=True), DATASET, SPLIT.test)
    accuracy, loss = loop.evaluate(sparse.model, loader)
    assert (accuracy, loss) == pytest.approx((sparse.test_accuracy, sparse.test_loss), rel=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"lr": -1.0}, "lr must be positive, got -1.0"),
        ({"link_weight": -1.0}, "link_weight must not be negative, got -1.0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"dtype": "float16"}, "dtype must be one of float32, bfloat16, got 'float16'"),
        ({"dtype": "bfloat16", "pool": "pyg"}, "dtype must be float32 with pool 'pyg', .*, got 'bfloat16'"),
        ({"max_nodes_per_batch": -1}, "max_nodes_per_batch must be at least 0, got -1"),
        ({"max_pairs_per_batch": -1}, "max_pairs_per_batch must be at least 0, got -1"),
        ({"hidden_channels": 0}, "hidden_channels must be at least 1, got 0"),
        ({"embedding_channels": -1}, "embedding_channels must be at least 1, got -1"),
        ({"head_channels": 0}, "head_channels must be at least 1, got 0"),
        ({"layers": 0}, "layers must be at least 1, got 0"),
        ({"levels": 0}, "levels must be at least 1, got 0"),
        ({"folds": 2}, "folds must be 0, for one split, or at least 3, got 2"),
        ({"ratio": 1.5}, r"ratio must be in \(0, 1\], got 1.5"),
        ({"ratio": float("nan")}, "ratio must not be NaN"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"dropout": float("nan")}, r"dropout must be in \[0, 1\), got nan"),
        ({"temperature": 0.0}, "temperature must be positive, got 0.0"),
        ({"seed": -1}, r"seed must be between 0 and 2\^53, got -1"),
        ({"seed": 1 << 60}, r"seed must be between 0 and 2\^53, got"),
    ],
)
def test_bad_values_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_config(**options)


def test_metrics_are_written_to_tensorboard_if_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[str, float, int]] = []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int) -> None:
            assert folder == str(tmp_path / "tensorboard")
            assert purge_step == 3  # a resumed run removes what was written after its checkpoint

        def add_scalar(self, key: str, value: float, step: int) -> None:
            written.append((key, value, step))

        def close(self) -> None:
            written.append(("closed", 0.0, 0))

    stand_in = types.ModuleType("torch.utils.tensorboard")
    stand_in.SummaryWriter = SummaryWriter
    monkeypatch.setattr(torch.utils, "tensorboard", stand_in, raising=False)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stand_in)
    for found in (None, object()):
        monkeypatch.setattr("importlib.util.find_spec", lambda name, found=found: found)
        log = TensorBoardLog(tmp_path)
        log.add({"epoch": 3, "loss": 0.5, "link_loss": 0.25})
        log.close()
    assert written == [("loss", 0.5, 3), ("link_loss", 0.25, 3), ("closed", 0.0, 0)]


def test_losses_of_weight_zero_are_not_computed() -> None:
    model = training.build_model(make_config(link_weight=0.0, entropy_weight=0.0), DATASET)
    assert model.pools[0].link_loss is None
    assert model.pools[0].entropy is False


def test_cross_entropy_link_loss() -> None:
    config = make_config(link_loss="bce", convention="original", entropy_weight=0.0)
    model = training.build_model(config, DATASET)
    assert (model.pools[0].link_loss, model.pools[0].convention) == ("bce", "original")


def test_steps_are_reported() -> None:
    calls: list[tuple[int, int, int]] = []
    train_fold(make_config(epochs=2), DATASET, SPLIT, on_step=lambda *call: calls.append(call))
    assert calls == [(epoch, done, 3) for epoch in (1, 2) for done in (1, 2, 3)]


@pytest.mark.parametrize(
    ("options", "attributes"),
    [
        ({}, {"by_size": False, "max_nodes_per_batch": None, "max_pairs_per_batch": 64_000_000}),
        ({"batches": "by-size", "max_pairs_per_batch": 0}, {"by_size": True, "max_pairs_per_batch": None}),
        ({"max_nodes_per_batch": 20}, {"max_nodes_per_batch": 20}),
    ],
)
def test_options_of_batches_reach_all_loaders(options: dict[str, Any], attributes: dict[str, Any]) -> None:
    config = make_config(**options)
    for seed in (None, 3):
        loader = loop.make_loader(config, DATASET, SPLIT.train, seed)
        assert {name: getattr(loader, name) for name in attributes} == attributes


def test_the_network_does_not_depend_on_how_graphs_are_evaluated() -> None:
    result = train_fold(make_config(epochs=1), DATASET, SPLIT)
    merits = [
        loop.evaluate(result.model, loop.make_loader(make_config(**options), DATASET, SPLIT.test))
        for options in ({}, {"batches": "by-size"}, {"max_nodes_per_batch": 10})
    ]
    for merit in merits:
        assert merit == pytest.approx((result.test_accuracy, result.test_loss), rel=1e-5)


def test_mixed_precision_keeps_weights_and_losses_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, torch.dtype]] = []
    real = loop.DiffPoolNet.forward

    def forward(self: Any, *inputs: Any) -> Any:
        out = real(self, *inputs)
        tensors = {
            "logits": out.logits,
            "x": out.levels[0].x,
            "link": out.link_loss,
            "entropy": out.entropy_loss,
        }
        seen.append({name: tensor.dtype for name, tensor in tensors.items()} if self.training else {})
        return out

    monkeypatch.setattr(loop.DiffPoolNet, "forward", forward)
    dataset = make_dataset(60)
    split = holdout(dataset.labels, 0)
    exact, mixed = (
        train_fold(make_config(epochs=15, dropout=0.0, dtype=dtype), dataset, split)
        for dtype in ("float32", "bfloat16")
    )
    losses = {"link": torch.float32, "entropy": torch.float32}
    assert {"logits": torch.float32, "x": torch.float32, **losses} in seen
    assert {"logits": torch.bfloat16, "x": torch.bfloat16, **losses} in seen
    assert all(p.dtype is torch.float32 for p in mixed.model.state_dict().values() if p.is_floating_point())
    first, same = mixed.history[0], exact.history[0]
    for name in ("task_loss", "link_loss", "entropy_loss"):
        assert first[name] == pytest.approx(same[name], rel=0.02)
        assert first[name] != same[name]
    assert mixed.test_accuracy == 1.0


def test_the_optimizer_of_mixed_precision_is_in_float32() -> None:
    config = make_config(dtype="bfloat16")
    model = training.build_model(config, DATASET)
    optimizer = loop.make_optimizer(config, model)
    loop.train_epoch(model, optimizer, loop.make_loader(config, DATASET, SPLIT.train), 1, config)
    assert {p.grad.dtype for p in model.parameters()} == {torch.float32}
    kept = [value for state in optimizer.state.values() for value in state.values()]
    assert {value.dtype for value in kept} == {torch.float32}


def _of_pooler(pooler: str, **options: Any) -> TrainConfig:
    options |= {"embedding_channels": 4 if pooler == "diff" else TrainConfig.embedding_channels}
    return make_config(pooler=pooler, levels=2, ratio=0.5, **options)


@pytest.mark.parametrize("pooler", POOLER_NAMES)
def test_every_pooler_is_trained_and_resumed(tmp_path: Path, pooler: str) -> None:
    dataset = make_dataset(40)
    split = holdout(dataset.labels, 0)
    config = _of_pooler(pooler, epochs=6)
    whole = train_fold(config, dataset, split)
    assert whole.history[-1]["task_loss"] < whole.history[0]["task_loss"]
    train_fold(_of_pooler(pooler, epochs=3), dataset, split, folder=tmp_path)
    resumed = train_fold(config, dataset, split, folder=tmp_path, resume=True)
    assert same_weights(whole.model, resumed.model)
    assert without_times(whole.history) == without_times(resumed.history)
    mixed = train_fold(_of_pooler(pooler, epochs=1, dtype="bfloat16"), dataset, split)
    assert math.isfinite(mixed.history[0]["loss"])


def test_options_of_diff_pool_are_refused_with_other_poolers() -> None:
    with pytest.raises(ValueError, match="link_loss is an option of pooler 'diff', not of 'topk'"):
        _of_pooler("topk", link_loss="bce")
    with pytest.raises(ValueError, match="pool is an option of pooler 'diff', not of 'mincut'"):
        _of_pooler("mincut", pool="pyg")
    with pytest.raises(ValueError, match=r"pooler must be one of acc, .*, got 'best'"):
        _of_pooler("best")


def test_the_largest_seed_has_folds() -> None:
    config = make_config(seed=MAX_SEED, folds=3, epochs=1)
    splits = loop.make_splits(config, DATASET)
    train_fold(config, DATASET, splits[2], fold=2)


def test_a_run_that_diverges_stops(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match=r"the (loss is nan|gradient is not finite); try a smaller"):
        train_fold(make_config(lr=1e30), DATASET, SPLIT, folder=tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_run_is_not_resumed_with_fewer_epochs(tmp_path: Path) -> None:
    train_fold(make_config(epochs=3), DATASET, SPLIT, folder=tmp_path)
    saved = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(CheckpointError, match=r"epochs must be at least 3, .* fold 0 has, got 2"):
        train_fold(make_config(epochs=2), DATASET, SPLIT, folder=tmp_path, resume=True)
    assert (tmp_path / "checkpoint.pt").read_bytes() == saved
