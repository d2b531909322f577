"""A file of edges that several processes read in parts."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from hierpool._extras import require
from hierpool.data import edge_lists
from hierpool.data.files import DatasetError
from hierpool.distributed import ShardedGraph
from hierpool.distributed.partition import chunk_offsets, to_owners
from hierpool.distributed.ranks import Facts, Ranks

HEAD = 1 << 16  # bytes in which the form of the lines is looked for


class Part(NamedTuple):
    """Edges of a part of a file."""

    edge_index: Tensor  # int64 [2, E]
    weight: Tensor | None  # [E]
    num_nodes: int | None = None  # if the file says it


def load_sharded(
    path: str | Path,
    *,
    num_nodes: int | None = None,
    both_directions: bool = False,
    group: dist.ProcessGroup | None = None,
) -> ShardedGraph:
    """Read a graph whose edges no process reads as a whole; called by all processes of a group.

    Each process reads its part of the file and sends every edge to the owner of its source. The nodes are numbers from
    0, and the processes have ranges of equal length of them. Duplicate edges are summed.

    ==========  ====================================================================================================
    ``.npy``    ``edge_index``, integers ``[2, E]`` or ``[E, 2]``; mapped into memory
    ``.npz``    a matrix in compressed rows, as :func:`scipy.sparse.save_npz` writes it; each process reads its rows
    other       text with ``source target`` or ``source target weight`` in every line; each process reads a range of
                bytes, from the first line that begins in it
    ==========  ====================================================================================================

    Args:
        path: path of the file, which all processes can read; text must not be compressed.
        num_nodes: number of nodes; ``None``: that of the file, or one more than the largest number of a node.
        both_directions: also store the reverse of every edge.
        group: process group; ``None``: all processes.

    Raises:
        DatasetError: the file is cut short, damaged or of another form; in all processes, with the name of the file.
        OSError: the file cannot be read.
        ImportError: NumPy is not installed.
    """
    ranks, path, parts = Ranks(group), Path(path), []

    def read() -> Facts:
        part = _read(path, ranks.rank, ranks.size)
        parts.append(part)
        ends, weight = part.edge_index, part.weight
        if ends.numel() and int(ends.min()) < 0:
            raise DatasetError(f"{path} must have numbers of nodes from 0, got {int(ends.min())}")
        most = int(ends.max()) + 1 if ends.numel() else 0
        weighted = weight is not None and bool((weight != 1).any())
        return {"nodes": max(most, part.num_nodes or 0), "weighted": weighted}

    facts = ranks.agree(read, compared=())
    (ends, weight, _), most = parts[0], max(one["nodes"] for one in facts)
    total = most if num_nodes is None else num_nodes
    if total < most:
        raise ValueError(f"num_nodes must be at least {most}, as {path} has node {most - 1}, got {num_nodes}")
    if not any(one["weighted"] for one in facts):
        weight = None
    elif weight is None:
        weight = torch.ones(ends.size(1))
    if both_directions:
        ends = torch.cat([ends, ends.flip(0)], 1)
        weight = None if weight is None else weight.repeat(2)
    ends, weight = to_owners(ranks, ends, None if weight is None else weight.float(), total)
    own = int(chunk_offsets(total, ranks.size).diff()[ranks.rank])
    return ShardedGraph.from_edge_index(ends, own, edge_weight=weight, group=group)


def _read(path: Path, part: int, parts: int) -> Part:
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz"):
        return read_text_part(path, part, parts)
    try:
        return _read_array(path, part, parts) if suffix == ".npy" else _read_rows(path, part, parts)
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path} is cut short or damaged: {error}") from error


def _range(count: int, part: int, parts: int) -> tuple[int, int]:
    width = -(-count // parts)
    return min(part * width, count), min((part + 1) * width, count)


def _read_array(path: Path, part: int, parts: int) -> Part:
    np = require("numpy", "train")
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.ndim != 2 or 2 not in array.shape or array.dtype.kind not in "iu":
        raise ValueError(f"expected integers [2, E] or [E, 2], got {array.dtype} {list(array.shape)}")
    ends = array if array.shape[0] == 2 else array.T
    start, stop = _range(ends.shape[1], part, parts)
    return Part(torch.from_numpy(np.ascontiguousarray(ends[:, start:stop]).astype("int64")), None)


def _read_rows(path: Path, part: int, parts: int) -> Part:
    np = require("numpy", "train")
    with zipfile.ZipFile(path) as archive:
        shape = _slice(np, archive, "shape").tolist()
        layout = _slice(np, archive, "format").item()
        if layout not in (b"csr", "csr") or len(shape) != 2 or shape[0] != shape[1]:
            raise ValueError(f"expected a square matrix of format csr, got {layout!r} {shape}")
        low, high = _range(shape[0], part, parts)
        rowptr = torch.from_numpy(_slice(np, archive, "indptr", low, high + 1).astype("int64"))
        first, last = int(rowptr[0]), int(rowptr[-1])
        col, value = (_slice(np, archive, name, first, last) for name in ("indices", "data"))
    row = torch.repeat_interleave(torch.arange(low, high), rowptr.diff())
    ends = torch.stack([row, torch.from_numpy(col.astype("int64"))])
    if ends.numel() and int(ends.max()) >= shape[0]:
        raise ValueError(f"a column is {int(ends[1].max())}, but there are {shape[0]}")
    return Part(ends, torch.from_numpy(value.astype("float64")), shape[0])


def _slice(np: Any, archive: zipfile.ZipFile, name: str, start: int = 0, stop: int | None = None) -> Any:
    """Elements ``start`` to ``stop - 1`` of an array of one dimension; the others are passed over."""
    with archive.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(file)
        if dtype.hasobject or len(shape) > 1:
            raise ValueError(
                f"{name} must be an array of numbers of one dimension, got {dtype} {list(shape)}"
            )
        count = int(np.prod(shape)) if stop is None else stop - start
        file.seek(start * dtype.itemsize, io.SEEK_CUR)
        content = file.read(count * dtype.itemsize)
    if len(content) != count * dtype.itemsize:
        raise ValueError(f"{name} has fewer than {start + count} elements")
    return np.frombuffer(content, dtype)


def read_text_part(path: Path, part: int, parts: int) -> Part:
    """The edges in one of several ranges of bytes of a text."""
    np = require("numpy", "train")
    with open(path, "rb") as file:
        head = file.read(HEAD)
        start, stop = _range(os.fstat(file.fileno()).st_size, part, parts)
        if head[:2] == b"\x1f\x8b":
            raise DatasetError(f"{path} is compressed, and can not be read in parts; decompress it first")
        if start:  # a line belongs to the part in which it begins
            file.seek(start - 1)
            start += len(file.readline()) - 1
        file.seek(start)
        content = file.read(stop - start) if stop > start else b""
        content += file.readline() if content and not content.endswith(b"\n") else b""
    try:
        lines, first_lines = content.decode().splitlines(), head.decode(errors="ignore").splitlines()
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} cannot be read as text: {error}") from error
    columns = edge_lists.detect(first_lines, 1, path, head.startswith(b"%"), False)
    if columns is None:
        raise DatasetError(f"{path} holds no edge in its first {HEAD} bytes")
    skipped = max(columns.first - 1, 0) if start == 0 else 0
    where = path if start == 0 else Path(f"{path}, from byte {start}")
    found = edge_lists._parse(np, lines[skipped:], skipped + 1, columns, {}, where)
    source, target, *weight = (torch.from_numpy(column) for column in found)
    return Part(torch.stack([source, target]), weight[0] if weight else None)
