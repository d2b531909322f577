"""The configuration of all runs, and files that change it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hierpool.experiments import PROTOCOLS, Protocol, read_protocol


def write(folder: Path, value: Any) -> Path:
    path = folder / "config.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_the_configuration_of_the_table() -> None:
    fair = read_protocol("fair")
    assert (fair.lr, fair.batch_size, fair.hidden_channels) == (1e-3, 32, 64)
    assert (fair.patience, fair.epochs, fair.ratio) == (50, 300, 0.25)
    assert fair is PROTOCOLS["fair"]
    assert len({fair.digest, read_protocol("paper").digest, Protocol(lr=2e-3).digest}) == 3


def test_a_file_changes_values(tmp_path: Path) -> None:
    found = read_protocol("paper", write(tmp_path, {"epochs": 7, "lr": 1, "penalties": [1, 2]}))
    assert found == Protocol("paper", epochs=7, lr=1.0, penalties=(1.0, 2.0))
    assert isinstance(found.lr, float)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{", "must be a JSON object"),
        ([], "must be a JSON object, got list"),
        ({"epoch": 3}, "must hold epochs, .* got 'epoch'"),
        ({"name": "paper"}, "got 'name'"),
        ({"epochs": 2.5}, "epochs in config .* must be an integer, got 2.5"),
        ({"epochs": True}, "epochs in config .* must be an integer, got True"),
        ({"lr": "fast"}, "lr in config .* must be a number, got 'fast'"),
        ({"penalties": 3}, "penalties in config .* must be a list, got 3"),
        ({"penalties": ["1"]}, "penalties in config .* must be a list"),
        ({"labels_only": [1]}, "labels_only in config .* must be a list"),
        ({"penalties": []}, "penalties must be positive numbers"),
        ({"ratio": 2}, "ratio must be in"),
        ({"patience": 0}, "patience must be at least 1, got 0"),
        ({"lr": -1}, "lr must be positive"),
    ],
)
def test_what_is_wrong_with_a_file(value: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_protocol("fair", write(tmp_path, value))


def test_an_unknown_protocol() -> None:
    with pytest.raises(ValueError, match="protocol must be one of fair, paper, got 'best'"):
        read_protocol("best")
    with pytest.raises(ValueError, match="protocol must be 'fair' or 'paper', got 'best'"):
        Protocol("best")
