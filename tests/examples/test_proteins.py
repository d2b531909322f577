"""The examples on PROTEINS with small graphs: networks train, patched and sparse networks are the same functions."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_leaves

from tests.support.data import data_root

MAX_NODES = 30


@pytest.fixture
def example(load_example: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program, with a small dataset in place of PROTEINS, and padding to its largest graph."""
    module = load_example("proteins")
    monkeypatch.setattr(module, "load", lambda root: two_classes(30))
    monkeypatch.setattr(module.proteins_pyg, "MAX_NODES", MAX_NODES)
    return module


def two_classes(graphs: int = 60) -> list[Any]:
    """Rings, and rings with chords, of different sizes."""
    from torch_geometric.data import Data

    draw = torch.Generator().manual_seed(5)
    made = []
    for i in range(graphs):
        n = int(torch.randint(6, MAX_NODES, (), generator=draw))
        nodes = torch.arange(n)
        edges = torch.stack([nodes, (nodes + 1) % n])
        if i % 2:
            edges = torch.cat([edges, torch.stack([nodes, (nodes + n // 2) % n])], 1)
        edges = torch.cat([edges, edges.flip(0)], 1).unique(dim=1)
        kinds = torch.randint(0, 3, (n,), generator=draw)
        made.append(Data(x=torch.eye(3)[kinds], edge_index=edges, y=torch.tensor([i % 2])))
    return made


@pytest.mark.parametrize("way", [[], ["--patch"], ["--sparse"]], ids=["pyg", "patch", "sparse"])
@pytest.mark.parametrize("name", ["diffpool", "mincut", "dmon"])
def test_every_network_trains(
    name: str, way: list[str], example: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert example.main([name, *way, "--epochs", "6"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in lines]
    assert len(losses) == 6
    assert min(losses[1:]) < losses[0]


def test_the_comparison_of_networks(example: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
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
def test_the_sparse_network_is_the_same_function(name: str, example: ModuleType) -> None:
    """The networks have the same parameters. DiffPool's sparse network has another batch norm."""
    from torch_geometric.loader import DataLoader

    # PyG's DMoN divides the cluster sizes of a graph by the sizes of all graphs.
    graphs = [data for data in two_classes() if data.num_nodes == 12]
    assert len(graphs) > 1
    dense, sparse = (example.Task(name, graphs, sparse=sparse, seed=0).net for sparse in (False, True))
    sparse.load_state_dict(dense.state_dict())
    (batch,) = DataLoader(graphs, len(graphs))
    for one, other in zip(tree_leaves(dense(batch)), tree_leaves(sparse(batch)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_on_proteins(
    tmp_path: Path, load_example: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(data_root("tu/PROTEINS") / "tu/PROTEINS/raw", tmp_path / "PROTEINS" / "raw")
    example = load_example("proteins")
    assert example.main(["mincut", "--patch", "--epochs", "1", "--root", str(tmp_path)]) == 0
    assert "epoch   1: loss" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="has no folder PROTEINS"):
        example.main(["mincut", "--root", str(tmp_path / "PROTEINS")])
