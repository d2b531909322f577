"""Loading TU datasets: search order, cache, downloads, and corrupt files."""

from __future__ import annotations

import shutil
import stat
import sys
from pathlib import Path
from urllib.error import URLError

import pytest
import torch

from hierpool.data import DatasetError, load_tu
from tests.support.data import data_root

pytest.importorskip("torch_geometric", reason="torch_geometric (extra: train) is not installed")

# Two triangles joined to a tail each, and a single edge: 3 graphs, 10 nodes.
FILES = {
    "A": "1,2\n2,1\n2,3\n3,2\n1,3\n3,1\n3,4\n4,3\n5,6\n6,5\n6,7\n7,6\n5,7\n7,5\n7,8\n8,7\n9,10\n10,9\n",
    "graph_indicator": "1\n1\n1\n1\n2\n2\n2\n2\n3\n3\n",
    "graph_labels": "1\n1\n-1\n",
    "node_labels": "0\n1\n2\n0\n0\n1\n2\n0\n1\n1\n",
    "node_attributes": "".join(f"{i}.5, -1.0\n" for i in range(10)),
}


def write_raw(folder: Path, files: dict[str, str], name: str = "TINY") -> None:
    folder.mkdir(parents=True)
    for kind, text in files.items():
        (folder / f"{name}_{kind}.txt").write_text(text)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIERPOOL_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("layout", ["tu/TINY/raw", "TINY/raw"])
def test_reads_a_root_without_writing_into_it(tmp_path: Path, layout: str) -> None:
    root = tmp_path / "root"
    write_raw(root / layout, FILES)
    before = sorted(root.rglob("*"))
    for folder in (path for path in (root, *before) if path.is_dir()):
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        dataset = load_tu("TINY", root)
        assert sorted(root.rglob("*")) == before
    finally:
        for folder in (path for path in (root, *before) if path.is_dir()):
            folder.chmod(stat.S_IRWXU)
    assert [graph.x.shape for graph in dataset.graphs] == [(4, 5), (4, 5), (2, 5)]
    assert [graph.y for graph in dataset.graphs] == [1, 1, 0]
    assert dataset.features == "attributes and labels"
    assert dataset.num_classes == 2
    assert dataset.max_nodes == 4
    assert dataset.majority_rate == pytest.approx(2 / 3)
    assert dataset.graphs[1].x[0].tolist() == [4.5, -1.0, 1.0, 0.0, 0.0]
    assert set(map(tuple, dataset.graphs[2].edge_index.t().tolist())) == {(0, 1), (1, 0)}


def test_the_fingerprint_is_that_of_the_files(tmp_path: Path) -> None:
    write_raw(tmp_path / "a" / "TINY" / "raw", FILES)
    write_raw(tmp_path / "b" / "TINY" / "raw", FILES | {"graph_labels": "1\n-1\n-1\n"})
    first, second = load_tu("TINY", tmp_path / "a"), load_tu("TINY", tmp_path / "b")
    assert first.labels.tolist() == [1, 1, 0]
    assert second.labels.tolist() == [1, 0, 0]
    assert first.fingerprint != second.fingerprint


def test_degree_stands_in_for_missing_features(tmp_path: Path) -> None:
    files = {kind: FILES[kind] for kind in ("A", "graph_indicator", "graph_labels")}
    write_raw(tmp_path / "TINY" / "raw", files)
    dataset = load_tu("TINY", tmp_path)
    assert dataset.features == "degree"
    assert dataset.graphs[0].x.argmax(1).tolist() == [2, 2, 3, 1]
    assert all(torch.equal(graph.x.sum(1), torch.ones(len(graph.x))) for graph in dataset.graphs)


def test_embedded_mutag_needs_neither_root_nor_network(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("grakel", reason="grakel (extra: train) is not installed")
    from torch_geometric.datasets import TUDataset

    monkeypatch.delenv("HIERPOOL_DATA", raising=False)
    monkeypatch.setattr(TUDataset, "download", lambda self: pytest.fail("the network was used"))
    dataset = load_tu("MUTAG")
    assert len(dataset.graphs) == 188
    assert dataset.num_features == 7
    assert dataset.max_nodes == 28
    assert dataset.labels.bincount().tolist() == [63, 125]
    assert sum(graph.edge_index.size(1) for graph in dataset.graphs) == 7442


def test_mutag_is_downloaded_without_grakel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch_geometric.datasets import TUDataset

    def download(self: TUDataset) -> None:
        Path(self.raw_dir).rmdir()
        write_raw(Path(self.raw_dir), FILES, "MUTAG")

    monkeypatch.delenv("HIERPOOL_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "grakel", None)
    monkeypatch.setattr(TUDataset, "download", download)
    assert load_tu("MUTAG", cache=tmp_path).source == str(tmp_path / "downloads" / "MUTAG" / "raw")


@pytest.mark.parametrize(
    ("name", "graphs", "features", "kind"),
    [("ENZYMES", 600, 21, "attributes and labels"), ("IMDB-BINARY", 1000, 136, "degree")],
)
def test_real_sets(name: str, graphs: int, features: int, kind: str) -> None:
    data_root(f"tu/{name}")
    dataset = load_tu(name)
    assert (len(dataset.graphs), dataset.num_features, dataset.features) == (graphs, features, kind)


def test_missing_set_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"NONE was not found under .*tu/NONE/raw nor .*NONE/raw"):
        load_tu("NONE", tmp_path)


def test_failed_download_says_what_to_do_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch_geometric.datasets import TUDataset

    def download(self: TUDataset) -> None:
        Path(self.raw_dir, "half.txt").write_text("1")
        raise URLError("no route to host")

    monkeypatch.setattr(TUDataset, "download", download)
    with pytest.raises(DatasetError, match=r"could not be fetched from http.*no route to host.*tu/NONE/raw"):
        load_tu("NONE")
    assert not list((tmp_path / "cache" / "downloads").iterdir())


def test_download_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch_geometric.datasets import TUDataset

    calls = []

    def download(self: TUDataset) -> None:
        calls.append(self.raw_dir)
        shutil.rmtree(self.raw_dir)
        write_raw(Path(self.raw_dir), FILES)

    monkeypatch.setattr(TUDataset, "download", download)
    assert len(load_tu("TINY").graphs) == 3
    assert len(load_tu("TINY").graphs) == 3
    assert len(calls) == 1


def test_name_cannot_leave_the_root(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"dataset must be a name .* got '\.\./x'"):
        load_tu("../x", tmp_path)


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("A", None, "lacks TINY_A.txt"),
        ("graph_labels", None, "lacks TINY_graph_labels.txt"),
        ("A", "", r"TINY_A.txt in .* is empty"),
        ("A", FILES["A"] + "1,\n", r"TINY_A.txt in .* cannot be read"),
        ("A", FILES["A"] + "1,11\n", "TINY_A.txt in .* has a node index outside 1 to 10"),
        ("A", FILES["A"] + "0,1\n", "TINY_A.txt in .* has a node index outside 1 to 10"),
        ("A", FILES["A"] + "1,5\n", "TINY_A.txt in .* joins two graphs in line 19"),
        ("A", "1\n2\n", "TINY_A.txt in .* must have 2 columns, but has 1"),
        (
            "graph_indicator",
            "1\n1\n3\n" + "3\n" * 7,
            "graph_indicator.txt in .* must number graphs from 1 upwards without a gap, but has 3 in line 3",
        ),
        (
            "graph_indicator",
            "# 0 is no graph\n" + "0\n" * 10,
            "graph_indicator.txt in .* must number graphs from 1 upwards without a gap, but has 0 in line 2",
        ),
        (
            "graph_indicator",
            FILES["graph_indicator"] + "\x00\x01",
            "graph_indicator.txt in .* cannot be read",
        ),
        ("graph_labels", "1\n1\n", "graph_labels.txt in .* has 2 lines for 3 graphs"),
        (
            "graph_labels",
            "1\n0.5\n0\n",
            "graph_labels.txt in .* cannot be read: line 2: .* integer, got '0.5'",
        ),
        ("graph_labels", "1\n1 2\n0\n", "graph_labels.txt in .* cannot be read: line 2: expected 1 columns"),
        ("graph_labels", " \n", "graph_labels.txt in .* is empty"),
        ("node_labels", "0\n", "node_labels.txt in .* has 1 lines for 10 nodes"),
        (
            "node_attributes",
            "1, 1\n" * 4 + "1, nan\n" * 6,
            "node_attributes.txt in .* has a value that is not finite in float32 in line 5",
        ),
        (
            "node_attributes",
            "1e39, 1\n" * 10,
            "node_attributes.txt in .* has a value that is not finite in float32 in line 1",
        ),
        ("edge_labels", "0\n", "edge_labels.txt in .* has 1 lines for"),
        ("edge_labels", "0\nx\n", "edge_labels.txt in .* cannot be read: line 2"),
        (
            "node_labels",
            "1\n" * 9 + "9223372036854775808\n",
            "node_labels.txt in .* line 10: expected a 64-bit",
        ),
    ],
)
def test_corrupt_files_are_refused(tmp_path: Path, kind: str, text: str | None, reason: str) -> None:
    files = {**FILES, kind: text}
    write_raw(tmp_path / "TINY" / "raw", {key: value for key, value in files.items() if value is not None})
    with pytest.raises(DatasetError, match=reason):
        load_tu("TINY", tmp_path)
    assert not (tmp_path / "cache").exists()


def test_labels_of_edges(tmp_path: Path) -> None:
    """Without loops; of an edge that is there twice the first label counts. The fingerprint is that of features."""
    files = {
        "A": "2, 1\n1, 1\n1, 2\n4, 3\n3, 4\n1, 2\n",
        "graph_indicator": "1\n1\n2\n2\n",
        "graph_labels": "0\n1\n",
        "edge_labels": "7\n9\n-1\n3\n7\n3\n",
    }
    write_raw(tmp_path / "TINY" / "raw", files)
    dataset = load_tu("TINY", tmp_path)
    assert [graph.edge_index.tolist() for graph in dataset.graphs] == [[[0, 1], [1, 0]]] * 2
    assert [graph.edge_labels.tolist() for graph in dataset.graphs] == [[0, 2], [2, 1]]
    assert dataset.num_edge_labels == 3
    del files["edge_labels"]
    write_raw(tmp_path / "other" / "TINY" / "raw", files)
    without = load_tu("TINY", tmp_path / "other")
    assert without.graphs[0].edge_labels is None
    assert without.num_edge_labels == 0
    assert without.fingerprint == dataset.fingerprint


def test_graphs_without_edges_are_kept(tmp_path: Path) -> None:
    """Also the last ones, which torch_geometric.io.read_tu_data loses."""
    files = {
        "A": "4,5\n5,4\n",
        "graph_indicator": "1\n1\n2\n2\n2\n3\n4\n4\n",
        "graph_labels": "1000000000\n-1\n7\n-1\n",
    }
    write_raw(tmp_path / "TINY" / "raw", files)
    dataset = load_tu("TINY", tmp_path)
    assert [len(graph.x) for graph in dataset.graphs] == [2, 3, 1, 2]
    assert [graph.edge_index.tolist() for graph in dataset.graphs] == [
        [[], []],
        [[1, 2], [2, 1]],
        [[], []],
        [[], []],
    ]
    assert dataset.labels.tolist() == [2, 0, 1, 0]
    assert dataset.num_classes == 3


@pytest.mark.parametrize(
    "change",
    [
        {kind: text + "\n\n" for kind, text in FILES.items()},
        {kind: "# comment\n" + text.replace("\n", "\r\n") for kind, text in FILES.items()},
        {kind: "\ufeff" + text.rstrip() for kind, text in FILES.items()},
        {"A": FILES["A"].replace(",", " ")},
        {"A": FILES["A"] + "1,2\n3,3\n"},  # a duplicate and a self-loop
        {"graph_labels": "1.0\n1.0\n-1\n"},
    ],
)
def test_forms_of_the_same_files(tmp_path: Path, change: dict[str, str]) -> None:
    write_raw(tmp_path / "a" / "TINY" / "raw", FILES)
    write_raw(tmp_path / "b" / "TINY" / "raw", FILES | change)
    for ours, other in zip(
        load_tu("TINY", tmp_path / "a").graphs, load_tu("TINY", tmp_path / "b").graphs, strict=True
    ):
        assert torch.equal(ours.x, other.x)
        assert torch.equal(ours.edge_index, other.edge_index)
        assert ours.y == other.y


def test_a_single_graph_with_a_single_edge(tmp_path: Path) -> None:
    files = {
        "A": "1, 2\n",
        "graph_indicator": "1\n1\n",
        "graph_labels": "5\n",
        "node_labels": "1000000000\n-3\n",
    }
    write_raw(tmp_path / "TINY" / "raw", files)
    (graph,) = load_tu("TINY", tmp_path).graphs
    assert graph.edge_index.tolist() == [[0], [1]]
    assert graph.x.tolist() == [
        [0, 1],
        [1, 0],
    ]  # a column for each label, as their range is too wide for one each


@pytest.mark.parametrize("name", ["MUTAG", "ENZYMES", "PROTEINS", "IMDB-BINARY"])
def test_values_of_pyg(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch_geometric.datasets import TUDataset

    raw = data_root(f"tu/{name}") / "tu" / name / "raw"
    shutil.copytree(raw, tmp_path / name / "raw")
    theirs = TUDataset(str(tmp_path), name, use_node_attr=True)
    ours = load_tu(name)
    assert len(ours.graphs) == len(theirs)
    for graph, item in zip(ours.graphs, theirs, strict=True):
        assert torch.equal(graph.edge_index, item.edge_index)
        assert graph.y == int(item.y)
        assert len(graph.x) == item.num_nodes
        assert item.x is None or torch.equal(graph.x, item.x)


def test_a_data_root_of_the_environment_that_is_no_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HIERPOOL_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(
        DatasetError, match=r"HIERPOOL_DATA must be a folder of datasets, but .*nowhere is none"
    ):
        load_tu("MUTAG")
