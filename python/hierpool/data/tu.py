"""Graph classification sets in the TU text format, loaded through PyTorch Geometric.

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
from hierpool.data.graphs import Graph, GraphDataset
from hierpool.data.tu_files import DatasetError, verify

if TYPE_CHECKING:
    from importlib.abc import Traversable

EMBEDDED = ("MUTAG",)
_REQUIRED = ("A", "graph_indicator", "graph_labels")
_OPTIONAL = ("node_labels", "node_attributes")
# One column per degree up to this; larger degrees share the last column.
_MAX_DEGREE = 511


def load_tu(name: str, root: str | Path | None = None, *, cache: str | Path | None = None) -> GraphDataset:
    """Load a TU dataset.

    Looked for in this order: ``root``; the folder in the environment variable ``HIERPOOL_DATA``; for MUTAG, the
    copy inside the ``grakel`` package; an earlier download; the network. A root holds ``tu/NAME/raw``, or
    ``NAME/raw``, and is only read: PyTorch Geometric works on a copy in the cache, keyed by the files' contents.
    A ``root`` that lacks the set is an error; the others are passed over.

    Args:
        name: for example ``"MUTAG"``, ``"ENZYMES"``, ``"IMDB-BINARY"``.
        root: data root.
        cache: folder for processed copies and downloads; ``None``: ``HIERPOOL_CACHE``, or ``hierpool`` in the
            user's cache folder.

    Returns:
        The set. Node features are the attributes and one-hot labels of the files, or, in a set that has neither,
        the one-hot degree.

    Raises:
        DatasetError: missing, corrupt, or not fetched.
        ImportError: PyTorch Geometric is not installed.
    """
    if not re.fullmatch(r"[\w-]+", name, re.ASCII):
        raise DatasetError(f"dataset must be a name of letters, digits, '-' and '_', got {name!r}")
    require("torch_geometric", "train")
    base = _cache_folder(cache)
    raw, source = _find(name, root, base)
    files = _read(raw, name, source)
    verify(name, files, source)
    digest = hashlib.sha256(b"".join(key.encode() + files[key] for key in sorted(files))).hexdigest()[:16]
    return _from_pyg(name, _through_pyg(name, files, base / "tu" / f"{name}-{digest}"), source, digest)


def _cache_folder(cache: str | Path | None) -> Path:
    if cache is not None:
        return Path(cache)
    if os.environ.get("HIERPOOL_CACHE"):
        return Path(os.environ["HIERPOOL_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "hierpool"


def _find(name: str, root: str | Path | None, base: Path) -> tuple[Traversable, str]:
    """The folder of raw files, and words for where it is."""
    if root is not None:
        folder = _raw_below(Path(root), name)
        if folder is None:
            raise DatasetError(
                f"dataset {name} was not found under {root}: neither {Path(root, 'tu', name, 'raw')} nor "
                f"{Path(root, name, 'raw')} is a folder"
            )
        return folder, str(folder)
    if os.environ.get("HIERPOOL_DATA"):
        folder = _raw_below(Path(os.environ["HIERPOOL_DATA"]), name)
        if folder is not None:
            return folder, str(folder)
    if name in EMBEDDED:
        return _embedded(name), f"the grakel package's copy of {name}"
    folder = _raw_below(base / "downloads", name)
    if folder is None:
        folder = _download(name, base / "downloads")
    return folder, str(folder)


def _raw_below(root: Path, name: str) -> Path | None:
    for folder in (root / "tu" / name / "raw", root / name / "raw"):
        if folder.is_dir():
            return folder
    return None


def _embedded(name: str) -> Traversable:
    spec = importlib.util.find_spec("grakel")
    if spec is None:
        raise ImportError(
            f"{name} is read from the grakel package, which is not installed; install it with: "
            "pip install 'hierpool[train]', or pass a data root"
        )
    # A module that is found but not executed: only its files are wanted.
    package = importlib.util.module_from_spec(spec)
    return importlib.resources.files(package) / "tests" / "data" / name


def _read(raw: Traversable, name: str, source: str) -> dict[str, bytes]:
    """Contents of the files that are used, by what they hold."""
    files = {}
    for kind in (*_REQUIRED, *_OPTIONAL):
        file = raw / f"{name}_{kind}.txt"
        if file.is_file():
            files[kind] = file.read_bytes()
        elif kind in _REQUIRED:
            raise DatasetError(f"dataset {name} is incomplete: {source} lacks {name}_{kind}.txt")
    return files


def _download(name: str, downloads: Path) -> Path:
    """Fetch the raw files by PyTorch Geometric's own means; they appear under ``downloads`` complete or not at all."""
    datasets = require("torch_geometric.datasets", "train")
    downloads.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=downloads) as work:
        try:
            datasets.TUDataset(work, name)
        except Exception as error:
            raise DatasetError(
                f"dataset {name} is not on this machine and could not be fetched from {datasets.TUDataset.url} "
                f"({type(error).__name__}: {error}); put its files into ROOT/tu/{name}/raw and pass ROOT as data root"
            ) from error
        _move(Path(work, name), downloads / name)
    return downloads / name / "raw"


def _through_pyg(name: str, files: dict[str, bytes], folder: Path) -> Any:
    """PyTorch Geometric's dataset, processed once into ``folder``."""
    datasets = require("torch_geometric.datasets", "train")
    if folder.is_dir():
        try:
            return datasets.TUDataset(str(folder), name, use_node_attr=True)
        except Exception:  # damaged, or of another release of PyTorch Geometric: made anew below
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
    """Rename into place; if another process was first, its result is as good."""
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
    """One-hot degrees ``[n, D]``, D one more than the largest degree of the set."""
    degrees = [torch.bincount(edge_index[0], minlength=n).clamp(max=_MAX_DEGREE) for edge_index, n in graphs]
    columns = 1 + max(int(degree.max()) for degree in degrees)
    return [torch.nn.functional.one_hot(degree, columns).float() for degree in degrees]
