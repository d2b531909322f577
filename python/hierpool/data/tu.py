"""Datasets for graph classification in the TU text format, loaded through PyTorch Geometric.

Collection: Morris et al., "TUDataset: A collection of benchmark datasets for learning with graphs", ICML GRL+ 2020.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import importlib.util
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hierpool._extras import require
from hierpool.data.files import DatasetError, cache_folder, download, find_raw_folder
from hierpool.data.graphs import Graph, GraphDataset
from hierpool.data.tu_files import verify

if TYPE_CHECKING:
    from importlib.abc import Traversable

EMBEDDED = ("MUTAG",)
_COLLECTIONS = ("tu", ".")
_REQUIRED = ("A", "graph_indicator", "graph_labels")
_OPTIONAL = ("node_labels", "node_attributes")
# Larger degrees share the last column.
_MAX_DEGREE = 511


def load_tu(name: str, root: str | Path | None = None, *, cache: str | Path | None = None) -> GraphDataset:
    """Load a TU dataset.

    The files are searched in this order: ``root``; the folder in the environment variable ``HIERPOOL_DATA``; an earlier
    download; for MUTAG, the copy inside the ``grakel`` package; the network. A data root holds ``tu/NAME/raw`` or
    ``NAME/raw`` and is never written to: PyTorch Geometric processes a copy in the cache, keyed by the files' contents.
    It is an error if ``root`` is given and does not hold the dataset.

    Args:
        name: for example ``"MUTAG"``, ``"ENZYMES"``, ``"IMDB-BINARY"``.
        root: data root.
        cache: folder of processed copies and downloads. The default is ``HIERPOOL_CACHE``, or ``hierpool`` in the
            user's cache folder.

    Returns:
        The dataset. Node features are the attributes and one-hot labels of the files. They are one-hot degrees if the
        files have neither.

    Raises:
        DatasetError: the dataset is missing or corrupt, or the download failed.
        ImportError: PyTorch Geometric is not installed.
    """
    if not re.fullmatch(r"[\w-]+", name, re.ASCII):
        raise DatasetError(f"dataset must be a name of letters, digits, '-' and '_', got {name!r}")
    require("torch_geometric", "train")
    base = cache_folder(cache)
    raw: Traversable | None = find_raw_folder(name, _COLLECTIONS, root, base / "downloads")
    source = str(raw)
    if raw is None and name in EMBEDDED:
        raw, source = _embedded(name), f"the grakel package's copy of {name}"
    elif raw is None:
        raw = _download(name, base / "downloads")
        source = str(raw)
    files = _read(raw, name, source)
    verify(name, files, source)
    digest = hashlib.sha256(b"".join(key.encode() + files[key] for key in sorted(files))).hexdigest()[:16]
    return _from_pyg(name, _through_pyg(name, files, base / "tu" / f"{name}-{digest}"), source, digest)


def _embedded(name: str) -> Traversable:
    spec = importlib.util.find_spec("grakel")
    if spec is None:
        raise ImportError(
            f"{name} is read from the grakel package, which is not installed; install it with: "
            "pip install 'hierpool[train]', or pass a data root"
        )
    # The package is located, but its code is not executed.
    package = importlib.util.module_from_spec(spec)
    return importlib.resources.files(package) / "tests" / "data" / name


def _read(raw: Traversable, name: str, source: str) -> dict[str, bytes]:
    """Contents of the required and optional files, by kind."""
    files = {}
    for kind in (*_REQUIRED, *_OPTIONAL):
        file = raw / f"{name}_{kind}.txt"
        if file.is_file():
            files[kind] = file.read_bytes()
        elif kind in _REQUIRED:
            raise DatasetError(f"dataset {name} is incomplete: {source} lacks {name}_{kind}.txt")
    return files


def _download(name: str, downloads: Path) -> Path:
    """Download the raw files; they appear under ``downloads`` complete or not at all."""
    datasets = require("torch_geometric.datasets", "train")
    downloads.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=downloads) as work:
        download(datasets.TUDataset, work, name, "tu")
        _move(Path(work, name), downloads / name)
    return downloads / name / "raw"


def _through_pyg(name: str, files: dict[str, bytes], folder: Path) -> Any:
    """PyTorch Geometric's dataset, processed once into ``folder``."""
    datasets = require("torch_geometric.datasets", "train")
    if folder.is_dir():
        try:
            return datasets.TUDataset(str(folder), name, use_node_attr=True)
        except Exception:  # damaged, or from another release of PyTorch Geometric: processed again below
            shutil.rmtree(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        whole = Path(work, "whole")
        raw = whole / name / "raw"
        raw.mkdir(parents=True)
        for kind, content in files.items():
            (raw / f"{name}_{kind}.txt").write_bytes(content)
        try:
            datasets.TUDataset(str(whole), name)
        except OSError:
            raise
        except Exception as error:
            raise DatasetError(
                f"dataset {name} cannot be processed ({type(error).__name__}: {error})"
            ) from error
        _move(whole, folder)
    return datasets.TUDataset(str(folder), name, use_node_attr=True)


def _move(folder: Path, target: Path) -> None:
    """Rename into place, unless another process has already done so."""
    try:
        os.replace(folder, target)
    except OSError:
        if not target.is_dir():
            raise
        shutil.rmtree(folder)


def _from_pyg(name: str, dataset: Any, source: str, digest: str) -> GraphDataset:
    items = list(dataset)
    columns = 0 if items[0].x is None else items[0].x.size(1)
    if columns:
        kinds = [("attributes", dataset.num_node_attributes), ("labels", dataset.num_node_labels)]
        features = " and ".join(kind for kind, count in kinds if count)
        xs = [item.x.float() for item in items]
    else:
        features = "degree"
        xs = _degree_features([(item.edge_index, item.num_nodes) for item in items])
    labels = [int(item.y) for item in items]
    graphs = tuple(
        Graph(x, item.edge_index.contiguous(), y) for x, item, y in zip(xs, items, labels, strict=True)
    )
    return GraphDataset(name, graphs, max(labels) + 1, features, source, digest)


def _degree_features(graphs: list[tuple[Tensor, int]]) -> list[Tensor]:
    """One-hot degrees ``[n, D]``, where D is one more than the largest degree of the dataset."""
    degrees = [torch.bincount(edge_index[0], minlength=n).clamp(max=_MAX_DEGREE) for edge_index, n in graphs]
    columns = 1 + max(int(degree.max()) for degree in degrees)
    return [torch.nn.functional.one_hot(degree, columns).float() for degree in degrees]
