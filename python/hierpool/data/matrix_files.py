"""Files of an adjacency matrix: ``.npz``, Matrix Market and METIS."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierpool._extras import require
from hierpool.data import text
from hierpool.data.files import DatasetError


class Matrix(NamedTuple):
    """Entries of an adjacency matrix, and the features and labels of its nodes."""

    edge_index: Tensor  # [2, E] int64
    value: Tensor  # [E] float64
    num_nodes: int
    first_id: int  # number of the first row in the file
    x: Tensor | None = None  # [N, F] float32
    labels: Tensor | None = None  # [N] int64


def check_rows(num_nodes: int, where: str) -> int:
    """Raise :class:`DatasetError` unless a graph can have this number of nodes."""
    if not 0 < num_nodes < 1 << 31:
        raise DatasetError(f"{where} must have 1 to 2^31 - 1 nodes, got {num_nodes}")
    return num_nodes


def as_features(values: Any, where: str, lines: Sequence[int] | None = None) -> Tensor:
    """Features ``[N, F]`` as float32.

    Args:
        values: numbers ``[N, F]``.
        where: start of the messages.
        lines: numbers of the lines that the rows are from; ``None``: they are not from a text.

    Raises:
        DatasetError: a value is no finite number, or the largest is outside the range of float32.
    """
    np = require("numpy", "train")
    if values.ndim != 2 or values.dtype.kind not in "fiub":
        raise DatasetError(
            f"{where} must hold numbers of shape [N, F], got {values.dtype} {list(values.shape)}"
        )
    finite = np.isfinite(values)
    if not finite.all():
        place = _place(int((~finite).any(1).argmax()), lines)
        raise DatasetError(f"{where} must hold finite numbers, got NaN or infinity in {place}")
    size = np.abs(values.astype("float64", copy=False))
    largest = float(size.max(initial=0))
    limits = torch.finfo(torch.float32)
    if largest > limits.max or 0 < largest < limits.tiny:
        place = _place(int((size == largest).any(1).argmax()), lines)
        raise DatasetError(f"{where} must hold numbers in the range of float32, got {largest:g} in {place}")
    return torch.from_numpy(values.astype("float32"))


def _place(row: int, lines: Sequence[int] | None) -> str:
    """Where a row is from: its line, or its index."""
    return f"row {row}" if lines is None else f"line {lines[row]}"


def as_labels(values: Any, where: str, lines: Sequence[int] | None = None) -> Tensor:
    """Labels numbered from 0 in ascending order, and -1 where they are unknown, int64 ``[N]``.

    Args:
        values: integers from 0, and -1 for an unknown label, ``[N]``.
        where: start of the messages.
        lines: numbers of the lines that the rows are from; ``None``: they are not from a text.

    Raises:
        DatasetError: a value is no such integer, or no label is known.
    """
    if values.ndim != 1 or values.dtype.kind not in "fiub":
        raise DatasetError(
            f"{where} must hold integers of shape [N], got {values.dtype} {list(values.shape)}"
        )
    fits = (abs(values) < 2.0**63) & (values >= -1)
    if values.dtype.kind == "f":
        fits &= values == require("numpy", "train").floor(values)
    if not fits.all():
        row = int((~fits).argmax())
        raise DatasetError(
            f"{where} must hold integers from 0, or -1 for an unknown label, got {values[row]} in {_place(row, lines)}"
        )
    labels = torch.from_numpy(values.astype("int64"))
    known = labels >= 0
    if not bool(known.any()):
        raise DatasetError(f"{where} must hold at least one known label, got -1 only")
    labels[known] = labels[known].unique(return_inverse=True)[1]
    return labels


def read_npz(path: Path) -> Matrix:
    """Read a sparse matrix of SciPy, or of the Amazon datasets; :func:`hierpool.data.load_large` lists the arrays.

    Raises:
        DatasetError: the contents are invalid; the message names the file and the array.
        OSError: the file cannot be read.
        ImportError: NumPy is not installed.
    """
    np = require("numpy", "train")
    with open(path, "rb") as file:
        try:
            loaded = np.load(file, allow_pickle=False)
            wanted = ("format", "shape", "labels", "row", "col", "data", "indices", "indptr", "attr_matrix")
            arrays = {key: loaded[key] for key in loaded.files if key in wanted or key.startswith(_PREFIXES)}
        except Exception as error:  # damaged files raise many types
            raise DatasetError(f"{path} is not an .npz file of plain arrays: {error}") from error
        found = ", ".join(loaded.files) or "nothing"
    amazon = "adj_indptr" in arrays
    read = _Arrays(arrays, path, found)
    layout = "csr" if amazon else read.word("format")
    if layout not in ("csr", "csc", "coo"):
        raise DatasetError(f"{path} must hold a matrix of format csr, csc or coo, got {layout}")
    prefix = "adj_" if amazon else ""
    shape = read.shape(prefix)
    if shape[0] != shape[1]:
        raise DatasetError(f"{path} must hold a square matrix, got {shape}")
    nodes = check_rows(shape[0], str(path))
    edge_index, value = read.entries(prefix, shape, layout == "coo")
    x = read.attributes() if amazon else None
    labels = as_labels(arrays["labels"], f"{path}: labels") if amazon and "labels" in arrays else None
    for key, rows in (("attributes", x), ("labels", labels)):
        if rows is not None and len(rows) != nodes:
            raise DatasetError(f"{path} has {len(rows)} {key} for {nodes} nodes")
    return Matrix(edge_index, value, nodes, 0, x, labels)


_PREFIXES = ("adj_", "attr_")


class _Arrays:
    """Checked access to the arrays of an ``.npz`` file."""

    def __init__(self, arrays: dict[str, Any], path: Path, found: str) -> None:
        self.arrays, self.path, self.found = arrays, path, found

    def get(self, key: str, kinds: str, what: str) -> Any:
        """The array of a name, with one of NumPy's kinds of dtypes."""
        if key not in self.arrays:
            raise DatasetError(
                f"{self.path} must hold a sparse matrix as scipy.sparse.save_npz writes it, or adj_data, adj_indices, "
                f"adj_indptr and adj_shape; it lacks {key} and has {self.found}"
            )
        array = self.arrays[key]
        if array.dtype.kind not in kinds:
            raise DatasetError(f"{self.path}: {key} must hold {what}, got {array.dtype}")
        return array

    def word(self, key: str) -> str:
        array = self.get(key, "SU", "one word")
        if array.size != 1:
            raise DatasetError(f"{self.path}: {key} must hold one word, got shape {list(array.shape)}")
        word = array.item()
        return word.decode("ascii", "replace") if isinstance(word, bytes) else str(word)

    def vector(self, key: str, integers: bool = True) -> Tensor:
        """A one-dimensional array as int64 or float64."""
        array = self.get(key, "iu" if integers else "fiub", "integers" if integers else "real numbers")
        if array.ndim != 1:
            raise DatasetError(f"{self.path}: {key} must have one dimension, got shape {list(array.shape)}")
        if array.dtype.kind == "u" and integers and (array > (1 << 63) - 1).any():
            raise DatasetError(f"{self.path}: {key} must hold 64-bit integers, got {array.max()}")
        return torch.from_numpy(array.astype("int64" if integers else "float64"))

    def shape(self, prefix: str) -> tuple[int, int]:
        shape = self.vector(f"{prefix}shape").tolist()
        if len(shape) != 2 or min(shape) < 0:
            raise DatasetError(f"{self.path}: {prefix}shape must be that of a matrix, got {shape}")
        return shape[0], shape[1]

    def entries(self, prefix: str, shape: tuple[int, int], coordinates: bool) -> tuple[Tensor, Tensor]:
        """The indices and float64 values of the entries of a matrix in coordinates or in compressed rows."""
        names = [prefix + kind for kind in (("row", "col") if coordinates else ("indptr", "indices"))]
        row, col = map(self.vector, names)
        value = self.vector(f"{prefix}data", integers=False)
        fits = True
        if not coordinates:
            fits = len(row) == shape[0] + 1 and int(row[0]) == 0 and int(row[-1]) == len(col)
            fits = fits and bool((row[1:] >= row[:-1]).all())
            row = torch.arange(shape[0]).repeat_interleave(row.diff()) if fits else row
        if fits and len(row) == len(col) == len(value):
            index = torch.stack([row, col])
            if bool(((index >= 0) & (index < torch.tensor(shape)[:, None])).all()):
                return index, value
        raise DatasetError(
            f"{self.path} is corrupt: {names[0]}, {names[1]} and {prefix}data do not fit {prefix}shape"
        )

    def attributes(self) -> Tensor | None:
        """Node features, float32 ``[N, F]``, of a dense or a CSR matrix."""
        if "attr_matrix" in self.arrays:
            return as_features(self.arrays["attr_matrix"], f"{self.path}: attr_matrix")
        if "attr_data" not in self.arrays:
            return None
        shape = self.shape("attr_")
        index, value = self.entries("attr_", shape, False)
        as_features(value.numpy()[:, None], f"{self.path}: attr_data")
        try:
            x = torch.zeros(shape)
        except RuntimeError as error:
            raise DatasetError(f"{self.path}: features of shape {shape} do not fit into memory") from error
        return x.index_put_((index[0], index[1]), value.float(), accumulate=True)


def read_matrix_market(path: Path) -> Matrix:
    """Read a square, real matrix of coordinates in the Matrix Market format; rows are numbered from 1.

    SciPy's reader is not used, as some damaged headers end the process in it.

    Raises:
        DatasetError: the contents are invalid; the message names the file and the line.
        OSError: the file cannot be read.
        ImportError: NumPy is not installed.
    """
    np = require("numpy", "train")
    tables = []
    first = 1  # number of the chunk's first line
    nodes = listed = 0
    field = symmetry = ""
    for lines in text.read_chunks(path):
        rows = list(text.contents(lines, first, trailing=False))
        if not field:
            field, symmetry = _read_banner(path, lines[0])
        if not nodes and rows:
            nodes, listed = _read_sizes(path, *rows.pop(0))
        if rows:
            tables.append(_read_coordinates(path, rows, nodes, field == "pattern"))
        first += len(lines)
    table = np.concatenate([np.zeros((0, 3)), *tables])
    if not nodes or len(table) != listed:
        raise DatasetError(f"{path} has {len(table)} entries, but its header says {listed}")
    index = torch.from_numpy(table[:, :2].T.astype("int64")) - 1
    value = torch.from_numpy(table[:, 2].copy())
    if symmetry == "symmetric":
        off = index[0] != index[1]
        index, value = torch.cat([index, index[:, off].flip(0)], 1), torch.cat([value, value[off]])
    return Matrix(index, value, nodes, 1)


def _read_banner(path: Path, line: str) -> tuple[str, str]:
    """The kind of values and the symmetry."""
    words = line.lower().split()
    if len(words) != 5 or words[:2] != ["%%matrixmarket", "matrix"]:
        raise DatasetError(f"{path}, line 1: expected a Matrix Market header, got {line.strip()!r:.80}")
    form, field, symmetry = words[2:]
    fits = form == "coordinate" and field in ("real", "double", "integer", "pattern")
    if not fits or symmetry not in ("general", "symmetric"):
        raise DatasetError(
            f"{path} must hold real coordinates, general or symmetric, got {' '.join(words[2:])}"
        )
    return field, symmetry


def _read_sizes(path: Path, number: int, line: str) -> tuple[int, int]:
    """The numbers of nodes and of listed entries."""
    sizes = _integers(line, f"{path}, line {number}")
    if len(sizes) != 3 or sizes[0] != sizes[1] or sizes[2] < 0:
        raise DatasetError(f"{path}, line {number}: expected the sizes of a square matrix, got {line!r:.80}")
    return check_rows(sizes[0], str(path)), sizes[2]


def _read_coordinates(path: Path, rows: list[text.Numbered], nodes: int, pattern: bool) -> Any:
    """Row, column and value of entries, float64 ``[entries, 3]``."""
    np = require("numpy", "train")
    try:
        table = text.parse_numbers(rows, None, integers=pattern).astype("float64")
    except ValueError as error:
        raise DatasetError(f"{path}, {error}") from error
    width = 2 if pattern else 3
    if table.shape[1] != width:
        raise DatasetError(f"{path}, line {rows[0][0]}: expected {width} columns, got {table.shape[1]}")
    ends = table[:, :2]
    wrong = ((ends < 1) | (ends > nodes) | (ends != np.floor(ends))).any(1)
    if wrong.any():
        number, line = rows[int(wrong.argmax())]
        raise DatasetError(
            f"{path}, line {number}: expected two integers from 1 to {nodes}, got {line!r:.80}"
        )
    return np.column_stack([table, np.ones(len(table))]) if pattern else table


def read_metis(path: Path) -> Matrix:
    """Read a graph in the format of METIS: a line of neighbours for each node; nodes are numbered from 1.

    The first line has the numbers of nodes and edges, then optionally which weights there are (three digits: sizes of
    nodes, weights of nodes, weights of edges) and how many weights a node has. Sizes and weights of nodes are left
    out. Lines that start with ``%`` are comments; an empty line is a node without neighbours.

    Raises:
        DatasetError: the contents are invalid; the message names the file and the line.
        OSError: the file cannot be read.
    """
    lines = (line for chunk in text.read_chunks(path) for line in chunk)
    rows = [
        (number, _integers(line, f"{path}, line {number}"))
        for number, line in enumerate(lines, 1)
        if not line.startswith("%")
    ]
    nodes, edges, unused, step = _read_metis_header(path, *rows[0]) if rows else (0, 0, 0, 1)
    del rows[:1]
    while len(rows) > nodes and not rows[-1][1]:
        rows.pop()
    if len(rows) != nodes:
        raise DatasetError(f"{path} has {len(rows)} lines of neighbours for {nodes} nodes")
    source, target, value = [], [], []
    for node, (number, words) in enumerate(rows):
        neighbours, weights = words[unused::step], words[unused + 1 :: step] if step == 2 else []
        where = f"{path}, line {number}"
        if len(words) < unused or (len(words) - unused) % step:
            raise DatasetError(
                f"{where}: expected {unused} weights of the node, then {step} numbers per edge"
            )
        if (
            any(not 1 <= other <= nodes or other == node + 1 for other in neighbours)
            or min(weights, default=0) < 0
        ):
            raise DatasetError(
                f"{where}: neighbours must lie between 1 and {nodes} and not be the node {node + 1}"
            )
        source += [node] * len(neighbours)
        target += [other - 1 for other in neighbours]
        value += weights
    if len(target) != 2 * edges:
        raise DatasetError(
            f"{path} lists {len(target)} neighbours for {edges} edges, which must be twice as many"
        )
    index = torch.tensor([source, target], dtype=torch.int64)
    weight = (
        torch.tensor(value, dtype=torch.float64)
        if step == 2
        else torch.ones(len(target), dtype=torch.float64)
    )
    _check_both_directions(path, index, weight, nodes)
    return Matrix(index, weight, check_rows(nodes, str(path)), 1)


def _integers(line: str, where: str) -> list[int]:
    words = [text.as_integer(word) for word in line.split()]
    integers = [word for word in words if word is not None]
    if len(integers) != len(words):
        raise DatasetError(f"{where}: expected integers, got {line.strip()!r:.80}")
    return integers


def _read_metis_header(path: Path, number: int, words: list[int]) -> tuple[int, int, int, int]:
    """The numbers of nodes, of edges, of weights of a node, and of numbers for an edge."""
    kinds = f"{words[2] if len(words) > 2 else 0:03d}"
    if not 2 <= len(words) <= 4 or min(words) < 0 or len(kinds) != 3 or set(kinds) - {"0", "1"}:
        raise DatasetError(f"{path}, line {number}: expected the numbers of nodes and edges, got {words}")
    weights = (words[3] if len(words) > 3 else 1) if kinds[1] == "1" else 0
    return words[0], words[1], int(kinds[0]) + weights, 1 + int(kinds[2])


def _check_both_directions(path: Path, index: Tensor, weight: Tensor, nodes: int) -> None:
    forward, order = (index[0] * nodes + index[1]).sort()
    backward, other = (index[1] * nodes + index[0]).sort()
    differ = (forward != backward) | (weight[order] != weight[other])
    if bool(differ.any()):
        at = int(differ.nonzero()[0])
        i, j = divmod(int(min(forward[at], backward[at])), nodes)
        raise DatasetError(f"{path}: nodes {i + 1} and {j + 1} do not list each other with the same weight")


def is_metis(path: Path) -> bool:
    """True if the whole file is valid METIS."""
    try:
        read_metis(path)
    except DatasetError:
        return False
    return True
