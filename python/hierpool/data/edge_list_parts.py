"""An edge list that several processes read in parts, as one process reads it whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierpool.data import edge_lists, text
from hierpool.data.files import DatasetError
from hierpool.data.fingerprints import fingerprint
from hierpool.data.large_graphs import LargeGraph, check_weights, detect_format, listed_notes
from hierpool.data.shards import HEAD, read_text_part
from hierpool.distributed import ShardedGraph
from hierpool.distributed.partition import chunk_offsets, to_owners
from hierpool.distributed.ranks import Facts, Ranks


class _Ids(NamedTuple):
    """What the processes find in their parts, together."""

    low: int
    high: int
    listed: int  # edges
    weighted: bool  # a weight is not 1
    first: tuple[int, int]  # ids of the first edge
    largest: int  # of the others
    has_weights: bool


def load_parts(ranks: Ranks, name: str, form: str = "auto") -> LargeGraph | None:
    """The graph of :func:`hierpool.data.load_large` whose edges no process reads as a whole; called by all processes.

    The nodes are split into ranges of equal length. The first process has the ids of all nodes.

    Returns:
        The part of this process; or ``None``, in all processes, if the file is not one that is read in parts: a text
        without compression, in which the ids are integers with few gaps.

    Raises:
        DatasetError, OSError, ImportError: in all processes; see :func:`hierpool.data.load_large`.
    """
    path, parts = Path(name), []

    def look() -> Facts:
        return {"notes": _notes_of_lines(path, form) if ranks.rank == 0 else None}

    notes_of_lines = ranks.agree(look, compared=())[0]["notes"]
    if notes_of_lines is None:
        return None

    def read() -> Facts:
        part = read_text_part(path, ranks.rank, ranks.size)
        parts.append(part)
        ends, weight = part.edge_index, part.weight
        try:
            weighted = weight is not None and check_weights(weight) is not None
        except ValueError as error:
            raise DatasetError(f"{path}: {error}") from error
        others = ends[:, 1:] if ranks.rank == 0 else ends
        return {
            "range": (int(ends.min()), int(ends.max())) if ends.numel() else None, "listed": ends.size(1),
            "weighted": weighted, "first": ends[:, 0].tolist() if ends.numel() else None,
            "largest": int(others.max()) if others.numel() else 0, "has_weights": weight is not None,
        }  # fmt: skip

    found = _together(ranks.agree(read, compared=()))
    if found is None or (form == "auto" and _may_be_metis(found)):
        return None
    ends, weight = parts.pop()[:2]
    weight = None if not found.weighted else torch.ones(ends.size(1)) if weight is None else weight.float()
    ends, nodes, node_ids = _numbered(ranks, ends, found)
    loop = ends[0] == ends[1]
    ends, weight = ends[:, ~loop], None if weight is None else weight[~loop]
    graph, notes = _undirected(ranks, path, ends, weight, nodes, found.listed)
    return LargeGraph(
        path.stem, graph, None, None, node_ids if ranks.rank == 0 else None, str(path), (*notes_of_lines, *notes),
        is_open=True, known_fingerprint=fingerprint(graph, None),
    )  # fmt: skip


def _notes_of_lines(path: Path, form: str) -> tuple[str, ...] | None:
    """What the first lines say of the columns; ``None`` if the file is not read in parts, or not at all."""
    if form not in ("auto", "edges") or not path.is_file() or text.without_compression(path) != path:
        return None
    with open(path, "rb") as file:
        head = file.read(HEAD)
    if head.startswith((b"\x1f\x8b", b"% bip")) or (form == "auto" and detect_format(path) != "edges"):
        return None
    lines = head.decode(errors="ignore").splitlines()[: None if len(head) < HEAD else -1]
    try:
        columns = edge_lists.detect(lines, 1, path, head.startswith(b"%"), False if form == "edges" else None)
    except DatasetError:
        return None  # the reader of the whole file names the reason
    return None if columns is None or columns.names else columns.notes


def _together(facts: list[Facts]) -> _Ids | None:
    """``None`` if there is no edge in the first part, or if ids have large gaps."""
    ranges = [one["range"] for one in facts if one["range"] is not None]
    if facts[0]["first"] is None:
        return None
    low, high = min(one for one, _ in ranges), max(other for _, other in ranges)
    listed = sum(one["listed"] for one in facts)
    if high - low >= 4 * listed:
        return None
    weighted, has_weights = (any(one[name] for one in facts) for name in ("weighted", "has_weights"))
    largest = max(one["largest"] for one in facts)
    return _Ids(low, high, listed, weighted, tuple(facts[0]["first"]), largest, has_weights)


def _may_be_metis(found: _Ids) -> bool:
    """Whether the first line may be that of another format, which the reader of the whole file finds out."""
    nodes, listed = found.first
    count, columns = found.listed - 1, 3 if found.has_weights else 2
    is_head = 2 * listed == count * columns and nodes >= max(count, found.largest)
    return is_head or (listed == count and max(nodes, listed) > found.largest)


def _numbered(ranks: Ranks, ends: Tensor, found: _Ids) -> tuple[Tensor, int, Tensor | None]:
    """The ends numbered from 0 in the order of ids, the number of nodes, and the ids if they are others."""
    used = torch.zeros(found.high - found.low + 1, dtype=torch.int32)
    used[ends.reshape(-1) - found.low] = 1
    number = (ranks.total(used) > 0).cumsum(0, dtype=torch.int32)
    nodes = int(number[-1])
    ids = None
    if found.low != 0 or nodes != found.high + 1:
        ids = number.diff(prepend=number.new_zeros(1)).nonzero().flatten() + found.low
    return (number - 1)[ends - found.low], nodes, ids


def _undirected(
    ranks: Ranks, path: Path, ends: Tensor, weight: Tensor | None, nodes: int, listed: int
) -> tuple[ShardedGraph, list[str]]:
    """The graph as :func:`hierpool.data.large_graphs.undirected` makes it, and its notes."""
    own = int(chunk_offsets(nodes, ranks.size).diff()[ranks.rank])
    kept = int(ranks.total(torch.tensor([ends.size(1)])))
    mine, mine_weight = to_owners(ranks, ends, weight, nodes)
    options: dict[str, Any] = {"group": ranks.group}
    graph = ShardedGraph.from_edge_index(
        mine, own, edge_weight=mine_weight, symmetric=False if weight is None else None, **options
    )
    duplicates = kept - graph.total_edges
    graph = graph.with_value(None) if weight is None else graph
    one_way = not graph.is_symmetric
    if one_way:
        other, other_weight = to_owners(ranks, ends.flip(0), weight, nodes)
        both = None if mine_weight is None or other_weight is None else torch.cat([mine_weight, other_weight])
        graph = ShardedGraph.from_edge_index(
            torch.cat([mine, other], 1), own, edge_weight=both, symmetric=True, **options
        )
        graph = graph.with_value(None, symmetric=True) if weight is None else graph

    def check() -> Facts:
        if graph.value is not None and not bool(graph.value.isfinite().all()):
            raise DatasetError(f"{path}: sums of weights of duplicate edges must be in the range of float32")
        return {}

    ranks.agree(check)
    return graph, listed_notes(listed - kept, duplicates, weight is not None, listed if one_way else 0)
