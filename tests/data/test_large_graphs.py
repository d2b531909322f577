"""Large graphs from files: every format, node ids, one undirected graph however edges are listed, and errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from hierpool.data import DatasetError, load_large
from tests.support.data import data_root
from tests.support.files import TRIANGLE, write

np = pytest.importorskip("numpy", reason="numpy (extra: train) is not installed")


def dense(path: str) -> Tensor:
    graph = load_large(path).graph
    assert graph.is_symmetric
    return graph.to_dense()[0]


@pytest.mark.parametrize(
    "text",
    [
        "0 1\n1 2\n0 2\n2 3\n",
        "# comment\n\n0\t1\n  1   2 # and more\n2 0\n3 2",
        "0,1\n1, 2\n0 ,2\n2,3\n",
        "0 1\n1 0\n1 2\n2 1\n0 2\n2 0\n2 3\n3 2\n",  # both directions
        "0 1\n1 0\n0 1\n1 2\n2 0\n3 2\n3 2\n",  # some of them, and twice
        "0 1\n1 2\n2 2\n0 0\n0 2\n2 3\n",  # self-loops
        "0 1 1\n1 2 1.0\n0 2 1e0\n2 3 1\n",  # weights of 1
        "0 1\r\n1 2\r\n0 2\r\n2 3\r\n",
    ],
)
@pytest.mark.parametrize("name", ["graph.txt", "graph.csv.gz"])
def test_one_graph_however_it_is_listed(tmp_path: Path, text: str, name: str) -> None:
    data = load_large(write(tmp_path / name, text))
    assert data.graph.value is None
    assert data.graph.is_symmetric
    assert torch.equal(data.graph.to_dense()[0], TRIANGLE)
    assert data.node_ids is None
    assert data.name == "graph"


def test_changes_are_told(tmp_path: Path) -> None:
    data = load_large(write(tmp_path / "g.txt", "0 1\n0 1\n1 1\n1 2\n"))
    assert data.notes == (
        "1 self-loops were removed",
        "1 duplicate edges were merged",
        "both directions of the 4 listed edges were stored, since some have one direction only",
    )
    assert load_large(write(tmp_path / "h.txt", "0 1\n1 0\n")).notes == ()


def test_ids_with_gaps_are_kept(tmp_path: Path) -> None:
    data = load_large(write(tmp_path / "g.txt", f"70 -5\n{2**62} 70\n"))
    assert data.node_ids is not None
    assert data.node_ids.tolist() == [-5, 70, 2**62]
    assert data.graph.to_dense()[0].tolist() == [[0, 1, 0], [1, 0, 1], [0, 1, 0]]


def test_weights_of_both_directions_and_of_duplicates_are_summed(tmp_path: Path) -> None:
    one_way = dense(write(tmp_path / "a.txt", "0 1 2.5\n1 2 0.5\n1 0 1\n1 2 0.25\n"))
    assert one_way.tolist() == [[0, 3.5, 0], [3.5, 0, 0.75], [0, 0.75, 0]]
    symmetric = dense(write(tmp_path / "b.txt", "0,1,2.5\n1,0,2.5\n1,2,3\n2,1,3\n"))
    assert symmetric.tolist() == [[0, 2.5, 0], [2.5, 0, 3], [0, 3, 0]]


def test_fingerprints_tell_graphs_apart(tmp_path: Path) -> None:
    one = load_large(write(tmp_path / "a.txt", "0 1\n1 2\n"))
    same = load_large(write(tmp_path / "b.txt", "1 2\n0 1\n"))
    other = load_large(write(tmp_path / "c.txt", "0 1\n0 2\n"))
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert one._replace(x=torch.ones(3, 1)).fingerprint != one.fingerprint


@pytest.mark.parametrize(
    ("folder", "name", "nodes", "entries", "features", "classes"),
    [
        ("planetoid", "Cora", 2708, 10556, 1433, 7),
        ("planetoid", "CiteSeer", 3327, 9104, 3703, 6),
        ("planetoid", "PubMed", 19717, 88648, 500, 3),
        ("large/Amazon", "Computers", 13752, 491722, 767, 10),
    ],
)
def test_datasets_on_this_machine(
    folder: str, name: str, nodes: int, entries: int, features: int, classes: int
) -> None:
    pytest.importorskip("torch_geometric", reason="torch_geometric (extra: train) is not installed")
    data_root(f"{folder}/{name}")
    data = load_large(name)
    assert (data.graph.num_nodes, data.graph.num_edges) == (nodes, entries)
    assert data.graph.value is None
    assert data.x is not None
    assert data.x.shape == (nodes, features)
    assert data.labels is not None
    assert int(data.labels.max()) + 1 == classes


def test_a_data_root_without_the_dataset_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=f"dataset Cora was not found under {tmp_path}"):
        load_large("Cora", tmp_path)
