"""Measurements that are no race of providers on a batch: building a graph, growth of the time, use of the threads.

A study yields rows ``{"quantity", "value", "unit", ...}``; "low" and "high" are the 20th and 80th percentile. It checks
its results first, as `verify` does, and raises `Refused` when one is wrong.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import torch

from bench import verify
from bench.measure import Percentiles, step, warm_up
from bench.providers import Pool, Provider
from bench.sparse import Build, SparseBatch, random_edges, random_graph
from bench.sparse_providers import load_hierpool_sparse, load_torch_sparse


class Refused(RuntimeError):
    """A result is wrong; the message says which."""


class StudyUnavailable(RuntimeError):
    """The study cannot be made here; the message is the reason that the report prints."""


@dataclass(frozen=True)
class Setting:
    """How to run: ``repeats`` at least of what is timed, for ``budget_s`` seconds; ``say`` reports progress."""

    seed: int
    budget_s: float
    repeats: int
    say: Callable[[str], None]


@dataclass(frozen=True)
class Study:
    """A named measurement. ``run(setting)`` makes it, or raises `Refused`, or `StudyUnavailable` or its like."""

    name: str
    title: str
    counted: str
    run: Callable[[Setting], Iterator[dict]]


def figure(quantity: str, times: Percentiles, unit: str, **more: object) -> dict:
    """A row."""
    return {
        "quantity": quantity, "value": times.p50, "low": times.p20, "high": times.p80, "unit": unit, **more,
    }  # fmt: skip


def repeated(call: Callable[[], float], setting: Setting) -> Percentiles:
    """Percentiles of the seconds that ``call`` returns, after a warm-up."""
    count = max(setting.repeats, min(101, int(setting.budget_s / warm_up(call))))
    return Percentiles.of([call() for _ in range(count)])


def checked(pool: Pool, batch: SparseBatch) -> Pool:
    """``pool``, whose values and combined gradients are right on ``batch``."""
    provider = Provider("hierpool", "hierpool", "", lambda: pool)
    truth = verify.truth_of(batch, load_torch_sparse, separate=False)
    verdict = verify.verify(provider, pool, batch, truth)
    if not verdict.ok:
        raise Refused("; ".join(verdict.failures))
    return pool


# ---- building a graph ------------------------------------------------------------------------------------------------


def graph_build(nodes: int, entries: int) -> Callable[[Setting], Iterator[dict]]:
    """Seconds from ``edge_index`` in random order to a graph whose symmetry is known."""

    def run(setting: Setting) -> Iterator[dict]:
        load_hierpool_sparse("built")()  # says so if the kernels are missing
        from hierpool import RaggedGraph

        for name, symmetric in (("undirected", True), ("directed", False)):
            setting.say(f"{name} ...")
            gen = torch.Generator().manual_seed(setting.seed)
            edges = random_edges(nodes, entries, gen, symmetric=symmetric)

            def build(edges: torch.Tensor = edges) -> float:
                start = time.perf_counter()
                RaggedGraph.from_edge_index(edges, nodes)
                return time.perf_counter() - start

            graph = RaggedGraph.from_edge_index(edges, nodes)
            got, _ = graph.to_edge_index()
            in_order = (edges[0] * nodes + edges[1]).sort().values
            if graph.is_symmetric != symmetric or not torch.equal(got[0] * nodes + got[1], in_order):
                raise Refused(f"{name}: the graph does not hold the edges that it was built from")
            yield figure(name, repeated(build, setting), "s", nodes=nodes, entries=entries)

    return run


# ---- growth of the time ----------------------------------------------------------------------------------------------


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The slope of log(seconds) over log(sizes) by least squares."""
    x, y = ([math.log(v) for v in values] for values in (sizes, seconds))
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - mean_x) ** 2 for a in x)


def linearity(entries: Sequence[int], degree: int = 10) -> Callable[[Setting], Iterator[dict]]:
    """Seconds of a step on random graphs of several sizes, and the exponent of their growth."""

    def run(setting: Setting) -> Iterator[dict]:
        pool = load_hierpool_sparse("loader")()
        seconds = []
        for count in entries:
            setting.say(f"{count} entries ...")
            batch = random_graph(count // degree, count)(setting.seed, None)
            times = repeated(step(checked(pool, batch), batch, "both"), setting)
            seconds.append(times.p50)
            yield figure("seconds", times, "s", nodes=count // degree, entries=count)
        yield {"quantity": "exponent", "value": exponent(entries, seconds), "unit": ""}

    return run


# ---- threads ---------------------------------------------------------------------------------------------------------


def timed_with(threads: int, call: Callable[[], float]) -> tuple[float, float]:
    """Wall-clock seconds and processor seconds of ``call`` on this many threads of torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        return time.perf_counter() - wall, time.process_time() - cpu
    finally:
        torch.set_num_threads(before)


def thread_use(cases: dict[str, Build]) -> Callable[[Setting], Iterator[dict]]:
    """Speed-up of a step by all threads over one, in pairs, and how many processors it keeps busy.

    Processor time counts a thread that waits in a loop as busy; the speed-up does not.
    """

    def run(setting: Setting) -> Iterator[dict]:
        threads = torch.get_num_threads()
        if threads < 2:
            raise StudyUnavailable("needs at least two threads")
        pool = load_hierpool_sparse("loader")()
        for name, build in cases.items():
            setting.say(f"{name} ...")
            batch = build(setting.seed, None)
            call = step(checked(pool, batch), batch, "both")
            pair_s = sum(timed_with(n, call)[0] for n in (1, threads))
            pairs = max(setting.repeats, min(51, int(setting.budget_s / pair_s)))
            samples = [(timed_with(1, call), timed_with(threads, call)) for _ in range(pairs)]
            gain = Percentiles.of([one / wall for (one, _), (wall, _) in samples])
            busy = median(cpu / wall for _, (wall, cpu) in samples)
            seconds = median(wall for _, (wall, _) in samples)
            yield figure(name, gain, "x", threads=threads, busy=busy, seconds=seconds)

    return run
