"""Tables of measured tiles, made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hierpool_kernels import tuned
from hierpool_kernels.plan import Tiles

TILES = Tiles(16, 128, 32, 4, 4)  # unlike those of all plans
RUN = {"device": "none: these times are made up"}


def entry(kernel: str, *key: Any, tiles: Any = TILES) -> dict[str, Any]:
    return {"kernel": kernel, "key": key, "tiles": tiles, "run": 0}


def table(*entries: dict[str, Any]) -> str:
    return json.dumps({"format": 1, "runs": [RUN], "entries": entries})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of the tables, empty."""
    monkeypatch.setattr(tuned, "TABLES", tmp_path)
    return tmp_path
