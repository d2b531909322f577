"""One undirected graph from an edge list, a file of a matrix, or a dataset of PyTorch Geometric."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierpool._extras import require
from hierpool.data import matrix_files, text
from hierpool.data.edge_lists import EdgeList, read_edge_list
from hierpool.data.files import DatasetError, cache_folder, download, find_raw_folder
from hierpool.data.fingerprints import fingerprint
from hierpool.graph import RaggedGraph

PLANETOID = ("Cora", "CiteSeer", "PubMed")
AMAZON = {"Computers": "amazon_electronics_computers.npz", "Photo": "amazon_electronics_photo.npz"}
DATASETS = (*PLANETOID, *AMAZON)
FORMATS = ("auto", "edges", "names", "matrix-market", "metis", "npz")
_SUFFIXES = {".npz": "npz", ".mtx": "matrix-market", ".graph": "metis", ".metis": "metis"}
_MATRICES = {
    "npz": matrix_files.read_npz,
    "matrix-market": matrix_files.read_matrix_market,
    "metis": matrix_files.read_metis,
}


class LargeGraph(NamedTuple):
    """An undirected graph without self-loops, with features and labels of its nodes."""

    name: str
    graph: Any  # RaggedGraph, or hierpool.distributed.ShardedGraph
    x: Tensor | None  # [N, F] float32
    labels: Tensor | None  # [N] int64
    node_ids: Tensor | None  # [N] int64, ascending ids in the file; None: 0 to N - 1
    source: str  # location of the file
    notes: tuple[str, ...]  # changes that reading made
    names: tuple[str, ...] | None = (
        None  # ascending names of the nodes, if the file has names in place of ids
    )
    is_open: bool = False  # from an edge list, which does not say which nodes have no edge
    known_fingerprint: str | None = None  # of a graph that several processes share

    @property
    def fingerprint(self) -> str:
        """Hash of the graph and the features; see :func:`hierpool.data.fingerprints.fingerprint`."""
        if self.known_fingerprint is not None:
            return self.known_fingerprint
        return fingerprint(self.graph, self.x)

    def places(self, ids: Tensor | Sequence[str]) -> Tensor:
        """The indices of nodes with these ids, which the graph has; names if it has names."""
        if self.names is not None:
            index = {name: place for place, name in enumerate(self.names)}
            return torch.tensor([index[str(name)] for name in ids], dtype=torch.int64)
        assert isinstance(ids, Tensor)
        return ids if self.node_ids is None else torch.searchsorted(self.node_ids, ids)


def load_large(
    name: str, root: str | Path | None = None, *, cache: str | Path | None = None, form: str = "auto"
) -> LargeGraph:
    """Load a graph from a file, or a dataset by its name.

    An ``.npz`` file holds the arrays of :func:`scipy.sparse.save_npz` or those of the Amazon datasets: ``adj_data``,
    ``adj_indices``, ``adj_indptr``, ``adj_shape``, and optionally ``labels`` and features in ``attr_matrix`` or in
    ``attr_data``, ``attr_indices``, ``attr_indptr``, ``attr_shape``. ``.mtx`` is Matrix Market; ``.graph`` and
    ``.metis`` are METIS. Any other file is an edge list (:func:`read_edge_list`). Datasets are searched in ``root``, or
    in the folder in the environment variable ``HIERPOOL_DATA`` and in earlier downloads, and downloaded through PyTorch
    Geometric otherwise. A data root holds ``planetoid/NAME/raw`` and ``large/Amazon/NAME/raw``, with or without the
    outer folders.

    The graph is undirected: if the adjacency matrix in the file is not symmetric, both directions of every edge are
    stored. Duplicate edges without weights are merged. Weights of duplicates and of both directions are summed.
    Self-loops are removed.

    Args:
        name: path, or one of ``Cora``, ``CiteSeer``, ``PubMed``, ``Computers``, ``Photo``.
        root: data root.
        cache: folder of downloads. The default is ``HIERPOOL_CACHE``, or ``hierpool`` in the user's cache folder.
        form: format of the file: ``"edges"``, ``"names"`` (an edge list with names as ids), ``"matrix-market"``,
            ``"metis"``, ``"npz"``; ``"auto"`` decides by the suffix and the first line.

    Raises:
        DatasetError: the graph is missing or corrupt; the message names the file.
        ValueError: ``form`` is unknown.
        OSError: the file cannot be read.
        ImportError: an optional package is needed and not installed.
    """
    path = Path(name)
    if form not in FORMATS:
        raise ValueError(f"form must be one of {', '.join(FORMATS)}, got {form!r}")
    if name in DATASETS and not path.exists():
        return _load_dataset(name, root, cache_folder(cache))
    if not path.exists() or path.is_dir():
        raise DatasetError(f"input must be a file or one of {', '.join(DATASETS)}; {name} is neither")
    found = detect_format(path) if form == "auto" else form
    if found in _MATRICES:
        return _of_matrix(path, _MATRICES[found](path))
    edges = read_edge_list(path, names={"auto": None, "edges": False, "names": True}[form])
    if form == "auto" and edges.names is None:
        edges = _check_first_edge(path, edges)
    ids, ends = number_nodes(torch.stack([edges.source, edges.target]))
    in_order = edges.names is not None or bool((ids == torch.arange(ids.numel())).all())
    node_ids = None if in_order else ids
    data = _of_file(path, ends, ids.numel(), edges.weight, node_ids)
    return data._replace(names=edges.names, notes=(*edges.notes, *data.notes), is_open=True)


def detect_format(path: Path) -> str:
    """The format of a file, by its suffix and its first bytes."""
    found = _SUFFIXES.get(text.without_compression(path).suffix.lower(), "edges")
    if found == "edges" and path.is_file():
        try:
            with text.open_binary(path) as file:
                return "matrix-market" if file.read(14) == b"%%MatrixMarket" else found
        except (OSError, EOFError, zlib.error):
            pass  # the reader of edges names the reason
    return found


def _check_first_edge(path: Path, edges: EdgeList) -> EdgeList:
    """Refuse a METIS file whose nodes have equally many neighbours, and note a line of numbers of nodes and edges."""
    count = edges.source.numel() - 1
    nodes, listed = int(edges.source[0]), int(edges.target[0])
    columns = 2 if edges.weight is None else 3
    largest = max(int(edges.source[1:].max()), int(edges.target[1:].max())) if count else nodes
    if 2 * listed == count * columns and nodes >= max(count, largest) and matrix_files.is_metis(path):
        raise DatasetError(f"{path} is an edge list or METIS; pass the format, edges or metis")
    if listed == count and max(nodes, listed) > largest:
        note = f"the first line, {nodes} {listed}, was read as an edge, but may be the numbers of nodes and edges"
        return edges._replace(notes=(*edges.notes, note))
    return edges


def number_nodes(ends: Tensor) -> tuple[Tensor, Tensor]:
    """The different ids in ascending order, and the index of every id among them."""
    low, high = (int(end) for end in ends.aminmax())
    if high - low >= 2 * ends.numel():
        ids, index = ends.unique(return_inverse=True)
        return ids, index
    ends = ends - low  # a table is faster than sorting
    used = torch.zeros(high - low + 1, dtype=torch.bool)
    used[ends.view(-1)] = True
    return used.nonzero().flatten() + low, (used.cumsum(0) - 1)[ends]


def _of_file(
    path: Path, ends: Tensor, num_nodes: int, weight: Tensor | None, node_ids: Tensor | None
) -> LargeGraph:
    try:
        stem = text.without_compression(path).stem
        return undirected(stem, ends, num_nodes, weight, node_ids=node_ids, source=str(path))
    except ValueError as error:
        raise DatasetError(f"{path}: {error}") from error


def _of_matrix(path: Path, matrix: matrix_files.Matrix) -> LargeGraph:
    ids = torch.arange(matrix.num_nodes) + matrix.first_id if matrix.first_id else None
    data = _of_file(path, matrix.edge_index, matrix.num_nodes, matrix.value, ids)
    return data._replace(x=matrix.x, labels=matrix.labels)


def with_nodes(data: LargeGraph, ids: Tensor | Sequence[str]) -> LargeGraph:
    """The graph with nodes of more ids, which have no edges, and without features and labels.

    Args:
        data: the graph.
        ids: ids, int64 ``[n]``, or names if the graph has names. Those of the graph's nodes may be among them.
    """
    graph = data.graph
    old = data.names or (torch.arange(graph.num_nodes) if data.node_ids is None else data.node_ids)
    if isinstance(old, Tensor):
        assert isinstance(ids, Tensor)
        node_ids = torch.cat([old, ids]).unique()
        count = node_ids.numel()
        in_order = bool((node_ids == torch.arange(count)).all())
        wider = data._replace(node_ids=None if in_order else node_ids)
    else:
        wider = data._replace(names=tuple(sorted({*old, *map(str, ids)})))
        count = len(wider.names or ())
    added = count - graph.num_nodes
    if added == 0:
        return data
    # Places ascend, so that columns stay sorted.
    place = wider.places(old)
    rowptr = torch.zeros(count + 1, dtype=graph.rowptr.dtype)
    rowptr[place + 1] = graph.rowptr.diff()
    rowptr = rowptr.cumsum(0, dtype=rowptr.dtype)
    col = place.to(graph.col.dtype)[graph.col.long()]
    rows = RaggedGraph.from_csr(rowptr, col, graph.value, symmetric=graph.is_symmetric, is_coalesced=True)
    notes = (*data.notes, f"{added} nodes have no edge")
    return wider._replace(graph=rows, x=None, labels=None, notes=notes)


def undirected(
    name: str,
    edge_index: Tensor,
    num_nodes: int,
    weight: Tensor | None = None,
    *,
    x: Tensor | None = None,
    labels: Tensor | None = None,
    node_ids: Tensor | None = None,
    source: str = "",
) -> LargeGraph:
    """Make a graph undirected, and remove self-loops and duplicates as :func:`load_large` does.

    Args:
        name: name of the graph.
        edge_index: node indices, int64 ``[2, E]``.
        num_nodes: number of nodes, N.
        weight: weights ``[E]``, not negative; they are converted to float32 and must be in its range.
        x, labels, node_ids, source: see :class:`LargeGraph`.

    Raises:
        ValueError: a node index is out of range, or a weight is negative or not in the range of float32.
    """
    weight = None if weight is None else check_weights(weight)
    listed = edge_index.size(1)
    loop = edge_index[0] == edge_index[1]
    loops = int(loop.sum())
    if loops:
        edge_index = edge_index[:, ~loop]
        weight = None if weight is None else weight[~loop]
    graph = RaggedGraph.from_edge_index(edge_index, num_nodes, edge_weight=weight)
    duplicates = edge_index.size(1) - graph.num_edges
    if weight is None:
        graph = graph.with_value(None)
    one_way = not graph.is_symmetric
    if one_way:
        both = torch.cat([edge_index, edge_index.flip(0)], 1)
        twice = None if weight is None else weight.repeat(2)
        graph = RaggedGraph.from_edge_index(both, num_nodes, edge_weight=twice, symmetric=True)
    if weight is None and graph.value is not None:
        graph = graph.with_value(None, symmetric=True)
    elif graph.value is not None and not bool(graph.value.isfinite().all()):
        raise ValueError("sums of weights of duplicate edges must be in the range of float32")
    notes = listed_notes(loops, duplicates, weight is not None, listed if one_way else 0)
    return LargeGraph(name, graph, x, labels, node_ids, source, tuple(notes))


def check_weights(weight: Tensor) -> Tensor | None:
    """Weights in float32; ``None`` if all are 1.

    Raises:
        ValueError: a weight is negative or not in the range of float32.
    """
    if not bool(((weight >= 0) & weight.isfinite()).all()):
        raise ValueError(f"weights must be finite and not negative, got {weight.min()} to {weight.max()}")
    limits = torch.finfo(torch.float32)
    if bool(((weight > 0) & (weight < limits.tiny)).any()) or bool((weight > limits.max).any()):
        raise ValueError(f"weights must be in the range of float32, got {weight.min()} to {weight.max()}")
    return None if bool((weight == 1).all()) else weight.to(torch.float32)


def listed_notes(loops: int, duplicates: int, weighted: bool, one_way: int) -> list[str]:
    """What was changed of listed edges; ``one_way``: their number if some have one direction only."""
    notes = [f"{loops} self-loops were removed"] if loops else []
    if duplicates:
        notes.append(f"{duplicates} duplicate edges were {'summed' if weighted else 'merged'}")
    if one_way:
        notes.append(
            f"both directions of the {one_way} listed edges were stored, since some have one direction only"
        )
    return notes


def _load_dataset(name: str, root: str | Path | None, cache: Path) -> LargeGraph:
    collection = "large/Amazon" if name in AMAZON else "planetoid"
    outer = "Amazon" if name in AMAZON else "Planetoid"
    raw = find_raw_folder(name, (collection, outer, "."), root, cache / "downloads")
    if raw is None:
        folder = cache / "downloads" / collection
        dataset_class = getattr(require("torch_geometric.datasets", "train"), outer)
        download(dataset_class, folder, name, collection)
        raw = folder / name / "raw"
    if name in AMAZON:
        path = raw / AMAZON[name]
        return _of_matrix(path, matrix_files.read_npz(path))._replace(name=name)
    read = require("torch_geometric.io", "train").read_planetoid_data
    try:
        data = read(str(raw), name.lower())
    except Exception as error:  # damaged pickles raise many types
        raise DatasetError(
            f"dataset {name} in {raw} cannot be read ({type(error).__name__}: {error})"
        ) from error
    return undirected(name, data.edge_index, data.num_nodes, x=data.x.float(), labels=data.y, source=str(raw))
