"""Features and labels from files: their ids, nodes without edges, and errors before anything is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hierpool.data import DatasetError, LargeGraph, load_large
from hierpool.data.node_tables import attach, read_rows
from tests.support.files import write

np = pytest.importorskip("numpy", reason="numpy (extra: train) is not installed")
PATH = "0 1\n1 2\n"


def joined(
    folder: Path, edges: str, features: str | None = None, labels: str | None = None, **options: Any
) -> LargeGraph:
    data = load_large(write(folder / "g.txt", edges))
    ids = options.pop("ids", data.names is not None)
    tables = [
        None if content is None else read_rows(write(folder / name, content), kind, ids=ids)
        for name, kind, content in (("x.txt", "features", features), ("y.txt", "labels", labels))
    ]
    return attach(data, *tables, **options)


@pytest.mark.parametrize(
    "content",
    [
        "0 1\n2 3\n4 5\n",
        "# c\n0,1\n\n2,3.0\n4,5e0\n",
        "\ufeffa;b\n0;1\n2;3\n4;5",
        "id\ta\tb\n0\t0\t1\n2\t4\t5\n1\t2\t3\n",
        '"node","a","b"\n"2",4,5\n"1",2,3\n"0",0,1\n',
    ],
)
def test_features(tmp_path: Path, content: str) -> None:
    data = joined(tmp_path, PATH, content)
    assert data.x is not None
    assert data.x.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert data.graph.num_edges == 4


@pytest.mark.parametrize(
    "content",
    [
        "1\n2\n-1\n",
        "2003\n2019\n-1\n",
        "label\n1000000000000\n1000000000001\n-1\n",
        "0 5\n1 7\n2 -1\n",  # as SNAP lists communities
        "2 -1\n1 7\n0 5\n",
        "node,cluster,probability\n1,4,0.5\n0,3,0.25\n",  # as this program writes them; node 2 is unknown
        "0.0\n1.0\n-1.0\n",
    ],
)
def test_labels_are_numbered_from_0(tmp_path: Path, content: str) -> None:
    assert joined(tmp_path, PATH, None, content).labels.tolist() == [0, 1, -1]  # type: ignore[union-attr]


def test_arrays(tmp_path: Path) -> None:
    for dtype in (">f8", "f2", "i1", "?"):
        np.save(tmp_path / "x.npy", np.array([[1, 0], [0, 1]], dtype=dtype))
        assert read_rows(tmp_path / "x.npy", "features").values.tolist() == [[1, 0], [0, 1]]
    np.save(tmp_path / "y.npy", np.array([[7], [-1], [3]], dtype=">i2"))
    assert read_rows(tmp_path / "y.npy", "labels").values.tolist() == [1, -1, 0]


@pytest.mark.parametrize(
    ("edges", "ids", "options"),
    [
        ("0 1\n1 2\n", [0, 1, 2, 3, 4], {}),
        ("0 1\n1 3\n", [0, 1, 2, 3, 4], {}),
        ("1 2\n5 1\n", [1, 2, 3, 4, 5], {}),
        ("1 2\n2 4\n", [1, 2, 3, 4, 5], {"first_id": 1}),
        ("1 2\n2 4\n", [0, 1, 2, 3, 4], {"first_id": 0}),
    ],
)
def test_nodes_without_edges(tmp_path: Path, edges: str, ids: list[int], options: dict[str, int]) -> None:
    rows = "".join(f"{i}\n" for i in ids)
    by_rows = joined(tmp_path, edges, rows, **options)
    by_number = joined(tmp_path, edges, num_nodes=5, **options)
    by_ids = joined(tmp_path, edges, "".join(f"{i} {i}\n" for i in reversed(ids)), ids=True)
    before = load_large(str(tmp_path / "g.txt"))
    old = list(range(before.graph.num_nodes)) if before.node_ids is None else before.node_ids.tolist()
    place = torch.tensor([ids.index(i) for i in old])
    for data in (by_rows, by_number, by_ids):
        assert (list(range(5)) if data.node_ids is None else data.node_ids.tolist()) == ids
        dense = data.graph.to_dense()[0]
        assert torch.equal(dense[place][:, place], before.graph.to_dense()[0])
        assert int(dense.sum()) == before.graph.num_edges
        assert data.graph.is_symmetric
        assert data.notes[-1] == "2 nodes have no edge"
    for data in (by_rows, by_ids):
        assert data.x is not None
        assert data.x.flatten().tolist() == ids


def test_nodes_of_names(tmp_path: Path) -> None:
    data = joined(tmp_path, "bob ann 2\n", "eve 5\nann 1\nbob 2\n", "bob 9\neve 8\n")
    assert data.names == ("ann", "bob", "eve")
    assert data.graph.to_dense()[0].tolist() == [[0, 2, 0], [2, 0, 0], [0, 0, 0]]
    assert data.x is not None
    assert data.x.tolist() == [[1], [2], [5]]
    assert data.labels is not None
    assert data.labels.tolist() == [-1, 1, 0]


@pytest.mark.parametrize(
    ("edges", "features", "labels", "options", "message"),
    [
        (PATH, "1\n2\n", None, {}, "x.txt must hold features of shape [3, F], got [2, 1]"),
        (PATH, None, "1\n2\n", {}, "y.txt must hold labels of shape [3], got [2]"),
        (PATH, None, "1 2 3\n1 2 3\n", {}, "y.txt must hold labels of shape [N], got [2, 3]"),
        (
            PATH,
            "1\n2\nx\n",
            None,
            {},
            "x.txt cannot be read as features: line 3: expected a finite number, got 'x'",
        ),
        (PATH, "1\n2\n3 4\n", None, {}, "x.txt cannot be read as features: line 3: expected 1 columns"),
        (PATH, "1\nnan\n3\n", None, {}, "x.txt must hold finite numbers, got NaN or infinity in line 2"),
        (
            PATH,
            "id,x\n\n0,1\n2,1e400\n1,3\n",
            None,
            {},
            "x.txt must hold finite numbers, got NaN or infinity in line 4",
        ),
        (
            PATH,
            "1\n1e39\n3\n",
            None,
            {},
            "x.txt must hold numbers in the range of float32, got 1e+39 in line 2",
        ),
        (PATH, "1e-40\n0\n0\n", None, {}, "x.txt must hold numbers in the range of float32, got 1e-40"),
        (PATH, "# none\n", None, {}, "x.txt holds no features"),
        (PATH, None, "-1\n-1\n-1\n", {}, "y.txt must hold at least one known label, got -1 only"),
        (
            PATH,
            None,
            "0\n1\n-2\n",
            {},
            "y.txt must hold integers from 0, or -1 for an unknown label, got -2 in line 3",
        ),
        (
            PATH,
            None,
            "1\n0.5\n1\n",
            {},
            "y.txt cannot be read as labels: line 2: expected a 64-bit integer, got '0.5'",
        ),
        (PATH, None, "1\n9223372036854775808\n", {}, "line 2: expected a 64-bit integer"),
        (
            "1 2\n2 3\n",
            "1\n2\n3\n4\n",
            None,
            {},
            "run from 1 to 3; pass first-id, 0 or 1, the id of the first node",
        ),
        ("1 2\n2 3\n", None, None, {"num_nodes": 4}, "num-nodes has 4 nodes, and the ids in"),
        ("1 2\n2 7\n", None, None, {"num_nodes": 4}, "num-nodes is 4, but the ids in"),
        (PATH, None, None, {"num_nodes": 2**40}, "must have 1 to 2^31 - 1 nodes"),
        (
            PATH,
            "1\n2\n3\n4\n",
            None,
            {"num_nodes": 5},
            "x.txt must hold features of shape [5, F], got [4, 1]",
        ),
        (PATH, "1\n2\n3\n4\n", "1\n2\n3\n", {}, "y.txt must hold labels of shape [4], got [3]"),
        (PATH, "0 1\n1 2\n3 3\n", None, {"ids": True}, "x.txt lacks the node 2"),
        (PATH, "0 1\n1 2\n1.0 3\n", None, {"ids": True}, "x.txt has the id 1 twice"),
        (PATH, "0 1\n1 2\na 3\n", None, {"ids": True}, "x.txt: an id must be a 64-bit integer as in"),
        ("a b\n", None, None, {"num_nodes": 4}, "num-nodes needs integers as ids"),
        ("a b\n", "a 1\nc 2\n", None, {}, "x.txt lacks the node 'b'"),
        ("a b\n", "1\n2\n", None, {"ids": False}, "x.txt must have the names of nodes in its first column"),
    ],
)
def test_errors(
    tmp_path: Path,
    edges: str,
    features: str | None,
    labels: str | None,
    options: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        joined(tmp_path, edges, features, labels, **options)
    assert message in str(caught.value)


@pytest.mark.parametrize("kind", ["features", "labels"])
def test_wrong_arrays_are_refused(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "a.npy"
    for values in (np.array([1j]), np.array(["1"]), np.array(1), np.array([[[1]]]), np.array([np.nan])):
        np.save(file, values)
        with pytest.raises(DatasetError, match=r"a\.npy must hold"):
            read_rows(file, kind)
    np.save(file, np.array([{}], dtype=object))
    with pytest.raises(DatasetError, match=rf"a\.npy cannot be read as {kind}"):
        read_rows(file, kind)
    np.save(file, np.array([2**63], dtype="u8"))
    if kind == "labels":
        with pytest.raises(
            DatasetError, match=r"a\.npy must hold integers from 0, .*, got 9223372036854775808 in row 0"
        ):
            read_rows(file, kind)


def test_a_matrix_says_which_nodes_there_are(tmp_path: Path) -> None:
    data = load_large(write(tmp_path / "g.graph", "3 1\n2\n1\n\n"))
    assert attach(data, None, None, num_nodes=3).graph.num_nodes == 3
    with pytest.raises(DatasetError, match=r"x\.txt must hold features of shape \[3, F\], got \[4, 1\]"):
        attach(data, read_rows(write(tmp_path / "x.txt", "1\n2\n3\n4\n"), "features"), None)
    with pytest.raises(DatasetError, match=r"x\.txt has 1 nodes that .*g\.graph lacks"):
        attach(data, read_rows(write(tmp_path / "x.txt", "1 1\n7 2\n"), "features", ids=True), None)
