"""Finding and downloading the files of datasets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


class DatasetError(ValueError):
    """A dataset is missing, incomplete or corrupt."""


def cache_folder(cache: str | Path | None) -> Path:
    """The folder of downloads: ``cache``, else ``HIERPOOL_CACHE``, else ``hierpool`` in the user's cache folder."""
    if cache is not None:
        return Path(cache)
    if os.environ.get("HIERPOOL_CACHE"):
        return Path(os.environ["HIERPOOL_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "hierpool"


def find_raw_folder(
    name: str, collections: tuple[str, ...], root: str | Path | None, downloads: Path
) -> Path | None:
    """Find the folder ``raw`` of a dataset, or return ``None``.

    Args:
        name: name of the dataset.
        collections: folders that may hold ``name/raw``, relative to a data root.
        root: data root; ``None`` searches the folder in the environment variable ``HIERPOOL_DATA``, then ``downloads``.
        downloads: folder of earlier downloads.

    Raises:
        DatasetError: ``root`` is given and does not hold the dataset, or ``HIERPOOL_DATA`` is no folder.
    """
    roots = [Path(root)] if root is not None else [downloads]
    if root is None and os.environ.get("HIERPOOL_DATA"):
        roots.insert(0, Path(os.environ["HIERPOOL_DATA"]))
        if not roots[0].is_dir():
            raise DatasetError(f"HIERPOOL_DATA must be a folder of datasets, but {roots[0]} is none")
    candidates = [base / collection / name / "raw" for base in roots for collection in collections]
    for folder in candidates:
        if folder.is_dir():
            return folder
    if root is not None:
        raise DatasetError(
            f"dataset {name} was not found under {root}: neither {' nor '.join(map(str, candidates))} is a folder"
        )
    return None


def download(dataset_class: Any, folder: str | Path, name: str, collection: str) -> None:
    """Download a dataset into ``folder`` with its class of PyTorch Geometric.

    Raises:
        DatasetError: the download failed.
    """
    try:
        dataset_class(str(folder), name)
    except Exception as error:
        raise DatasetError(
            f"dataset {name} is not on this machine and could not be fetched from {dataset_class.url} "
            f"({type(error).__name__}: {error}); put its files into ROOT/{collection}/{name}/raw and pass ROOT as "
            "data root"
        ) from error
