"""Files of matrices: SciPy, Amazon datasets, Matrix Market and METIS, and errors that name the file and the field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hierpool import RaggedGraph
from hierpool.data import DatasetError, load_large
from tests.support.files import TRIANGLE, write

np = pytest.importorskip("numpy", reason="numpy (extra: train) is not installed")


@pytest.mark.parametrize("form", ["csr", "csc", "coo"])
def test_scipy_files(tmp_path: Path, form: str) -> None:
    sparse = pytest.importorskip("scipy.sparse", reason="scipy is not installed")
    file = str(tmp_path / "m.npz")
    sparse.save_npz(file, sparse.csr_matrix(TRIANGLE.triu().numpy().astype("int8")).asformat(form))
    data = load_large(file)
    assert data.graph.value is None
    assert torch.equal(data.graph.to_dense()[0], TRIANGLE)
    sparse.save_npz(file, sparse.csr_matrix(2.5 * TRIANGLE.numpy()).asformat(form))
    assert torch.equal(load_large(file).graph.to_dense()[0], 2.5 * TRIANGLE)


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


COO = {
    "format": np.array(b"coo"),
    "shape": np.array([4, 4]),
    "row": np.array([0, 1, 0, 2]),
    "col": np.array([1, 2, 2, 3]),
    "data": np.ones(4),
}
CSR = {
    "format": np.array(b"csr"),
    "shape": np.array([4, 4]),
    "indptr": np.array([0, 2, 3, 4, 4]),
    "indices": np.array([1, 2, 2, 3]),
    "data": np.ones(4),
}


@pytest.mark.parametrize(
    ("arrays", "change", "message"),
    [
        (COO, {"data": np.ones(3)}, "is corrupt: row, col and data do not fit shape"),
        (COO, {"row": np.array([0, 1])}, "is corrupt: row, col and data do not fit shape"),
        (COO, {"row": np.array([0, 1, 0, -1])}, "is corrupt: row, col and data do not fit shape"),
        (COO, {"row": np.zeros((4, 1), dtype=int)}, "row must have one dimension, got shape [4, 1]"),
        (CSR, {"data": np.ones(4) * 1j}, "data must hold real numbers, got complex128"),
        (CSR, {"data": np.array(["1"] * 4)}, "data must hold real numbers, got <U1"),
        (CSR, {"data": np.array([1, 1, 1, np.nan])}, "weights must be finite and not negative"),
        (CSR, {"data": np.array([1, 1, 1, -1])}, "weights must be finite and not negative"),
        (CSR, {"indices": CSR["indices"] + 0.5}, "indices must hold integers, got float64"),
        (CSR, {"indices": np.array([1, 2, 2, 2**63], dtype="u8")}, "indices must hold 64-bit integers"),
        (CSR, {"indptr": np.array([0, 3, 2, 4, 4])}, "is corrupt: indptr, indices and data do not fit shape"),
        (CSR, {"shape": np.array(4)}, "shape must have one dimension, got shape []"),
        (CSR, {"shape": np.array([4, 4, 4])}, "shape must be that of a matrix, got [4, 4, 4]"),
        (CSR, {"shape": np.array([4, 5])}, "must hold a square matrix, got (4, 5)"),
        (COO, {"shape": np.array([2**40, 2**40])}, "must have 1 to 2^31 - 1 nodes"),
        (CSR, {"format": np.array([b"csr", b"coo"])}, "format must hold one word, got shape [2]"),
        (CSR, {"format": np.array(1)}, "format must hold one word, got int64"),
    ],
)
def test_wrong_contents_are_refused(
    tmp_path: Path, arrays: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    file = tmp_path / "m.npz"
    np.savez(file, **arrays)
    assert torch.equal(load_large(str(file)).graph.to_dense()[0], TRIANGLE)
    np.savez(file, **(arrays | change))
    with pytest.raises(DatasetError) as caught:
        load_large(str(file))
    assert message in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"data": np.ones(4, dtype=">f4"), "indices": CSR["indices"].astype(">i4")},
        {"data": np.ones(4, dtype=bool), "indptr": CSR["indptr"].astype("u8")},
        {"data": np.ones(4, dtype="f2")},
        {"format": np.array("csr")},
        {"unused": np.array([{}], dtype=object)},  # is not unpickled
    ],
)
def test_other_dtypes_are_read(tmp_path: Path, change: dict[str, Any]) -> None:
    np.savez(tmp_path / "m.npz", **(CSR | change))
    assert torch.equal(load_large(str(tmp_path / "m.npz")).graph.to_dense()[0], TRIANGLE)


def test_files_that_are_no_archives(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK not at all")
    with open(tmp_path / "b.npz", "wb") as file:
        np.save(file, np.ones((3, 3)))
    for name in ("a.npz", "b.npz"):
        with pytest.raises(DatasetError, match=rf"{name} is not an \.npz file of plain arrays"):
            load_large(str(tmp_path / name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"labels": np.array([0, 0.5, 1, 1])},
            "labels must hold integers from 0, or -1 for an unknown label, got 0.5 in row 1",
        ),
        ({"labels": np.array([-1] * 4)}, "labels must hold at least one known label"),
        (
            {"attr_data": np.array([1.0, np.nan])},
            "attr_data must hold finite numbers, got NaN or infinity in row 1",
        ),
        ({"attr_data": np.array([1.0, 1e39])}, "attr_data must hold numbers in the range of float32"),
        ({"attr_matrix": np.ones((4, 2)) * 1j}, "attr_matrix must hold numbers of shape [N, F]"),
        ({"attr_shape": np.array([4, 2**60])}, "do not fit into memory"),
    ],
)
def test_wrong_attributes_and_labels(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "amazon.npz", **(amazon_arrays() | change))
    with pytest.raises(DatasetError) as caught:
        load_large(str(tmp_path / "amazon.npz"))
    assert message in str(caught.value)
    assert "amazon.npz" in str(caught.value)


MARKET = "%%MatrixMarket matrix coordinate {} {}\n% comment\n4 4 4\n{}"


@pytest.mark.parametrize("name", ["g.mtx", "g.MTX.GZ", "g.txt"])
def test_matrix_market(tmp_path: Path, name: str) -> None:
    pattern = MARKET.format("pattern", "general", "1 2\n2 3\n1 3\n3 4\n")
    data = load_large(write(tmp_path / name, pattern))
    assert torch.equal(data.graph.to_dense()[0], TRIANGLE)
    assert data.node_ids is not None
    assert data.node_ids.tolist() == [1, 2, 3, 4]
    for field in ("real", "integer"):
        weights = MARKET.format(field, "symmetric", "2 1 3\n3 2 3\n3 1 3\n4 3 3\n")
        assert torch.equal(load_large(write(tmp_path / name, weights)).graph.to_dense()[0], 3 * TRIANGLE)


def test_matrix_market_of_scipy(tmp_path: Path) -> None:
    io = pytest.importorskip("scipy.io", reason="scipy is not installed")
    sparse = pytest.importorskip("scipy.sparse", reason="scipy is not installed")
    matrix = sparse.random(30, 30, 0.1, random_state=0)
    for symmetric, name in ((matrix, "a.mtx"), (matrix + matrix.T, "b.mtx")):
        io.mmwrite(tmp_path / name, symmetric)
        found = load_large(str(tmp_path / name)).graph.to_dense()[0]
        off = torch.from_numpy(symmetric.toarray()).fill_diagonal_(0)
        torch.testing.assert_close(found, (off + off.t() if name == "a.mtx" else off).float())


METIS = "% comment\n4 4{}\n{}"


def test_metis(tmp_path: Path) -> None:
    forms = {
        "": "2 3\n1 3\n% comment\n1 2 4\n3\n",
        " 000": "2 3\n1 3\n1 2 4\n3",
        " 10": "9 2 3\n9 1 3\n9 1 2 4\n9 3\n",
        " 110 2": "8 9 9 2 3\n8 9 9 1 3\n8 9 9 1 2 4\n8 9 9 3\n\n",
        " 1": "2 1 3 1\n1 1 3 1\n1 1 2 1 4 1\n3 1\n",
    }
    for name in ("g.graph", "g.metis.gz"):
        for form, body in forms.items():
            data = load_large(write(tmp_path / name, METIS.format(form, body)))
            assert torch.equal(data.graph.to_dense()[0], TRIANGLE), form
            assert data.node_ids is not None
            assert data.node_ids.tolist() == [1, 2, 3, 4]
    weighted = load_large(write(tmp_path / "w.txt", "3 1 1\n2 5\n1 5\n\n"), form="metis")
    assert weighted.graph.to_dense()[0].tolist() == [[0, 5, 0], [5, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("g.mtx", "1 2\n", "line 1: expected a Matrix Market header, got '1 2'"),
        (
            "g.mtx",
            MARKET.format("complex", "general", ""),
            "must hold real coordinates, general or symmetric",
        ),
        ("g.mtx", MARKET.format("real", "skew-symmetric", ""), "must hold real coordinates, general"),
        ("g.mtx", MARKET.format("pattern", "general", "1 2\n"), "has 1 entries, but its header says 4"),
        (
            "g.mtx",
            MARKET.format("pattern", "general", "1 2\n5 1\n"),
            "line 5: expected two integers from 1 to 4",
        ),
        ("g.mtx", MARKET.format("real", "general", "1.5 2 1\n"), "line 4: expected two integers from 1 to 4"),
        (
            "g.mtx",
            MARKET.format("real", "general", "1 2 1\n1 2 x\n"),
            "line 5: expected a finite number, got 'x'",
        ),
        ("g.mtx", MARKET.format("real", "general", "1 2\n"), "line 4: expected 3 columns, got 2"),
        ("g.mtx", "%%MatrixMarket matrix coordinate real general\n4 5 0\n", "line 2: expected the sizes"),
        ("g.graph", "", "must have 1 to 2^31 - 1 nodes, got 0"),
        ("g.graph", "0 1\n1 2\n", "has 1 lines of neighbours for 0 nodes"),
        ("g.graph", "2\n", "line 1: expected the numbers of nodes and edges, got [2]"),
        ("g.graph", "2 1 5\n2\n1\n", "line 1: expected the numbers of nodes and edges"),
        ("g.graph", "2 1\n2\n", "has 1 lines of neighbours for 2 nodes"),
        ("g.graph", "2 2\n2\n1\n", "lists 2 neighbours for 2 edges, which must be twice as many"),
        ("g.graph", "2 1\n3\n1\n", "line 2: neighbours must lie between 1 and 2 and not be the node 1"),
        ("g.graph", "2 1\n1\n1\n", "line 2: neighbours must lie between 1 and 2 and not be the node 1"),
        ("g.graph", "3 1\n2\n3\n\n", "nodes 1 and 2 do not list each other with the same weight"),
        ("g.graph", "2 1 1\n2 5\n1 6\n", "nodes 1 and 2 do not list each other with the same weight"),
        ("g.graph", "2 1 1\n2\n1 6\n", "line 2: expected 0 weights of the node, then 2 numbers per edge"),
        ("g.graph", "2 1\nx\n1\n", "line 2: expected integers, got 'x'"),
    ],
)
def test_wrong_text_is_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(DatasetError) as caught:
        load_large(write(tmp_path / name, content))
    assert message in str(caught.value)
    assert name in str(caught.value)
