"""Every reader on thousands of changed files: a file is read rightly or refused with a message that names it.

What is right is computed here once more, plainly, from the text, or by SciPy from the arrays.
"""

from __future__ import annotations

import ast
import gzip
import io
import random
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import torch

from hierpool.data import DatasetError, load_tu, read_edge_list
from hierpool.data.matrix_files import Matrix, read_matrix_market, read_metis, read_npz
from hierpool.data.node_tables import NodeTable, read_rows
from hierpool.training import CheckpointError, checkpoint
from tests.support.mutation import MUTATIONS, mutate

np = pytest.importorskip("numpy", reason="numpy (extra: train) is not installed")
sparse = pytest.importorskip("scipy.sparse", reason="scipy (extra: train) is not installed")
READERS = 15
Judge = Callable[[bytes, Any], None]


def lines_of(content: bytes) -> list[str]:
    text = (
        gzip.decompress(content).decode("utf-8-sig")
        if content[:2] == b"\x1f\x8b"
        else content.decode("utf-8-sig")
    )
    return [line.strip() for line in re.split(r"\r\n|\r|\n", text)]


def numbers(words: list[str]) -> list[Decimal]:
    assert all(re.fullmatch(r"[-+.eE\d]+", word, re.ASCII) for word in words), words
    return [Decimal(word) for word in words]


def try_mutations(
    path: Path,
    content: bytes,
    read: Callable[[Path], Any],
    judge: Judge,
    *,
    change: Callable[[bytes, str], bytes] = mutate,
    named: str = "",
) -> None:
    """Read ``content`` and its mutations; there must be both files that are read and files that are refused."""
    named = named or path.name
    path.write_bytes(content)
    judge(content, read(path))
    refused, count = 0, MUTATIONS // READERS
    for number in range(count):
        changed = change(content, f"{path.name} {number}")
        path.write_bytes(changed)
        try:
            found = read(path)
        except Exception as error:
            if not isinstance(error, DatasetError | CheckpointError) or named not in str(error):
                raise AssertionError(f"mutation {number}, {changed!r}") from error
            refused += 1
        else:
            try:
                judge(changed, found)
            except Exception as error:
                raise AssertionError(f"mutation {number} was read as {found}, {changed!r}") from error
    assert 0 < refused < count


def judge_edges(content: bytes, found: Any) -> None:
    lines = [line for line in lines_of(content) if line and line[0] not in "#%"]
    if found.names is None:
        lines = [line.partition("#")[0].strip() for line in lines]
    lines = [
        re.sub(r"\{.*\}$", lambda d: f" {ast.literal_eval(d[0]).get('weight', '')}", line) for line in lines
    ]
    lines = lines[1:] if any("names of columns" in note for note in found.notes) else lines
    separator = next((sign for sign in ";," if sign in lines[0]), None)
    weights = [] if found.weight is None else found.weight.tolist()
    assert len(lines) == found.source.numel()
    for i, line in enumerate(lines):
        words = [re.sub('^"(.*)"$', r"\1", word.strip()) for word in line.strip(" ,;").split(separator)]
        ids = [found.source[i].item(), found.target[i].item()]
        if found.names is None:
            assert numbers(words[:2]) == ids
        else:
            assert words[:2] == [found.names[k] for k in ids]
        assert [float(word) for word in numbers(words[2:3])] == weights[i : i + 1]


EDGES = [(i, (i + 1) % 12) for i in range(12)] + [(i, (i + 3) % 12) for i in range(12)]


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("spaces.txt", "{} {}\n"),
        ("weights.csv", "{},{},0.25\n"),
        ("names.txt", "n{} n{}\n"),
        ("networkx.edgelist", "{} {} {{'weight': 2.5}}\n"),
        ("packed.txt.gz", "{}\t{}\n"),
    ],
)
def test_edge_lists(tmp_path: Path, name: str, form: str) -> None:
    content = ("# comment\n" + "".join(form.format(u, v) for u, v in EDGES)).encode()
    if name.endswith(".gz"):
        content = gzip.compress(content, mtime=0)
    try_mutations(tmp_path / name, content, read_edge_list, judge_edges)


def judge_metis(content: bytes, found: Matrix) -> None:
    nodes, edges = found.num_nodes, found.edge_index.t().tolist()
    rows = [numbers(line.split()) for line in lines_of(content) if line[:1] != "%"]
    assert rows[0][:2] == [nodes, len(edges) // 2]
    listed = [[i, int(j) - 1] for i, row in enumerate(rows[1 : nodes + 1]) for j in row[::2]]
    assert listed == edges == [edge for edge in listed if 0 <= edge[1] < nodes]
    assert sorted(edges) == sorted([j, i] for i, j in edges)
    assert [float(w) for row in rows[1:] for w in row[1::2]] == found.value.tolist()


def test_metis(tmp_path: Path) -> None:
    neighbours: dict[int, list[int]] = {i: [] for i in range(13)}
    for u, v in EDGES:
        neighbours[u].append(v)
        neighbours[v].append(u)
    body = "".join(" ".join(f"{v + 1} 3" for v in row) + "\n" for row in neighbours.values())
    try_mutations(tmp_path / "g.graph", f"% ring\n13 24 001\n{body}".encode(), read_metis, judge_metis)


def judge_matrix_market(content: bytes, found: Matrix) -> None:
    rows = [numbers(line.split()) for line in lines_of(content) if line and line[0] != "%"]
    assert rows[0] == [found.num_nodes, found.num_nodes, len(rows) - 1]
    general = b"general" in content.lower()
    expected = sorted((int(i) - 1, int(j) - 1, float(v)) for i, j, v in rows[1:])
    if not general:
        expected = sorted([*expected, *((j, i, v) for i, j, v in expected if i != j)])
    edges = zip(*found.edge_index.tolist(), found.value.tolist(), strict=True)
    assert sorted(edges) == expected


def test_matrix_market(tmp_path: Path) -> None:
    head = "%%MatrixMarket matrix coordinate real symmetric\n12 12 24\n"
    body = "".join(f"{max(u, v) + 1} {min(u, v) + 1} 1.5\n" for u, v in EDGES)
    try_mutations(tmp_path / "g.mtx", (head + body).encode(), read_matrix_market, judge_matrix_market)


def saved(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


RING = sparse.csr_matrix((np.ones(24), np.array(EDGES).T), (12, 12))
CSR = {"format": np.array(b"csr"), "shape": np.array([12, 12]), "data": RING.data}
CSR |= {"indices": RING.indices, "indptr": RING.indptr}


def judge_npz(content: bytes, found: Matrix) -> None:
    expected = sparse.load_npz(io.BytesIO(content))
    ours = sparse.coo_matrix((found.value, found.edge_index.numpy()), (found.num_nodes,) * 2)
    np.testing.assert_array_equal(ours.toarray(), expected.astype(float).toarray())


def change_arrays(content: bytes, seed: str) -> bytes:
    """The arrays with a changed element, dtype or shape, or without one of them."""
    draw = random.Random(seed)
    with np.load(io.BytesIO(content)) as file:
        arrays = dict(file)
    key = draw.choice(sorted(arrays))
    array = arrays[key]
    kind = draw.randrange(5)
    if kind == 0:
        del arrays[key]
    elif kind == 1:
        dtypes = ("f2", ">f8", ">i4", "u1", "u8", "c8", "?", "S3", "U3", "i8")
        arrays[key] = array.astype(draw.choice(dtypes)) if array.dtype.kind in "fi" else array
    elif kind == 2:
        arrays[key] = draw.choice((array[..., None], array.reshape(-1)[:-1], array.reshape(-1).repeat(2)))
    elif array.dtype.kind in "fi":
        values = (-1, 0, 1, 5, 11, 12, 13, 24, 2**40 if array.dtype.itemsize == 8 else 99)
        copy = array.copy()
        copy.reshape(-1)[draw.randrange(array.size)] = draw.choice(values)
        arrays[key] = copy + 0.5 if kind == 3 else copy
    return saved(**arrays)


@pytest.mark.parametrize("change", [mutate, change_arrays])
def test_npz(tmp_path: Path, change: Any) -> None:
    try_mutations(tmp_path / f"{change.__name__}.npz", saved(**CSR), read_npz, judge_npz, change=change)


def judge_features(content: bytes, found: NodeTable) -> None:
    rows = [line.partition("#")[0].strip() for line in lines_of(content) if line and line[0] not in "#%"]
    table = [[word.strip().strip('"') for word in row.split("," if "," in rows[0] else None)] for row in rows]
    table = table[len(table) - len(found.values) :]
    assert len(table) >= len(rows) - 1
    values = [[float(word) for word in numbers(words)] for words in table]
    assert torch.equal(torch.tensor(values), found.values)


def test_features(tmp_path: Path) -> None:
    content = "".join(f"{i}.5,{-i}\n" for i in range(12)).encode()
    try_mutations(tmp_path / "x.csv", content, lambda path: read_rows(path, "features"), judge_features)


TU = {
    "A": "".join(f"{u}, {v}\n{v}, {u}\n" for u, v in [(1, 2), (2, 3), (1, 3), (4, 5), (6, 7)]),
    "graph_indicator": "1\n1\n1\n2\n2\n3\n3\n4\n4\n",
    "graph_labels": "1\n-1\n1\n1\n",
    "node_labels": "0\n1\n2\n0\n0\n1\n2\n0\n1\n",
    "node_attributes": "".join(f"{i}.5, -1.0\n" for i in range(9)),
}


def test_tu(tmp_path: Path) -> None:
    raw = tmp_path / "T" / "raw"
    raw.mkdir(parents=True)
    for kind, text in TU.items():
        (raw / f"T_{kind}.txt").write_text(text)

    def table(kind: str) -> list[list[int | float]]:
        lines = [line.partition("#")[0].strip() for line in lines_of((raw / f"T_{kind}.txt").read_bytes())]
        rows = [
            re.split(r"\s*[,;]\s*|\s+", line.replace('"', "")) for line in lines if line[:1] not in ("", "%")
        ]
        convert = float if kind == "node_attributes" else int
        return [[convert(word) for word in numbers(row)] for row in rows]

    def judge(_: bytes, found: Any) -> None:
        owner = [row[0] for row in table("graph_indicator")]
        labels = [row[0] for row in table("graph_labels")]
        assert len(found.graphs) == len(labels) == owner[-1]
        assert found.labels.tolist() == [sorted(set(labels)).index(label) for label in labels]
        attributes, kinds, at = table("node_attributes"), table("node_labels"), 0
        edges = {(u, v) for u, v in table("A") if u != v}
        for number, graph in enumerate(found.graphs, 1):
            nodes, width = owner.count(number), len(attributes[0])
            assert graph.x[:, :width].tolist() == torch.tensor(attributes[at : at + nodes]).tolist()
            hot = graph.x[:, width:]
            assert hot.sum(1).eq(len(kinds[0])).all()
            inside = {(u - at - 1, v - at - 1) for u, v in edges if owner[int(u) - 1] == number}
            assert sorted(inside) == list(map(tuple, graph.edge_index.t().tolist()))
            at += nodes
        assert at == len(owner) == len(attributes) == len(kinds)

    for kind, text in TU.items():  # in turn, with the others whole
        file = raw / f"T_{kind}.txt"
        try_mutations(file, text.encode(), lambda _: load_tu("T", tmp_path), judge, named="T_")
        file.write_text(text)


def test_checkpoints(tmp_path: Path) -> None:
    identity = {"k": 4, "loss": "dmon"}
    state = {"net": {"weight": torch.arange(6.0).view(2, 3)}, "history": [{"step": 1.0}]}
    checkpoint.save(tmp_path / "c.pt", identity, state)

    def judge(_: bytes, found: Any) -> None:
        assert torch.equal(found["net"].pop("weight"), state["net"]["weight"])  # type: ignore[index]
        assert found == {"net": {}, "history": state["history"]}

    content = (tmp_path / "c.pt").read_bytes()
    try_mutations(tmp_path / "c.pt", content, lambda path: checkpoint.load(path, identity), judge)
