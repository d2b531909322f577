"""The examples, on small graphs: they train, they go on where they stopped, and they say what they found."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
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
from tests.support.data import data_root
from tests.support.running import one_thread  # noqa: F401

for needed in ("torch_geometric", "tqdm", "matplotlib", "numpy"):
    pytest.importorskip(needed, reason=f"{needed} (extra: train) is not installed")

EXAMPLES = Path(__file__).parents[1] / "examples"


def load_example(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of the folder, which imports its neighbours by their names."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return __import__(name)


@pytest.fixture(scope="module", autouse=True)
def _forget() -> Iterator[None]:
    yield
    for path in EXAMPLES.glob("*.py"):
        sys.modules.pop(path.stem, None)


# ---- clustering -----------------------------------------------------------------------------------------------------


def communities(nodes: int = 1200, k: int = 3) -> LargeGraph:
    """Planted communities, with words that are a little more frequent in one of them."""
    graph, labels = stochastic_block_model(nodes, k, mean_degree=16, mixing=0.05, seed=3)
    draw = torch.Generator().manual_seed(3)
    words = (torch.rand(nodes, 40, generator=draw) < 0.05).float()
    words[torch.arange(nodes), labels] += (torch.rand(nodes, generator=draw) < 0.4).float()
    return LargeGraph("communities", graph, words, labels, None, "a generator", ())


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that is made."""

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
        ("mincut", 1e-2, 200),
        ("dmon", 1e-2, 100),
        ("just-balance", 3e-3, 150),
        ("hosc", 1e-2, 200),
        ("tvgnn", 3e-3, 60),
    ],
)
def test_every_method_finds_planted_communities(
    name: str, lr: float, epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a tensor of N x N. Steps are larger than a paper's, so that few are enough."""
    example = load_example("clustering", monkeypatch)
    data = communities()
    assert data.x is not None
    assert data.labels is not None
    method = replace(example.METHODS[name], lr=lr)
    inputs = example.Inputs.of(data.x, data.graph)
    losses: list[float] = []
    with Largest() as largest:
        clusters, last = example.cluster(method, inputs, 3, 0, epochs=epochs, on_epoch=losses.append)
    assert len(losses) == epochs
    assert last == losses[-1] < losses[0]
    assert normalized_mutual_information(clusters, data.labels) > 0.6
    assert largest.elements < data.graph.num_nodes**2


def test_recorded_runs_are_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = load_example("clustering", monkeypatch)
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


def test_the_recorded_page_is_of_the_recorded_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    report = load_example("clustering_report", monkeypatch)
    folder = EXAMPLES.parent / "bench" / "results" / "clustering"
    rows = report.read_rows(folder)
    groups = report.by_method(rows)
    assert len(groups) == 15
    assert {len(group) for group in groups.values()} == {10}
    assert (folder / "clustering.md").read_text(encoding="utf-8") == report.page(rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Karate"], "argument DATASET: invalid choice: 'Karate' (choose from Cora, CiteSeer, PubMed)"),
        (["Cora", "--seeds", "0"], "argument --seeds: must be at least 1, got 0"),
        (["--report", "--out", "nowhere"], "nowhere holds no recorded runs"),
    ],
)
def test_clustering_names_what_is_wrong(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        load_example("clustering", monkeypatch).main(arguments)
    assert message in f"{stopped.value} {capsys.readouterr().err}"


# ---- graph classification -------------------------------------------------------------------------------------------


def two_classes(graphs: int = 60) -> list[Any]:
    """Rings, and rings with chords, of unequal sizes."""
    from torch_geometric.data import Data

    draw = torch.Generator().manual_seed(5)
    found = []
    for i in range(graphs):
        n = int(torch.randint(6, 30, (), generator=draw))
        nodes = torch.arange(n)
        edges = torch.stack([nodes, (nodes + 1) % n])
        if i % 2:
            edges = torch.cat([edges, torch.stack([nodes, (nodes + n // 2) % n])], 1)
        edges = torch.cat([edges, edges.flip(0)], 1).unique(dim=1)
        kinds = torch.randint(0, 3, (n,), generator=draw)
        found.append(Data(x=torch.eye(3)[kinds], edge_index=edges, y=torch.tensor([i % 2])))
    return found


@pytest.mark.parametrize("way", [[], ["--patch"], ["--sparse"]], ids=["pyg", "patch", "sparse"])
@pytest.mark.parametrize("name", ["diffpool", "mincut", "dmon"])
def test_every_network_trains(
    name: str, way: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = load_example("proteins", monkeypatch)
    monkeypatch.setattr(example, "load", lambda root: two_classes())
    assert example.main([name, *way, "--epochs", "6"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in lines]
    assert len(losses) == 6
    assert min(losses[1:]) < losses[0]


def test_the_comparison_of_networks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = load_example("proteins", monkeypatch)
    monkeypatch.setattr(example, "load", lambda root: two_classes())
    assert example.main(["--compare", "--steps", "3"]) == 0
    printed = capsys.readouterr().out
    differences = [float(part.split()[0]) for part in printed.split("differ by ")[1:]]
    assert len(differences) == 3
    assert max(differences) < 1e-11
    assert printed.count("pooling calls patched") == 3
    assert printed.count("whole step    sparse") == 3
    import torch_geometric.nn as peer

    assert peer.dense_diff_pool.__module__.startswith("torch_geometric")
    assert example.proteins_pyg.dense_diff_pool is peer.dense_diff_pool
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("name", ["mincut", "dmon"])
def test_the_sparse_network_is_the_same_function(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same parameters, and with its own parameters' names. DiffPool's has another batch norm."""
    from torch_geometric.loader import DataLoader

    example = load_example("proteins", monkeypatch)
    graphs = [
        data for data in two_classes() if data.num_nodes == 12
    ]  # DMoN of PyG crosses the sizes of graphs
    assert len(graphs) > 1
    dense, sparse = (example.Task(name, graphs, sparse=sparse, seed=0).net for sparse in (False, True))
    sparse.load_state_dict(dense.state_dict())
    (batch,) = DataLoader(graphs, len(graphs))
    for one, other in zip(tree_leaves(dense(batch)), tree_leaves(sparse(batch)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_on_proteins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(data_root("tu/PROTEINS") / "tu/PROTEINS/raw", tmp_path / "PROTEINS" / "raw")
    example = load_example("proteins", monkeypatch)
    assert example.main(["mincut", "--patch", "--epochs", "1", "--root", str(tmp_path)]) == 0
    assert "epoch   1: loss" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="has no folder PROTEINS"):
        example.main(["mincut", "--root", str(tmp_path / "PROTEINS")])
