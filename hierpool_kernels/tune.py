"""``python -m hierpool_kernels.tune``: time tiles on this machine's GPU, and write the table that plans read.

The keys that the plans of the workloads look up (see ``core/tuned.py``) are the questions. A run asks at most 20, those
first that the table does not answer yet, and ends within a given time. For each: first half, once and twice each side,
with as many accumulator elements per thread as the plan has; then, with the fastest sides, half, once and twice the
warps, and one pipeline stage less, the same number, and one more. Tiles that do not fit, do not compile, spill, or give
other results than the plan are left out. The launches that depend on the tiles are timed in a CUDA graph, so that the
host does not slow them down.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from triton import knobs
from triton.runtime.errors import TritonError

from hierpool_kernels.core import tuned
from hierpool_kernels.core.adjacency import Dense
from hierpool_kernels.core.launch import Call, watch
from hierpool_kernels.core.plan import Tiles
from hierpool_kernels.core.rows import Rows
from hierpool_kernels.core.target import Architecture, Target, target_of
from hierpool_kernels.core.tuned import Key
from hierpool_kernels.soft_pool import Options, Saved, Upstream
from hierpool_kernels.soft_pool_bwd import launch_soft_pool_bwd
from hierpool_kernels.soft_pool_fwd import launch_soft_pool_fwd
from hierpool_kernels.tune_candidates import (
    KINDS,
    B,
    N,
    choose,
    other_pipelines,
    other_sides,
    planned,
    untuned,
)

F = 128
INPUTS = 3  # used in turn, so that no part of A stays in a cache
REPLAYS = 30
QUESTIONS = 20  # of a run


class Workload(NamedTuple):
    """Soft pooling with a dense A, forward and backward, all outputs and gradients."""

    k: int
    dtype: torch.dtype
    fp32: str
    clusters: bool = False  # each graph has a number of clusters of its own

    @property
    def tolerance(self) -> float:
        """The largest difference relative to the largest element: other orders of sums, rounding of a factor."""
        if self.dtype is torch.bfloat16:
            return 2.0**-7
        return 2.0**-9 if self.fp32 == "tf32" else 1e-4

    def run(self, target: Target, device: torch.device, seed: int) -> list[Tensor]:
        """All outputs and gradients."""
        torch.manual_seed(seed)
        logits, x = (torch.randn(B, N, width, device=device).to(self.dtype) for width in (self.k, F))
        edges = Dense.of(torch.rand(B, 1, N, N, device=device).to(self.dtype))
        clusters = torch.randint(1, self.k + 1, (B,), device=device) if self.clusters else None
        of_all = (x, edges, Rows.padded(B, N, None, None, clusters), None, False, False)
        options = Options(gram=True, link=True, entropy=True, mean=True, save=True)
        out = launch_soft_pool_fwd(logits, *of_all, options, target)
        ramps = (torch.linspace(-1, 1, t.numel(), device=device).to(t.dtype).view_as(t) for t in out[:-1])
        saved = Saved(out.s, out.gram, out.scalars, out.link_norm, out.m)
        gradients = launch_soft_pool_bwd(Upstream(*ramps), saved, *of_all, True, (True, True, True), target)
        scalars = out.scalars.unbind(1)  # of very different sizes
        return [*(t for t in out if t is not out.scalars), *scalars, *gradients]


_MODES = (
    (torch.bfloat16, "ieee"),
    (torch.float32, "tf32"),
    (torch.float32, "ieee"),
    (torch.float32, "tf32x3"),
)
# Those first whose questions matter most.
WORKLOADS = [Workload(k, dtype, fp32) for k in (64, 256, 128, 16) for dtype, fp32 in _MODES]
# The same tiles are for graphs with numbers of clusters of their own, and must not spill there.
WORKLOADS += [
    Workload(k, dtype, fp32, True)
    for k in (64, 256)
    for dtype, fp32 in ((torch.float32, "tf32"), (torch.bfloat16, "ieee"))
]


def keys(architecture: Architecture, kernels: Sequence[str]) -> dict[Key, list[Workload]]:
    """The keys that the workloads look up, in their order, with the workloads of each; runs nothing."""
    found: dict[Key, list[Workload]] = {}
    for workload in WORKLOADS:
        with untuned(), watch(run=False), tuned.record_keys() as looked_up:
            workload.run(Target(architecture, workload.fp32), torch.device("meta"), 0)
        for key in dict.fromkeys(looked_up):
            if key[0] in kernels:
                found.setdefault(key, []).append(workload)
    return found


class UnfitError(Exception):
    """The reason why tiles are left out."""


class Budget:
    """The time that is left for measurements, of which each is expected to take as long as the longest so far."""

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._end, self._longest = now, now() + seconds, 0.0

    def allows(self, measurements: int) -> bool:
        """Whether there is time for so many."""
        return self._now() + measurements * self._longest < self._end

    @contextmanager
    def measurement(self) -> Iterator[None]:
        """The time inside the context is that of a measurement, which may fail."""
        start = self._now()
        try:
            yield
        finally:
            self._longest = max(self._longest, self._now() - start)


def search(
    key: Key, architecture: Architecture, timed: Callable[[Tiles], float], budget: Budget
) -> tuple[Tiles, Tiles, dict[Tiles, float]]:
    """The tiles of the plan, the chosen ones, and the microseconds of both, measured after the choice. Candidates for
    which there is no time are not measured."""

    def measured(tiles: Tiles) -> float:
        with budget.measurement():
            return timed(tiles)

    def take(candidates: list[Tiles]) -> None:
        for tiles in candidates:
            if tiles not in us and budget.allows(3):  # one, and both again
                try:
                    us[tiles] = measured(tiles)
                except UnfitError as reason:
                    us[tiles] = math.inf
                    print(f"  {tuple(tiles)} {reason}", file=sys.stderr)

    default = planned(key, architecture)
    us = {default: measured(default)}
    take(other_sides(key, default, architecture))
    take(other_pipelines(key, min(us, key=us.__getitem__), architecture))
    best = choose(default, us)
    if best != default and not budget.allows(2):
        return default, default, us
    if best != default:  # the minimum of many measurements is biased: measure again
        us = {tiles: measured(tiles) for tiles in (default, best)}
        best = choose(default, us)
    return default, best, us


def _start(call: Call) -> Any:
    return call.kernel[call.grid](*call.arguments, **call.options)


def agree(found: list[Tensor], expected: list[Tensor], tolerance: float) -> bool:
    """True if no element differs by more than ``tolerance`` times the largest."""
    return all(
        bool((a.float() - b.float()).abs().amax() <= tolerance * b.float().abs().amax())
        for a, b in zip(found, expected, strict=True)
    )


def microseconds(calls: list[Call]) -> float:
    """Microseconds of the launches, one after another: the median of many replays."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            _start(call)
    graph.replay()
    pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(REPLAYS)]
    for begin, end in pairs:
        begin.record()
        graph.replay()
        end.record()
    torch.cuda.synchronize()
    return 1e3 * statistics.median(begin.elapsed_time(end) for begin, end in pairs) / INPUTS


def measure(key: Key, workload: Workload, tiles: Tiles, target: Target, device: torch.device) -> float:
    """Microseconds of the launches that depend on the tiles.

    Raises:
        UnfitError: if they do not compile, spill, or give other results.
    """
    kernel, *rest = key
    with untuned():
        default = tiles == planned(key, target.architecture)
        expected = workload.run(target, device, 0)
        calls: list[Call] = []
        try:
            with tuned.forced(kernel, tiles, *rest):
                for seed in reversed(range(INPUTS)):
                    with watch() as made:
                        found = workload.run(target, device, seed)
                    calls += [call for call in made if call.name in KINDS[kernel].kernels]
            spills = sum(_start(call).n_spills for call in calls)
        except (TritonError, RuntimeError) as error:
            torch.cuda.synchronize()  # raises if the device can run nothing any more
            raise UnfitError(f"fails: {type(error).__name__}: {error}") from error
    if spills and not default:
        raise UnfitError("spills")
    if not agree(found, expected, workload.tolerance):
        raise UnfitError("gives other results")
    return microseconds(calls)


def write(path: Path, table: dict[str, Any]) -> None:
    """Write a table atomically, one entry per line."""
    runs, entries = (",\n".join(map(json.dumps, table[part])) for part in ("runs", "entries"))
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_text(f'{{"format": {tuned.FORMAT},\n"runs": [\n{runs}\n],\n"entries": [\n{entries}\n]}}\n')
    os.replace(draft, path)


def tune(
    architecture: Architecture, kernels: Sequence[str], seconds: float, path: Path, run: dict[str, Any],
    timed: Callable[[Key, list[Workload], Tiles], float], now: Callable[[], float] = time.monotonic,
) -> int:  # fmt: skip
    """Add the chosen tiles to a table, each as it is found; the number of keys that were not asked for.

    Args:
        architecture: that of the device.
        kernels: functions of the plan, of :data:`KINDS`.
        seconds: no measurement is begun that is expected to end later.
        path: the table.
        run: what the table says of this run.
        timed: microseconds of the launches of a key with given tiles.
        now: the time in seconds.
    """
    budget = Budget(seconds, now)
    table = tuned.read(path)
    table["runs"].append(run)
    found = keys(architecture, kernels)
    answered = {tuned.key_of(entry) for entry in table["entries"]}
    questions = sorted(found, key=answered.__contains__)[:QUESTIONS]
    for done, key in enumerate(questions):
        if not budget.allows(1):
            return len(found) - done
        print(f"[{done + 1}/{len(questions)}] {' '.join(map(str, key))}", file=sys.stderr, flush=True)
        try:
            default, best, us = search(key, architecture, partial(timed, key, found[key]), budget)
        except UnfitError as reason:
            print(f"  left out, because the tiles of the plan fail: {reason}", file=sys.stderr)
            continue
        print(f"  {tuple(default)} {us[default]:.1f} us, {tuple(best)} {us[best]:.1f} us", file=sys.stderr)
        entry = {
            "kernel": key[0], "key": key[1:], "tiles": None if best == default else best,
            "us": round(us[best], 2), "default": default, "default_us": round(us[default], 2),
            "run": len(table["runs"]) - 1,
        }  # fmt: skip
        others = [old for old in table["entries"] if tuned.key_of(old) != key]
        table["entries"] = [*others, entry]
        write(path, table)
    return len(found) - len(questions)


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.split("\n")[0].strip()


def _metadata(device: torch.device) -> dict[str, Any]:
    return {
        "date_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name(device),
        "driver": _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "commit": _output("git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"),
    }


def _without_device() -> str | None:
    if knobs.runtime.interpret:
        return "TRITON_INTERPRET is set, and the interpreter's times say nothing of a GPU"
    if torch.version.hip or not torch.cuda.is_available():
        return "torch finds no CUDA device to measure on"
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m hierpool_kernels.tune",
        description="Time tiles on a CUDA device and write the table of its architecture.",
    )
    parser.add_argument(
        "--kernels",
        nargs="+",
        choices=KINDS,
        default=list(KINDS),
        help="functions of the plan (all)",
    )
    parser.add_argument(
        "--seconds", type=float, default=600, help="begin no measurement that would end later (default: 600)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="table to add to (default: that of the architecture)"
    )
    options = parser.parse_args(arguments)
    reason = _without_device()
    if reason is not None:
        print(f"nothing was tuned: {reason}", file=sys.stderr)
        return 2
    device = torch.device("cuda", torch.cuda.current_device())
    architecture = target_of(device).architecture
    path = options.out or tuned.path_of(architecture)

    def timed(key: Key, workloads: list[Workload], tiles: Tiles) -> float:
        return sum(measure(key, one, tiles, Target(architecture, one.fp32), device) for one in workloads)

    left = tune(architecture, options.kernels, options.seconds, path, _metadata(device), timed)
    print(f"{path}: {left} keys were not asked for; run the command again for them", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
