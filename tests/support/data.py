"""Real datasets, if this machine has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def data_root(dataset: str) -> Path:
    """The folder in HIERPOOL_DATA; skips the test if it does not hold ``dataset``, for example tu/MUTAG."""
    root = os.environ.get("HIERPOOL_DATA")
    if not root or not Path(root, dataset, "raw").is_dir():
        pytest.skip(f"HIERPOOL_DATA does not name a folder that holds {dataset}")
    return Path(root)
