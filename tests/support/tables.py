"""Invented tables of measured tiles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hierpool_kernels.core import tuned
from hierpool_kernels.core.plan import Tiles

TILES = Tiles(16, 128, 32, 4, 4)  # no plan has these tiles
RUN = {"device": "none: these times are made up"}


def entry(kernel: str, *key: Any, tiles: Any = TILES) -> dict[str, Any]:
    return {"kernel": kernel, "key": key, "tiles": tiles, "run": 0}


def table(*entries: dict[str, Any]) -> str:
    return json.dumps({"format": 1, "runs": [RUN], "entries": entries})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for the tables."""
    monkeypatch.setattr(tuned, "TABLES", tmp_path)
    return tmp_path
