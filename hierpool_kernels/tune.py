"""``python -m hierpool_kernels.tune``: time tiles on the GPU at hand, and write the table that plans look them up in.

For each question that the plans of the workloads ask a table (see ``tuned``), first half, once and twice each side,
with as many elements of a sum for a thread as the plan has; then, at the fastest sides, half, once and twice the warps,
and one stage less, as many and one more. Left out is what cannot fit, does not compile, spills, or gives other results
than the plan. What is timed are the launches that the tiles have a part in, from a graph, which the host cannot slow.
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
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from triton import knobs
from triton.runtime.errors import TritonError

from hierpool_kernels import plan, soft_pool, tuned
from hierpool_kernels.batch import Batch
from hierpool_kernels.launch import Call, watch
from hierpool_kernels.plan import Tiles
from hierpool_kernels.target import PRECISIONS, Architecture, Target, target_of
from hierpool_kernels.tuned import Question

B, N, F = 32, 1024, 128
NOISE = 0.03  # a gain that is none
INPUTS = 3  # taken in turns, so that none of A is left in a cache
REPLAYS = 30


class Workload(NamedTuple):
    """Soft pooling with a dense A, forward and backward, all outputs and gradients."""

    k: int
    dtype: torch.dtype
    fp32: str

    @property
    def tolerance(self) -> float:
        """Of a difference, beside the largest element: sums in another order, rounded to the type of a factor."""
        if self.dtype is torch.bfloat16:
            return 2.0**-7
        return 2.0**-9 if self.fp32 == "tf32" else 1e-4

    def run(self, target: Target, device: torch.device, seed: int) -> list[Tensor]:
        """All outputs and gradients."""
        torch.manual_seed(seed)
        logits, x = (torch.randn(B, N, width, device=device).to(self.dtype) for width in (self.k, F))
        edges = soft_pool.Dense(torch.rand(B, 1, N, N, device=device).to(self.dtype))
        of_all = (x, edges, Batch.padded(B, N, None, None), None, False, False)
        wanted = soft_pool.Wanted(gram=True, link=True, entropy=True, mean=True, save=True)
        out = soft_pool.launch_soft_pool_fwd(logits, *of_all, wanted, target)
        ramps = (torch.linspace(-1, 1, t.numel(), device=device).to(t.dtype).view_as(t) for t in out[:-1])
        saved = soft_pool.Saved(out.s, out.gram, out.link_norm, out.m)
        gradients = soft_pool.launch_soft_pool_bwd(
            soft_pool.Upstream(*ramps), saved, *of_all, True, (True, True, True), target
        )
        scalars = out.scalars.unbind(1)  # of very different sizes
        return [*(t for t in out if t is not out.scalars), *scalars, *gradients]


WORKLOADS = [
    Workload(k, dtype, fp32)
    for k in (16, 64, 128, 256)
    for dtype, fp32 in (*((torch.float32, how) for how in PRECISIONS), (torch.bfloat16, "ieee"))
]


class Kind(NamedTuple):
    """Of a plan's tiles: the side that is summed over, the sides that cover the widths of a question, and the kernels
    that take them or have more or less to do because of them."""

    inner: str
    covering: tuple[str, ...]
    kernels: tuple[str, ...]


KINDS = {
    "dense_rows": Kind("bj", ("bk",), ("_soft_pool_rows_kernel", "_products_kernel", "_finish_kernel")),
    "dense_product": Kind("bj", ("bk",), ("_dense_product_kernel",)),
    "products": Kind("bn", ("bk", "bj"), ("_products_kernel",)),
    "rows_backward": Kind("bj", ("bk",), ("_soft_pool_rows_bwd_kernel", "_softmax_bwd_kernel")),
    "row_products": Kind("bk", ("bj",), ("_row_products_kernel",)),
    "dense_edges": Kind("bk", (), ("_dense_edges_kernel",)),
}


@contextmanager
def untuned() -> Iterator[None]:
    """Plans inside do without a table."""
    with ExitStack() as stack:
        for kernel in KINDS:
            stack.enter_context(tuned.forced(kernel, None))
        yield


def questions(architecture: Architecture, kernels: Sequence[str]) -> dict[Question, list[Workload]]:
    """What the workloads ask a table, and which of them do; starts nothing."""
    found: dict[Question, list[Workload]] = {}
    for workload in WORKLOADS:
        with untuned(), watch(run=False), tuned.listen() as asked:
            workload.run(Target(architecture, workload.fp32), torch.device("meta"), 0)
        for question in dict.fromkeys(asked):
            if question[0] in kernels:
                found.setdefault(question, []).append(workload)
    return found


def planned(question: Question, architecture: Architecture) -> Tiles:
    """The tiles of the plan itself."""
    kernel, how, *widths = question
    target = Target(architecture, "ieee")
    with untuned():
        if kernel == "dense_rows":
            return plan.dense_rows(B, N, 1, widths[0], how, target).tiles
        tiles = getattr(plan, kernel)(*widths, how, target)
    return tiles[0] if kernel == "rows_backward" else tiles


def _sums(kernel: str, tiles: Tiles) -> int:
    """Elements of the tile of sums."""
    return math.prod(tiles[:3]) // getattr(tiles, KINDS[kernel].inner)


def fits(question: Question, tiles: Tiles, architecture: Architecture) -> bool:
    """Whether the tiles of a pass of the loop, once for each stage, fit into shared memory, and the sums into
    registers, and no tile is wider than what it covers. What Triton takes beyond that, a launch finds out."""
    kernel, how, *widths = question
    kind, sides = KINDS[kernel], tiles[:3]
    inner = getattr(tiles, kind.inner)
    shared = tiles.stages * inner * (sum(sides) - inner) * (2 if how == "half" else 4)
    covering = zip(kind.covering, widths, strict=True)
    return (
        tuned.SMALLEST <= min(sides) <= max(sides) <= tuned.LARGEST
        and all(getattr(tiles, side) <= width for side, width in covering)
        and 4 <= tiles.warps <= 16
        and 4 <= _sums(kernel, tiles) // (32 * tiles.warps) <= 64
        and tiles.stages >= 1
        and shared <= architecture.shared_bytes
    )


def other_sides(question: Question, start: Tiles, architecture: Architecture) -> list[Tiles]:
    """Half, once and twice each side, with warps in proportion to the sums."""
    found = []
    for factors in product((1, 2, 4), repeat=3):
        bn, bj, bk = (size * factor // 2 for size, factor in zip(start[:3], factors, strict=True))
        tiles = Tiles(bn, bj, bk, start.warps, start.stages)
        warps = start.warps * _sums(question[0], tiles) // _sums(question[0], start)
        found.append(tiles._replace(warps=min(max(warps, 4), 16)))
    return [tiles for tiles in found if fits(question, tiles, architecture)]


def other_pipelines(question: Question, start: Tiles, architecture: Architecture) -> list[Tiles]:
    """Half, once and twice the warps; one stage less, as many, and one more."""
    warps = (start.warps // 2, start.warps, 2 * start.warps)
    stages = range(start.stages - 1, start.stages + 2)
    found = (start._replace(warps=w, stages=s) for w, s in product(warps, stages))
    return [tiles for tiles in found if fits(question, tiles, architecture)]


def choose(default: Tiles, us: dict[Tiles, float]) -> Tiles:
    """The fastest, if it beats the plan's own tiles by more than the noise; else those."""
    fastest = min(us, key=lambda tiles: (us[tiles], tiles))
    return fastest if us[fastest] < (1 - NOISE) * us[default] else default


class UnfitError(Exception):
    """Why tiles are left out."""


def search(
    question: Question, architecture: Architecture, timed: Callable[[Tiles], float]
) -> tuple[Tiles, Tiles, dict[Tiles, float]]:
    """The plan's tiles, the chosen ones, and the microseconds of both, from measurements after the choice."""
    default = planned(question, architecture)
    us = {default: timed(default)}

    def take(candidates: list[Tiles]) -> None:
        for tiles in candidates:
            if tiles not in us:
                try:
                    us[tiles] = timed(tiles)
                except UnfitError as reason:
                    us[tiles] = math.inf
                    print(f"  {tuple(tiles)} {reason}", file=sys.stderr)

    take(other_sides(question, default, architecture))
    take(other_pipelines(question, min(us, key=us.__getitem__), architecture))
    best = choose(default, us)
    if best != default:  # the least of many is too little: once more
        us = {tiles: timed(tiles) for tiles in (default, best)}
        best = choose(default, us)
    return default, best, us


def _start(call: Call) -> Any:
    return call.kernel[call.grid](*call.arguments, **call.options)


def agree(found: list[Tensor], expected: list[Tensor], tolerance: float) -> bool:
    """Whether no element differs by more than ``tolerance`` of the largest."""
    return all(
        bool((a.float() - b.float()).abs().amax() <= tolerance * b.float().abs().amax())
        for a, b in zip(found, expected, strict=True)
    )


def microseconds(calls: list[Call]) -> float:
    """Of the launches one after another, the median of many replays."""
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


def measure(
    question: Question, workload: Workload, tiles: Tiles, target: Target, device: torch.device
) -> float:
    """Microseconds with these tiles of the launches they have a part in.

    Raises:
        UnfitError: they do not compile, spill, or give other results.
    """
    kernel, *key = question
    with untuned():
        default = tiles == planned(question, target.architecture)
        expected = workload.run(target, device, 0)
        calls: list[Call] = []
        try:
            with tuned.forced(kernel, tiles, *key):
                for seed in reversed(range(INPUTS)):
                    with watch() as made:
                        found = workload.run(target, device, seed)
                    calls += [call for call in made if call.name in KINDS[kernel].kernels]
            spills = sum(_start(call).n_spills for call in calls)
        except (TritonError, RuntimeError) as error:
            torch.cuda.synchronize()  # raises where nothing can run any more
            raise UnfitError(f"fails: {type(error).__name__}: {error}") from error
    if spills and not default:
        raise UnfitError("spills")
    if not agree(found, expected, workload.tolerance):
        raise UnfitError("gives other results")
    return microseconds(calls)


def write(path: Path, table: dict[str, Any]) -> None:
    """All at once, an entry a line."""
    runs, entries = (",\n".join(map(json.dumps, table[part])) for part in ("runs", "entries"))
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_text(f'{{"format": {tuned.FORMAT},\n"runs": [\n{runs}\n],\n"entries": [\n{entries}\n]}}\n')
    os.replace(draft, path)


def tune(
    architecture: Architecture, kernels: Sequence[str], seconds: float, path: Path, run: dict[str, Any],
    timed: Callable[[Question, list[Workload], Tiles], float],
) -> int:  # fmt: skip
    """Add the answers to a table, each as it is found; the number of questions for which there was no time."""
    begin = time.monotonic()
    table = tuned.read(path)
    table["runs"].append(run)
    found = questions(architecture, kernels)
    for done, (question, workloads) in enumerate(found.items()):
        if time.monotonic() - begin > seconds:
            return len(found) - done
        print(f"[{done + 1}/{len(found)}] {' '.join(map(str, question))}", file=sys.stderr, flush=True)
        try:
            default, best, us = search(question, architecture, partial(timed, question, workloads))
        except UnfitError as reason:
            print(f"  not answered, for the plan's own tiles: {reason}", file=sys.stderr)
            continue
        print(f"  {tuple(default)} {us[default]:.1f} us, {tuple(best)} {us[best]:.1f} us", file=sys.stderr)
        entry = {
            "kernel": question[0], "key": question[1:], "tiles": None if best == default else best,
            "us": round(us[best], 2), "default": default, "default_us": round(us[default], 2),
            "run": len(table["runs"]) - 1,
        }  # fmt: skip
        others = [old for old in table["entries"] if tuned.question_of(old) != question]
        table["entries"] = [*others, entry]
        write(path, table)
    return 0


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.split("\n")[0].strip()


def _metadata(device: torch.device) -> dict[str, Any]:
    return {
        "date_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name(device),
        "driver": _said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "commit": _said("git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"),
    }


def _without_device() -> str | None:
    if knobs.runtime.interpret:
        return "TRITON_INTERPRET is set, and the interpreter's times say nothing of a GPU"
    if torch.version.hip or not torch.cuda.is_available():
        return "torch finds no CUDA device to measure on"
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m hierpool_kernels.tune",
        description="Time tiles on a CUDA device and write the table of its architecture.",
    )
    parser.add_argument("--kernels", nargs="+", choices=KINDS, default=list(KINDS), help="of the plan (all)")
    parser.add_argument(
        "--seconds", type=float, default=7200, help="start no question after this time (7200)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="add to this table (that of the architecture)"
    )
    options = parser.parse_args(arguments)
    reason = _without_device()
    if reason is not None:
        print(f"nothing was tuned: {reason}", file=sys.stderr)
        return 2
    device = torch.device("cuda", torch.cuda.current_device())
    architecture = target_of(device).architecture
    path = options.out or tuned.path_of(architecture)

    def timed(question: Question, workloads: list[Workload], tiles: Tiles) -> float:
        return sum(measure(question, one, tiles, Target(architecture, one.fp32), device) for one in workloads)

    left = tune(architecture, options.kernels, options.seconds, path, _metadata(device), timed)
    print(f"{path}: {left} questions were left for want of time", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
