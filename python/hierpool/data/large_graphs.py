"""One large graph from an edge list, an .npz file or a dataset of PyTorch Geometric, made undirected."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierpool._extras import require
from hierpool.data.edge_lists import read_edge_list
from hierpool.data.tu import _cache_folder
from hierpool.data.tu_files import DatasetError
from hierpool.graph import RaggedGraph

PLANETOID = ("Cora", "CiteSeer", "PubMed")
AMAZON = {"Computers": "amazon_electronics_computers.npz", "Photo": "amazon_electronics_photo.npz"}
DATASETS = (*PLANETOID, *AMAZON)


class LargeGraph(NamedTuple):
    """An undirected graph without self-loops, and what is known of its nodes."""

    name: str
    graph: RaggedGraph
    x: Tensor | None  # [N, F] float32
    labels: Tensor | None  # [N] int64
    node_ids: Tensor | None  # [N] int64, ids in the file; None: 0 to N - 1
    source: str
    notes: tuple[str, ...]  # what was changed in reading

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

    A file ending in ``.npz`` holds the arrays of :func:`scipy.sparse.save_npz`, or those of the Amazon datasets:
    ``adj_data``, ``adj_indices``, ``adj_indptr``, ``adj_shape`` and, if nodes have features and labels,
    ``attr_matrix`` or ``attr_data`` and so on, ``labels``. Any other file is an edge list
    (:func:`read_edge_list`). Datasets are looked for in ``root``, in the folder that the environment variable
    ``HIERPOOL_DATA`` names, in earlier downloads, and fetched through PyTorch Geometric otherwise. A root holds
    ``planetoid/NAME/raw`` and ``large/Amazon/NAME/raw``, with or without the outer folders.

    The graph is made undirected: if the matrix of an edge list or file is not symmetric, both directions of every
    edge are stored. Without weights two nodes are joined or not, however often a file says so; weights of duplicates
    and of both directions are summed. Self-loops are left out.

    Args:
        name: path, or one of ``Cora``, ``CiteSeer``, ``PubMed``, ``Computers``, ``Photo``.
        root: data root.
        cache: folder of downloads; ``None``: ``HIERPOOL_CACHE``, or ``hierpool`` in the user's cache folder.

    Raises:
        DatasetError: missing or corrupt; the message says where.
        OSError: the file cannot be read.
        ImportError: an optional package is needed and not installed.
    """
    path = Path(name)
    if name in DATASETS and not path.exists():
        return _load_dataset(name, root, _cache_folder(cache))
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
    """Make a graph undirected and free of self-loops and duplicates, as :func:`load_large` says.

    Args:
        name: of the graph.
        edge_index: int64 ``[2, E]``.
        num_nodes: N.
        weight: ``[E]``, not negative; they are kept as float32.
        x, labels, node_ids, source: as in :class:`LargeGraph`.

    Raises:
        ValueError: an end is no node, or a weight is negative or not finite.
    """
    notes = []
    if weight is not None:
        if not bool(((weight >= 0) & weight.isfinite()).all()):
            raise ValueError(f"weights must be finite and not negative, got {weight.min()} to {weight.max()}")
        weight = None if bool((weight == 1).all()) else weight.to(torch.float32)
    listed = edge_index.size(1)
    loop = edge_index[0] == edge_index[1]
    if bool(loop.any()):
        notes.append(f"{int(loop.sum())} self-loops were left out")
        edge_index = edge_index[:, ~loop]
        weight = None if weight is None else weight[~loop]
    graph = RaggedGraph.from_edge_index(edge_index, num_nodes, edge_weight=weight)
    duplicates = edge_index.size(1) - graph.num_edges
    if duplicates:
        fate = "merged" if weight is None else "summed"
        notes.append(f"{duplicates} duplicate edges were {fate}")
    symmetric = graph.is_symmetric if weight is not None else _without_weights(graph).is_symmetric
    if not symmetric:
        notes.append(
            f"both directions were stored of the {listed} edges listed, of which some have one direction"
        )
        both = torch.cat([edge_index, edge_index.flip(0)], 1)
        twice = None if weight is None else weight.repeat(2)
        graph = RaggedGraph.from_edge_index(both, num_nodes, edge_weight=twice, symmetric=True)
    if weight is None and graph.value is not None:
        graph = _without_weights(graph, symmetric=True)
    return LargeGraph(name, graph, x, labels, node_ids, source, tuple(notes))


def _without_weights(graph: RaggedGraph, symmetric: bool | None = None) -> RaggedGraph:
    return graph.with_value(None, symmetric=symmetric)


def _load_npz(path: Path) -> LargeGraph:
    np = require("numpy", "train")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files if not key.startswith("idx_to_")}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path} is no .npz file of plain arrays: {error}") from error
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


def _need(arrays: dict[str, Any], keys: tuple[str, ...], path: Path) -> list[Any]:
    missing = [key for key in keys if key not in arrays]
    if missing:
        raise DatasetError(
            f"{path} must hold a sparse matrix as scipy.sparse.save_npz writes it, or adj_data, adj_indices, "
            f"adj_indptr and adj_shape; it lacks {', '.join(missing)} and has {', '.join(arrays) or 'nothing'}"
        )
    return [arrays[key] for key in keys]


def _matrix(arrays: dict[str, Any], prefix: str, path: Path) -> tuple[Tensor, Tensor, int]:
    """Ends and weights of the entries of a stored sparse matrix, and its number of rows."""
    kind = b"csr" if prefix else bytes(_need(arrays, ("format",), path)[0].item())
    if kind == b"coo":
        names = ("row", "col", "data", "shape")
    elif kind in (b"csr", b"csc"):
        names = (f"{prefix}indptr", f"{prefix}indices", f"{prefix}data", f"{prefix}shape")
    else:
        raise DatasetError(f"{path} must hold a matrix of format csr, csc or coo, got {kind.decode()}")
    *places, data, shape = _need(arrays, names, path)
    if len(shape) != 2 or shape[0] != shape[1]:
        raise DatasetError(f"{path} must hold a square matrix, got {tuple(shape.tolist())}")
    row, col = (torch.from_numpy(place).long() for place in places)
    nodes = int(shape[0])
    try:
        if kind != b"coo":
            graph = RaggedGraph.from_csr(row, col, symmetric=False) if len(row) == nodes + 1 else None
            if graph is None or len(col) != len(data):
                raise ValueError(f"its arrays have lengths {len(row)}, {len(col)}, {len(data)}")
            row = torch.repeat_interleave(torch.arange(nodes), row.diff())
        elif (
            len(row)
            and not 0 <= int(torch.stack([row, col]).min()) <= int(torch.maximum(row, col).max()) < nodes
        ):
            raise ValueError("an index lies outside the matrix")
    except ValueError as error:
        raise DatasetError(f"{path} is corrupt: {error}") from error
    return torch.stack([row, col]), torch.from_numpy(data.astype("float64")), nodes


def _attributes(arrays: dict[str, Any], path: Path) -> Tensor | None:
    """Node features, float32 ``[N, F]``, stored densely or in compressed rows."""
    if "attr_matrix" in arrays:
        return torch.from_numpy(arrays["attr_matrix"]).float()
    if "attr_data" not in arrays:
        return None
    indptr, indices, data, shape = _need(
        arrays, ("attr_indptr", "attr_indices", "attr_data", "attr_shape"), path
    )
    rows, columns = shape.tolist()
    row = torch.from_numpy(indptr).long().diff()
    column, value = torch.from_numpy(indices).long(), torch.from_numpy(data).float()
    fits = len(row) == rows and column.shape == value.shape and int(row.sum()) == len(column)
    inside = not len(column) or 0 <= int(column.min()) <= int(column.max()) < columns
    if not (fits and inside and bool((row >= 0).all())):
        raise DatasetError(
            f"{path} is corrupt: attr_indptr, attr_indices and attr_data do not fit attr_shape"
        )
    x = torch.zeros(rows, columns)
    x[torch.repeat_interleave(torch.arange(rows), row), column] = value
    return x


def _load_dataset(name: str, root: str | Path | None, cache: Path) -> LargeGraph:
    raw = _find(name, root, cache)
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


def _find(name: str, root: str | Path | None, cache: Path) -> Path:
    """The folder of raw files."""
    inner = ("large/Amazon", "Amazon", ".") if name in AMAZON else ("planetoid", "Planetoid", ".")
    if root is not None:
        roots = [Path(root)]
    else:
        roots = [Path(os.environ["HIERPOOL_DATA"])] if os.environ.get("HIERPOOL_DATA") else []
        roots.append(cache / "downloads")
    for base in roots:
        for folder in inner:
            if (base / folder / name / "raw").is_dir():
                return base / folder / name / "raw"
    if root is not None:
        raise DatasetError(
            f"dataset {name} was not found under {root}: {Path(root, inner[0], name, 'raw')} is no folder"
        )
    datasets = require("torch_geometric.datasets", "train")
    target = cache / "downloads" / inner[0]
    make = datasets.Amazon if name in AMAZON else datasets.Planetoid
    try:
        make(str(target), name)
    except Exception as error:
        raise DatasetError(
            f"dataset {name} is not on this machine and could not be fetched ({type(error).__name__}: {error}); put "
            f"its files into ROOT/{inner[0]}/{name}/raw and pass ROOT as data root"
        ) from error
    return target / name / "raw"


def read_rows(path: str | Path, num_nodes: int, what: str) -> Tensor:
    """Features or labels of nodes, from a ``.npy`` file or a text table (columns separated by spaces or commas).

    Args:
        path: of the file.
        num_nodes: rows it must have.
        what: ``"features"``: finite numbers, float32 ``[N, F]``; ``"labels"``: integers from 0, int64 ``[N]``, or
            -1 for a node whose label is not known.

    Raises:
        DatasetError: it does not hold that; the message names the file.
        OSError: it cannot be read.
    """
    np = require("numpy", "train")
    path = Path(path)
    try:
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False)
        else:
            with open(path, encoding="utf-8") as file:
                lines = file.readlines()
            values = np.loadtxt(
                lines, delimiter="," if any("," in line for line in lines[:10]) else None, ndmin=2
            )
    except (ValueError, EOFError) as error:
        raise DatasetError(f"{path} cannot be read as {what}: {error}") from error
    values = values[:, 0] if what == "labels" and values.ndim == 2 and values.shape[1] == 1 else values
    if values.ndim != (1 if what == "labels" else 2) or len(values) != num_nodes:
        shape = f"[{num_nodes}]" if what == "labels" else f"[{num_nodes}, F]"
        raise DatasetError(f"{path} must hold {what} of shape {shape}, got {list(values.shape)}")
    if values.dtype.kind not in "fiub":
        raise DatasetError(f"{path} must hold numbers, got {values.dtype}")
    if not np.isfinite(values).all():
        raise DatasetError(f"{path} must hold finite numbers, got NaN or infinity")
    if what == "features":
        return torch.from_numpy(values.astype("float32"))
    labels = values.astype("int64")
    if (labels != values).any() or labels.min(initial=0) < -1:
        raise DatasetError(f"{path} must hold whole numbers from 0, or -1 where none is known")
    return torch.from_numpy(labels)
