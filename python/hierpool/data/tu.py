"""Datasets for graph classification in the TU text format.

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
from typing import TYPE_CHECKING

from hierpool._extras import require
from hierpool.data.files import DatasetError, cache_folder, download, find_raw_folder
from hierpool.data.graphs import GraphDataset
from hierpool.data.tu_files import read_graphs

if TYPE_CHECKING:
    from importlib.abc import Traversable

EMBEDDED = ("MUTAG",)
_COLLECTIONS = ("tu", ".")
_REQUIRED = ("A", "graph_indicator", "graph_labels")
_OPTIONAL = ("node_labels", "node_attributes", "edge_labels")
# Features are made of the other files.
_NO_FEATURES = ("edge_labels",)


def load_tu(name: str, root: str | Path | None = None, *, cache: str | Path | None = None) -> GraphDataset:
    """Load a TU dataset.

    The files are searched in this order: ``root``; the folder in the environment variable ``HIERPOOL_DATA``; an earlier
    download; for MUTAG, the copy inside the ``grakel`` package, if that is installed; the network. A data root holds
    ``tu/NAME/raw`` or ``NAME/raw`` and is never written to. It is an error if ``root`` is given and does not hold the
    dataset.

    Args:
        name: for example ``"MUTAG"``, ``"ENZYMES"``, ``"IMDB-BINARY"``.
        root: data root.
        cache: folder of downloads. The default is ``HIERPOOL_CACHE``, or ``hierpool`` in the user's cache folder.

    Returns:
        The dataset, equal to that of PyTorch Geometric where it reads all graphs
        (:func:`hierpool.data.tu_files.read_graphs`). Node features are the attributes and one-hot labels of the files.
        They are one-hot degrees if the files have neither.

    Raises:
        DatasetError: the dataset is missing or corrupt, or the download failed.
        ImportError: NumPy is not installed, or PyTorch Geometric, which downloads.
    """
    if not re.fullmatch(r"[\w-]+", name, re.ASCII):
        raise DatasetError(f"dataset must be a name of letters, digits, '-' and '_', got {name!r}")
    base = cache_folder(cache)
    raw: Traversable | None = find_raw_folder(name, _COLLECTIONS, root, base / "downloads")
    source = str(raw)
    if raw is None and name in EMBEDDED:
        raw, source = _embedded(name), f"the grakel package's copy of {name}"
    if raw is None:
        raw = _download(name, base / "downloads")
        source = str(raw)
    files = _read(raw, name, source)
    contents = read_graphs(name, files, source)
    digest = hashlib.sha256()
    for kind in sorted(files.keys() - {*_NO_FEATURES}):
        digest.update(kind.encode())
        digest.update(files[kind])
    return GraphDataset(
        name, contents.graphs, contents.num_classes, contents.features, source, digest.hexdigest()[:16]
    )


def _embedded(name: str) -> Traversable | None:
    """The folder of the dataset in the grakel package, if that is installed."""
    spec = importlib.util.find_spec("grakel")
    if spec is None:
        return None
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


def _move(folder: Path, target: Path) -> None:
    """Rename into place, unless another process has already done so."""
    try:
        os.replace(folder, target)
    except OSError:
        if not target.is_dir():
            raise
        shutil.rmtree(folder)
