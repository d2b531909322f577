"""Large graphs from files: every format, node ids, one undirected graph however edges are listed, and errors."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hierpool import RaggedGraph
from hierpool.data import DatasetError, edge_lists, load_large, read_edge_list
from tests.support.data import data_root

np = pytest.importorskip("numpy", reason="numpy (extra: train) is not installed")
# A triangle 0 1 2 and an edge 2 3.
TRIANGLE = torch.tensor([[0, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 1], [0, 0, 1, 0]]).float()


def write(path: Path, text: str) -> str:
    content = text.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path)


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


def test_a_file_is_parsed_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_lists, "_CHUNK_LINES", 3)
    lines = ["# head\n"] * 7 + [f"{i} {i + 1}\n" for i in range(10)]
    file = write(tmp_path / "g.txt", "".join(lines))
    edges = read_edge_list(file)
    assert edges.source.tolist() == list(range(10))
    assert edges.target.tolist() == list(range(1, 11))
    write(tmp_path / "g.txt", "".join([*lines, "11 x\n"]))
    with pytest.raises(DatasetError, match=r"g\.txt, line 18: a node id must be a 64-bit integer, got 'x'"):
        read_edge_list(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 1\n# c\n1 b\n", "line 3: a node id must be a 64-bit integer, got 'b'"),
        ("0 1\n1.5 2\n", "line 2: a node id must be a 64-bit integer, got '1.5'"),
        (f"0 {2**63}\n", "line 1: a node id must be a 64-bit integer"),
        ("0 1\n\n1 2 3\n", "line 3: expected 2 columns as in earlier lines, got '1 2 3'"),
        ("0 1 1\n1 2\n", "line 2: expected 3 columns as in earlier lines, got '1 2'"),
        ("0 1 1\n1 2 -1\n", "line 2: a weight must be finite and not negative, got '-1'"),
        ("0 1 nan\n", "line 1: a weight must be finite and not negative, got 'nan'"),
        ("0 1 inf\n", "line 1: a weight must be finite and not negative, got 'inf'"),
        ("0 1 one\n", "line 1: a weight must be finite and not negative, got 'one'"),
        ("0\n", "line 1: an edge is 'source target' or 'source target weight', got '0'"),
        ("0 1 2 3\n", "line 1: an edge is 'source target' or 'source target weight', got '0 1 2 3'"),
        ("# nothing\n", "holds no edge"),
        ("", "holds no edge"),
    ],
)
def test_errors_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    file = write(tmp_path / "bad.txt", text)
    with pytest.raises(DatasetError, match=message) as caught:
        load_large(file)
    assert file in str(caught.value)


def test_damaged_files(tmp_path: Path) -> None:
    whole = gzip.compress(b"0 1\n" * 1000)
    for name, content in (("cut.gz", whole[:-20]), ("no.gz", b"0 1\n"), ("binary.txt", b"\xff\xfe\x00\n")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DatasetError, match=rf"{name} cannot be read as text"):
            load_large(str(tmp_path / name))
    (tmp_path / "bad.npz").write_bytes(b"PK not at all")
    with pytest.raises(DatasetError, match=r"bad\.npz is not an \.npz file of plain arrays"):
        load_large(str(tmp_path / "bad.npz"))
    with pytest.raises(DatasetError, match="input must be a file or one of Cora, CiteSeer"):
        load_large(str(tmp_path / "missing.txt"))


@pytest.mark.parametrize("form", ["csr", "csc", "coo"])
def test_scipy_files(tmp_path: Path, form: str) -> None:
    sparse = pytest.importorskip("scipy.sparse", reason="scipy is not installed")
    file = str(tmp_path / "m.npz")
    sparse.save_npz(file, sparse.csr_matrix(TRIANGLE.triu().numpy().astype("int8")).asformat(form))
    data = load_large(file)
    assert data.graph.value is None
    assert torch.equal(data.graph.to_dense()[0], TRIANGLE)
    sparse.save_npz(file, sparse.csr_matrix(2.5 * TRIANGLE.numpy()).asformat(form))
    assert torch.equal(dense(file), 2.5 * TRIANGLE)


def amazon_arrays() -> dict[str, object]:
    upper = RaggedGraph.from_dense(TRIANGLE.triu())
    return {
        "adj_data": np.ones(4, dtype="float32"),
        "adj_indices": upper.col.numpy(),
        "adj_indptr": upper.rowptr.numpy(),
        "adj_shape": np.array([4, 4]),
        "attr_data": np.array([1.0, 2.0], dtype="float32"),
        "attr_indices": np.array([2, 0]),
        "attr_indptr": np.array([0, 1, 1, 2, 2]),
        "attr_shape": np.array([4, 3]),
        "labels": np.array([0, 0, 0, 1]),
    }


def test_amazon_files(tmp_path: Path) -> None:
    file = tmp_path / "amazon.npz"
    np.savez(file, **amazon_arrays())
    data = load_large(str(file))
    assert torch.equal(data.graph.to_dense()[0], TRIANGLE)
    assert data.x is not None
    assert data.x.tolist() == [[0, 0, 1], [0, 0, 0], [2, 0, 0], [0, 0, 0]]
    assert data.labels is not None
    assert data.labels.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"adj_indices": np.array([1, 2, 9, 3])}, "is corrupt"),
        (
            {"adj_indptr": np.array([0, 2, 4])},
            "is corrupt: adj_indptr, adj_indices and adj_data do not fit adj_shape",
        ),
        ({"adj_shape": np.array([4, 5])}, r"must hold a square matrix, got \(4, 5\)"),
        ({"adj_data": np.array([1.0, -1.0, 1.0, 1.0])}, "weights must be finite and not negative"),
        ({"attr_indices": np.array([2, 3])}, "attr_indptr, attr_indices and attr_data do not fit attr_shape"),
        ({"labels": np.array([0, 1])}, "has 2 labels for 4 nodes"),
        (
            {"attr_shape": np.array([3, 3]), "attr_indptr": np.array([0, 1, 1, 2])},
            "has 3 attributes for 4 nodes",
        ),
    ],
)
def test_corrupt_amazon_files(tmp_path: Path, change: dict[str, object], message: str) -> None:
    file = tmp_path / "amazon.npz"
    np.savez(file, **(amazon_arrays() | change))
    with pytest.raises(ValueError, match=message):
        load_large(str(file))


def test_other_npz_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.npz"
    np.savez(file, a=np.zeros(3))
    with pytest.raises(DatasetError, match=r"must hold a sparse matrix .* it lacks format and has a"):
        load_large(str(file))
    np.savez(file, format=np.array(b"dia"))
    with pytest.raises(DatasetError, match="must hold a matrix of format csr, csc or coo, got dia"):
        load_large(str(file))


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
