"""The clustering examples on small graphs: methods find communities, and recorded runs are not repeated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hierpool.data import LargeGraph, stochastic_block_model
from hierpool.metrics import normalized_mutual_information

RECORDED = Path(__file__).parents[2] / "bench" / "results" / "clustering"
Load = Callable[[str], ModuleType]


def communities(nodes: int = 600, k: int = 3) -> LargeGraph:
    """Planted communities, with one feature each that is more frequent in it."""
    graph, labels = stochastic_block_model(nodes, k, mean_degree=16, mixing=0.05, seed=3)
    draw = torch.Generator().manual_seed(3)
    words = (torch.rand(nodes, 40, generator=draw) < 0.05).float()
    words[torch.arange(nodes), labels] += (torch.rand(nodes, generator=draw) < 0.4).float()
    return LargeGraph("communities", graph, words, labels, None, "a generator", ())


class Largest(TorchDispatchMode):
    """Records the number of elements of the largest tensor that is created."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for t in tree_leaves(out):
            if isinstance(t, Tensor) and t.layout == torch.strided:
                self.elements = max(self.elements, t.untyped_storage().nbytes() // t.element_size())
        return out


@pytest.mark.parametrize(
    ("name", "lr", "epochs"),
    [
        ("mincut", 3e-2, 60),
        ("dmon", 2e-2, 50),
        ("just-balance", 1e-3, 60),
        ("hosc", 3e-2, 60),
        ("tvgnn", 3e-3, 25),
    ],
)
def test_every_method_finds_planted_communities(
    name: str, lr: float, epochs: int, load_example: Load
) -> None:
    """Without a tensor of N x N elements, and in few steps, since learning rates are larger than those of papers."""
    example = load_example("clustering")
    data = communities()
    assert data.x is not None
    assert data.labels is not None
    method = replace(example.METHODS[name], lr=lr)
    inputs = example.Inputs.of(data.x, data.graph)
    losses: list[float] = []
    clusters, last = example.cluster(method, inputs, 3, 0, epochs=epochs, on_epoch=losses.append)
    assert len(losses) == epochs
    assert last == losses[-1] < losses[0]
    assert normalized_mutual_information(clusters, data.labels) > 0.6
    with Largest() as largest:
        example.cluster(method, inputs, 3, 0, epochs=2, on_epoch=losses.append)
    assert largest.elements < data.graph.num_nodes**2


def test_recorded_runs_are_not_repeated(
    tmp_path: Path, load_example: Load, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = load_example("clustering")
    monkeypatch.setattr(example, "load_large", lambda name, root: communities(300)._replace(name=name))
    arguments = ["Cora", "--methods", "mincut", "dmon", "--epochs", "3", "--out", str(tmp_path)]
    assert example.main([*arguments, "--seeds", "2"]) == 0
    first = [path.read_text() for path in sorted(tmp_path.glob("*.jsonl"))]
    assert [text.count("\n") for text in first] == [2, 2]
    capsys.readouterr()
    assert example.main([*arguments, "--seeds", "3"]) == 0
    printed = capsys.readouterr().out
    assert "seed 2: NMI" in printed
    assert "seed 1: NMI" not in printed
    for path, text in zip(sorted(tmp_path.glob("*.jsonl")), first, strict=True):
        assert path.read_text().startswith(text)
    assert "| Cora | MinCut | 3 | 3 |" in (tmp_path / "clustering.md").read_text()
    assert "0.404 ± 0.018 (K 7) [1]†" in printed
    assert (tmp_path / "clustering.png").stat().st_size > 10_000


def test_the_recorded_page_is_of_the_recorded_runs(load_example: Load) -> None:
    report = load_example("clustering_report")
    rows = report.read_rows(RECORDED)
    groups = report.by_method(rows)
    assert len(groups) == 15
    assert {len(group) for group in groups.values()} == {10}
    assert (RECORDED / "clustering.md").read_text(encoding="utf-8") == report.page(rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Karate"], "argument DATASET: invalid choice: 'Karate' (choose from Cora, CiteSeer, PubMed)"),
        (["Cora", "--seeds", "0"], "argument --seeds: must be at least 1, got 0"),
        (["--report", "--out", "nowhere"], "nowhere holds no recorded runs"),
    ],
)
def test_clustering_names_what_is_wrong(
    arguments: list[str], message: str, load_example: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        load_example("clustering").main(arguments)
    assert message in f"{stopped.value} {capsys.readouterr().err}"
