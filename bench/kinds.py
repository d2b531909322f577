"""What a workload is, and what the kinds of workloads are compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.sparse import AnyBatch


@dataclass(frozen=True)
class Kind:
    """A sort of workload.

    ``baseline`` is the provider that every other one is timed against; ``truth`` the one that is right when it is
    evaluated in float64. ``slow``: a step takes a second, so there are few pairs, and the baseline is not timed
    against itself.
    """

    baseline: str
    truth: str
    slow: bool = False


KINDS: dict[str, Kind] = {
    "dense": Kind("pyg", "pyg"),
    "sparse": Kind("pyg-converted", "pyg-converted"),
    "sparse-linear": Kind("tgp-unbatched", "pyg-converted"),
    "large": Kind("torch-sparse", "torch-sparse", slow=True),
}


@dataclass(frozen=True)
class Workload:
    """A named batch. ``build(seed, data_root)`` makes it, or raises `WorkloadUnavailable`."""

    name: str
    title: str
    build: Callable[[int, Path | None], AnyBatch]
    symmetric: bool = True
    kind: str = "dense"
