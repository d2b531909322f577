"""The one configuration of all methods, fixed before the runs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from hierpool.training.config import check_at_least, check_positive


@dataclass(frozen=True)
class Protocol:
    """What all runs have in common. These values are the configuration of the table; a file may change them.

    Attributes:
        name: ``"fair"``: the epoch with the smallest validation loss is tested once. ``"paper"``: the test part is the
            validation part, training takes the rest, no epoch is chosen, and the best epoch is reported, which is
            optimistic.
        epochs, patience: training ends after ``epochs``, or with ``"fair"`` ``patience`` epochs after the best one.
        batch_size, lr, clip: graphs per step, learning rate of Adam, largest norm of the gradient.
        max_pairs_per_batch: see :class:`hierpool.data.BatchLoader`.
        hidden_channels, head_channels: width of all layers, and of the hidden layer of the classifier.
        layers: message-passing layers, in poolers of each level.
        levels, ratio: number of poolings, and the part of a graph's nodes that a level keeps.
        rounds: largest number of rounds of the Weisfeiler-Leman kernels.
        penalties: values of C of the support vector machine.
        labels_only: data sets without their node attributes, as in the table of Errica et al., ICLR 2020.
    """

    name: str = "fair"
    epochs: int = 300
    patience: int = 50
    batch_size: int = 32
    lr: float = 1e-3
    clip: float = 2.0
    max_pairs_per_batch: int = 64_000_000
    hidden_channels: int = 64
    head_channels: int = 50
    layers: int = 3
    levels: int = 2
    ratio: float = 0.25
    rounds: int = 5
    penalties: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3)
    labels_only: tuple[str, ...] = ("PROTEINS",)

    def __post_init__(self) -> None:
        if self.name not in ("fair", "paper"):
            raise ValueError(f"protocol must be 'fair' or 'paper', got {self.name!r}")
        check_at_least(self, epochs=1, patience=1, batch_size=1, max_pairs_per_batch=1, hidden_channels=1)
        check_at_least(self, head_channels=1, layers=1, levels=1, rounds=0)
        check_positive(self, "lr", "clip")
        if not 0 < self.ratio <= 1:
            raise ValueError(f"ratio must be in (0, 1], got {self.ratio}")
        if not self.penalties or not all(0 < c < float("inf") for c in self.penalties):
            raise ValueError(f"penalties must be positive numbers, got {list(self.penalties)}")

    @property
    def digest(self) -> str:
        """A hash of all values."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


PROTOCOLS = {name: Protocol(name) for name in ("fair", "paper")}


def read_protocol(name: str, path: str | Path | None = None) -> Protocol:
    """A protocol, with the values of a JSON file in place of those of the table.

    Args:
        name: ``"fair"`` or ``"paper"``.
        path: file of an object whose keys are attributes of :class:`Protocol`; ``None``: no changes.

    Raises:
        ValueError: the name is unknown, or the file is no such object or holds a wrong value.
        OSError: the file cannot be read.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {name!r}")
    protocol = PROTOCOLS[name]
    if path is None:
        return protocol
    try:
        given = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"config {path} must be a JSON object: {error}") from error
    if not isinstance(given, dict):
        raise ValueError(f"config {path} must be a JSON object, got {type(given).__name__}")
    known = {item.name: getattr(protocol, item.name) for item in fields(Protocol) if item.name != "name"}
    for key, value in given.items():
        if key not in known:
            raise ValueError(f"config {path} must hold {', '.join(known)}, got {key!r}")
        given[key] = _converted(key, value, known[key], path)
    return replace(protocol, **given)


def _converted(key: str, value: Any, default: Any, path: str | Path) -> Any:
    """``value`` in the type of ``default``."""
    kinds: Any = {int: int, float: (int, float), tuple: list}[type(default)]
    elements: Any = (int, float) if key == "penalties" else str
    right = isinstance(value, kinds) and not isinstance(value, bool)
    if not right or (isinstance(value, list) and not all(isinstance(one, elements) for one in value)):
        expected = {int: "an integer", float: "a number", tuple: "a list"}[type(default)]
        raise ValueError(f"{key} in config {path} must be {expected}, got {value!r}")
    if isinstance(value, list):
        return tuple(float(one) for one in value) if key == "penalties" else tuple(value)
    return type(default)(value)
