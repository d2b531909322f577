"""Real data sets, where this machine has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def data_root(dataset: str) -> Path:
    """The folder that HIERPOOL_DATA names; skips the test, saying so, if it lacks ``dataset``, e.g. tu/MUTAG."""
    root = os.environ.get("HIERPOOL_DATA")
    if not root or not Path(root, dataset, "raw").is_dir():
        pytest.skip(f"HIERPOOL_DATA names no folder that holds {dataset}")
    return Path(root)
