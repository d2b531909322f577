"""What a run is made of: workloads of a kind, providers that are timed on them, and studies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

import torch
from torch import Tensor

from bench.harness.inputs import Inputs
from bench.harness.precision import IEEE, Precision, Tolerance
from bench.harness.truth import Verdict

CPU = torch.device("cpu")
Pool: TypeAlias = Callable[[Any], tuple[Tensor, ...]]  # of the inputs of a workload
Entry = TypeVar("Entry")


class Unavailable(RuntimeError):
    """It cannot be measured here; the message is the reason that the report prints."""


class Refused(RuntimeError):
    """A result is wrong; the message says which."""


def not_installed(error: ImportError, how: str) -> Unavailable:
    """The reason that a missing package gives."""
    name = (error.name or str(error)).split(".")[0]
    return Unavailable(f"{name} is not installed: {how}")


@dataclass(frozen=True)
class Request:
    """What inputs are made from: the seed of random numbers, the device, the folder of data sets."""

    seed: int = 0
    device: torch.device = CPU
    data_root: Path | None = None


@dataclass(frozen=True)
class Kind:
    """A sort of workload.

    Attributes:
        baselines: providers that the others are timed against; the first that runs is taken.
        truths: providers that are right when they are evaluated in float64; the first that is installed is taken.
        check: compares results with the truth where no provider's float64 result fits into memory.
        slow: a step takes a second: few pairs are timed, and the baseline is not timed against itself.
        foreseen: the memory that it needs is known beforehand.
    """

    name: str
    baselines: tuple[str, ...]
    truths: tuple[str, ...] = ()
    check: Callable[[Pool, Any, Tolerance], Verdict] | None = None
    slow: bool = False
    foreseen: bool = False


@dataclass(frozen=True)
class Workload:
    """Named inputs. ``build(request)`` makes them, or raises `Unavailable`.

    ``device`` is the type of device it is for; ``share`` its part of the time of a run that has a limit; ``replayed``:
    our side is also timed as a CUDA graph.
    """

    name: str
    title: str
    kind: Kind
    build: Callable[[Request], Inputs]
    symmetric: bool = True
    precision: Precision = IEEE
    device: str = "cpu"
    share: int = 1
    replayed: bool = False


@dataclass(frozen=True)
class Provider:
    """One implementation. ``load(device)`` returns it, or raises `Unavailable`.

    Attributes:
        counted: what the figure includes.
        kinds: names of the kinds of workloads it runs on.
        fp32_norm: its link loss is one float32 norm of B N N terms, whose drift `bench.harness.truth` allows for.
        symmetry: limits it to workloads whose adjacency is symmetric (True) or is not (False).
        devices: types of devices on which it is timed without being named.
        kernels: it is the fused operator, which can be captured as a CUDA graph.
    """

    name: str
    title: str
    counted: str
    load: Callable[[torch.device], Pool]
    kinds: tuple[str, ...] = ("dense",)
    fp32_norm: bool = False
    symmetry: bool | None = None
    devices: tuple[str, ...] = ("cpu", "cuda")
    kernels: bool = False

    @property
    def is_ours(self) -> bool:
        return self.name.startswith("hierpool")

    def applies(self, workload: Workload) -> bool:
        return workload.kind.name in self.kinds and self.symmetry in (None, workload.symmetric)


@dataclass(frozen=True)
class Setting:
    """How a study runs: at least ``repeats`` of what is timed, for ``budget_s`` seconds; ``say`` reports progress."""

    seed: int
    budget_s: float
    repeats: int
    say: Callable[[str], None]


@dataclass(frozen=True)
class Study:
    """A measurement without a peer. ``run(setting)`` yields rows, or raises `Refused` or `Unavailable`.

    Rows are ``{"quantity", "value", "unit", ...}``; "low" and "high" are the 20th and 80th percentile.
    """

    name: str
    title: str
    counted: str
    run: Callable[[Setting], Iterator[dict]]


class Cost(NamedTuple):
    """What an operator makes, and what one forward or backward takes, up to a constant.

    E is the number of stored entries of a batch (N^2 of a dense graph), N of nodes, F of features, K of clusters.
    """

    time: str
    memory: str  # besides inputs and outputs
    makes: str


@dataclass(frozen=True)
class Part:
    """What a module of `bench.ops` adds to the benchmark."""

    workloads: Sequence[Workload] = ()
    providers: Sequence[Provider] = ()
    studies: Sequence[Study] = ()


def named(entries: Iterable[Any]) -> dict[str, Any]:
    """Entries by name. ValueError when two have one name."""
    found: dict[str, Any] = {}
    for entry in entries:
        if entry.name in found:
            raise ValueError(f"two entries are named {entry.name}")
        found[entry.name] = entry
    return found


def select(table: dict[str, Entry], names: list[str] | None, what: str) -> list[Entry]:
    """The entries named, in the order of the table. ValueError naming the unknown ones and the known."""
    if names is None:
        return list(table.values())
    unknown = sorted(set(names) - set(table))
    if unknown:
        raise ValueError(f"unknown {what} {', '.join(unknown)}; known: {', '.join(table)}")
    return [entry for name, entry in table.items() if name in names]
