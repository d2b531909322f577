"""The picture of one graph pooled by every pooler."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from hierpool.nn import HARD_POOLERS


def test_every_pooler_is_in_the_picture(
    load_example: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = load_example("every_pooler")
    drawn, draw = [], example.draw
    monkeypatch.setattr(
        example, "draw", lambda axis, title, *given: drawn.append(title) or draw(axis, title, *given)
    )
    monkeypatch.setattr(
        "sys.argv", ["every_pooler.py", "--nodes", "20", "--out", str(tmp_path / "poolers.png")]
    )
    example.main()
    assert sorted(title.split("(")[1].rstrip(")") for title in drawn) == sorted(HARD_POOLERS)
    assert (tmp_path / "poolers.png").read_bytes().startswith(b"\x89PNG")


def test_a_graph_that_is_too_small_is_refused(
    load_example: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["every_pooler.py", "--nodes", "4"])
    with pytest.raises(SystemExit):
        load_example("every_pooler").main()
    assert "--nodes must be at least 5, got 4" in capsys.readouterr().err
