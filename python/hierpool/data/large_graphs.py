"""One undirected graph from an edge list, an .npz file or a dataset of PyTorch Geometric."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierpool._extras import require
from hierpool.data.edge_lists import read_edge_list
from hierpool.data.files import DatasetError, cache_folder, download, find_raw_folder, load_table
from hierpool.graph import RaggedGraph

PLANETOID = ("Cora", "CiteSeer", "PubMed")
AMAZON = {"Computers": "amazon_electronics_computers.npz", "Photo": "amazon_electronics_photo.npz"}
DATASETS = (*PLANETOID, *AMAZON)


class LargeGraph(NamedTuple):
    """An undirected graph without self-loops, with features and labels of its nodes."""

    name: str
    graph: RaggedGraph
    x: Tensor | None  # [N, F] float32
    labels: Tensor | None  # [N] int64
    node_ids: Tensor | None  # [N] int64, ids in the file; None: 0 to N - 1
    source: str  # location of the file
    notes: tuple[str, ...]  # changes that reading made

    @property
    def fingerprint(self) -> str:
        """Hash of the graph and the features."""
        digest = hashlib.sha256()
        for tensor in (self.graph.rowptr, self.graph.col, self.graph.value, self.x):
            if tensor is not None:
                digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()[:16]


def load_large(name: str, root: str | Path | None = None, *, cache: str | Path | None = None) -> LargeGraph:
    """Load a graph from a file, or a dataset by its name.

    An ``.npz`` file holds the arrays of :func:`scipy.sparse.save_npz` or those of the Amazon datasets: ``adj_data``,
    ``adj_indices``, ``adj_indptr``, ``adj_shape``, and optionally ``labels`` and features in ``attr_matrix`` or in
    ``attr_data``, ``attr_indices``, ``attr_indptr``, ``attr_shape``. Any other file is an edge list
    (:func:`read_edge_list`). Datasets are searched in ``root``, or in the folder in the environment variable
    ``HIERPOOL_DATA`` and in earlier downloads, and downloaded through PyTorch Geometric otherwise. A data root holds
    ``planetoid/NAME/raw`` and ``large/Amazon/NAME/raw``, with or without the outer folders.

    The graph is undirected: if the adjacency matrix in the file is not symmetric, both directions of every edge are
    stored. Duplicate edges without weights are merged. Weights of duplicates and of both directions are summed.
    Self-loops are removed.

    Args:
        name: path, or one of ``Cora``, ``CiteSeer``, ``PubMed``, ``Computers``, ``Photo``.
        root: data root.
        cache: folder of downloads. The default is ``HIERPOOL_CACHE``, or ``hierpool`` in the user's cache folder.

    Raises:
        DatasetError: the graph is missing or corrupt; the message names the file.
        OSError: the file cannot be read.
        ImportError: an optional package is needed and not installed.
    """
    path = Path(name)
    if name in DATASETS and not path.exists():
        return _load_dataset(name, root, cache_folder(cache))
    if not path.is_file():
        raise DatasetError(f"input must be a file or one of {', '.join(DATASETS)}; {name} is neither")
    if path.suffix == ".npz":
        return _load_npz(path)
    edges = read_edge_list(path)
    ids, ends = torch.cat([edges.source, edges.target]).unique(return_inverse=True)
    in_order = bool((ids == torch.arange(ids.numel())).all())
    node_ids = None if in_order else ids
    stem = path.name.removesuffix(".gz").rsplit(".", 1)[0]
    return undirected(stem, ends.view(2, -1), ids.numel(), edges.weight, node_ids=node_ids, source=str(path))


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
        weight: weights ``[E]``, not negative; they are converted to float32.
        x, labels, node_ids, source: see :class:`LargeGraph`.

    Raises:
        ValueError: a node index is out of range, or a weight is negative or not finite.
    """
    notes = []
    if weight is not None:
        if not bool(((weight >= 0) & weight.isfinite()).all()):
            raise ValueError(f"weights must be finite and not negative, got {weight.min()} to {weight.max()}")
        weight = None if bool((weight == 1).all()) else weight.to(torch.float32)
    listed = edge_index.size(1)
    loop = edge_index[0] == edge_index[1]
    if bool(loop.any()):
        notes.append(f"{int(loop.sum())} self-loops were removed")
        edge_index = edge_index[:, ~loop]
        weight = None if weight is None else weight[~loop]
    graph = RaggedGraph.from_edge_index(edge_index, num_nodes, edge_weight=weight)
    duplicates = edge_index.size(1) - graph.num_edges
    if duplicates:
        fate = "merged" if weight is None else "summed"
        notes.append(f"{duplicates} duplicate edges were {fate}")
    if weight is None:
        graph = graph.with_value(None)
    if not graph.is_symmetric:
        notes.append(
            f"both directions of the {listed} listed edges were stored, since some have one direction only"
        )
        both = torch.cat([edge_index, edge_index.flip(0)], 1)
        twice = None if weight is None else weight.repeat(2)
        graph = RaggedGraph.from_edge_index(both, num_nodes, edge_weight=twice, symmetric=True)
    if weight is None and graph.value is not None:
        graph = graph.with_value(None, symmetric=True)
    return LargeGraph(name, graph, x, labels, node_ids, source, tuple(notes))


def _load_npz(path: Path) -> LargeGraph:
    np = require("numpy", "train")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files if not key.startswith("idx_to_")}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path} is not an .npz file of plain arrays: {error}") from error
    amazon = "adj_indptr" in arrays
    edge_index, weight, nodes = _matrix(arrays, "adj_" if amazon else "", path)
    x = labels = None
    if amazon:
        x = _attributes(arrays, path)
        labels = torch.from_numpy(arrays["labels"]).long() if "labels" in arrays else None
        for key, value in (("attributes", x), ("labels", labels)):
            if value is not None and len(value) != nodes:
                raise DatasetError(f"{path} has {len(value)} {key} for {nodes} nodes")
    return undirected(path.stem, edge_index, nodes, weight, x=x, labels=labels, source=str(path))


def _require_arrays(arrays: dict[str, Any], keys: tuple[str, ...], path: Path) -> list[Any]:
    missing = [key for key in keys if key not in arrays]
    if missing:
        raise DatasetError(
            f"{path} must hold a sparse matrix as scipy.sparse.save_npz writes it, or adj_data, adj_indices, "
            f"adj_indptr and adj_shape; it lacks {', '.join(missing)} and has {', '.join(arrays) or 'nothing'}"
        )
    return [arrays[key] for key in keys]


def _matrix(arrays: dict[str, Any], prefix: str, path: Path) -> tuple[Tensor, Tensor, int]:
    """The indices and weights of the entries of a stored sparse matrix, and its number of rows."""
    layout = "csr" if prefix else _require_arrays(arrays, ("format",), path)[0].item().decode()
    if layout not in ("csr", "csc", "coo"):
        raise DatasetError(f"{path} must hold a matrix of format csr, csc or coo, got {layout}")
    shape = _require_arrays(arrays, (f"{prefix}shape",), path)[0].tolist()
    if len(shape) != 2 or shape[0] != shape[1]:
        raise DatasetError(f"{path} must hold a square matrix, got {tuple(shape)}")
    index, value = _entries(arrays, prefix, shape, layout == "coo", path)
    return index, value, shape[0]


def _entries(
    arrays: dict[str, Any], prefix: str, shape: list[int], coordinates: bool, path: Path
) -> tuple[Tensor, Tensor]:
    """The indices and float64 values of the entries of a matrix in coordinates or in compressed rows."""
    kinds = ("row", "col", "data") if coordinates else ("indptr", "indices", "data")
    names = tuple(prefix + kind for kind in kinds)
    *indices, data = _require_arrays(arrays, names, path)
    row, col = (torch.from_numpy(index).long() for index in indices)
    value = torch.from_numpy(data.astype("float64"))
    fits = True
    if not coordinates:
        count = row.diff()
        fits = len(count) == shape[0] and bool((count >= 0).all()) and int(row[0]) == 0
        row = torch.arange(len(count)).repeat_interleave(count.clamp(min=0))
    if fits and len(row) == len(col) == len(value):
        index = torch.stack([row, col])
        if bool(((index >= 0) & (index < torch.tensor(shape)[:, None])).all()):
            return index, value
    raise DatasetError(f"{path} is corrupt: {names[0]}, {names[1]} and {names[2]} do not fit {prefix}shape")


def _attributes(arrays: dict[str, Any], path: Path) -> Tensor | None:
    """Node features, float32 ``[N, F]``, of a dense or a CSR matrix."""
    if "attr_matrix" in arrays:
        return torch.from_numpy(arrays["attr_matrix"]).float()
    if "attr_data" not in arrays:
        return None
    shape = _require_arrays(arrays, ("attr_shape",), path)[0].tolist()
    index, value = _entries(arrays, "attr_", shape, False, path)
    x = torch.zeros(shape)
    x[index[0], index[1]] = value.float()
    return x


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
        return _load_npz(raw / AMAZON[name])._replace(name=name)
    read = require("torch_geometric.io", "train").read_planetoid_data
    try:
        data = read(str(raw), name.lower())
    except (OSError, EOFError, ValueError, KeyError, IndexError) as error:
        raise DatasetError(
            f"dataset {name} in {raw} cannot be read ({type(error).__name__}: {error})"
        ) from error
    return undirected(name, data.edge_index, data.num_nodes, x=data.x.float(), labels=data.y, source=str(raw))


def read_rows(path: str | Path, num_nodes: int, kind: str) -> Tensor:
    """Read features or labels of nodes from a ``.npy`` file or a text table with spaces or commas between columns.

    Args:
        path: path of the file.
        num_nodes: number of rows that the file must have, N.
        kind: ``"features"`` are finite numbers and become float32 ``[N, F]``. ``"labels"`` are integers from 0, or -1
            for an unknown label, and become int64 ``[N]``.

    Raises:
        DatasetError: the contents are invalid; the message names the file.
        OSError: the file cannot be read.
        ImportError: NumPy is not installed.
    """
    np = require("numpy", "train")
    path = Path(path)
    try:
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False)
        else:
            lines = path.read_text(encoding="utf-8").splitlines()
            separator = "," if any("," in line for line in lines[:10]) else None
            values = load_table(lines, delimiter=separator, ndmin=2)
    except (ValueError, EOFError) as error:
        raise DatasetError(f"{path} cannot be read as {kind}: {error}") from error
    labels = kind == "labels"
    if labels and values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != (1 if labels else 2) or len(values) != num_nodes:
        shape = f"[{num_nodes}]" if labels else f"[{num_nodes}, F]"
        raise DatasetError(f"{path} must hold {kind} of shape {shape}, got {list(values.shape)}")
    if values.dtype.kind not in "fiub":
        raise DatasetError(f"{path} must hold numbers, got {values.dtype}")
    if not np.isfinite(values).all():
        raise DatasetError(f"{path} must hold finite numbers, got NaN or infinity")
    if not labels:
        return torch.from_numpy(values.astype("float32"))
    integers = values.astype("int64")
    if (integers != values).any() or integers.min(initial=0) < -1:
        raise DatasetError(f"{path} must hold integers from 0, or -1 for an unknown label")
    return torch.from_numpy(integers)
