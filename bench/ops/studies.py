"""Studies: figures without a peer. Building a graph, growth of the time with the edges, use of the threads."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from statistics import linear_regression, median

import torch

from bench.harness import truth
from bench.harness.timing import Percentiles, Side, step
from bench.harness.workload import CPU, Part, Pool, Refused, Request, Setting, Study, Unavailable
from bench.ops.batches import SparseBatch
from bench.ops.graphs import Sparse, one_huge_many_tiny, random_edges, random_graph, star
from bench.ops.soft_pool import BACKENDS, load_graph, load_torch_sparse, require

Figures = Callable[[Setting], Iterator[dict]]


def figure(quantity: str, times: Percentiles, unit: str, **more: object) -> dict:
    """A row."""
    return {
        "quantity": quantity, "value": times.p50, "low": times.p20, "high": times.p80, "unit": unit, **more,
    }  # fmt: skip


def repeated(call: Callable[[], float], setting: Setting) -> Percentiles:
    """Percentiles of the seconds that ``call`` returns, after a warm-up."""
    count = max(setting.repeats, min(101, int(setting.budget_s / Side([call], CPU).warm_up())))
    return Percentiles.of([call() for _ in range(count)])


def checked(pool: Pool, batch: SparseBatch) -> Pool:
    """``pool``, whose values and combined gradients are right on ``batch``."""
    true = truth.truth_of(batch, load_torch_sparse(CPU), separate=False)
    verdict = truth.verify(pool, batch, true)
    if not verdict.ok:
        raise Refused("; ".join(verdict.failures))
    return pool


# ---- building a graph ------------------------------------------------------------------------------------------------


def graph_build(nodes: int, entries: int) -> Figures:
    """Seconds from ``edge_index`` in random order to a graph whose symmetry is known."""

    def run(setting: Setting) -> Iterator[dict]:
        require("soft_pool", BACKENDS["cpu"], CPU)
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
    return linear_regression(*([math.log(v) for v in values] for values in (sizes, seconds))).slope


def linearity(entries: Sequence[int], degree: int = 10) -> Figures:
    """Seconds of a step on random graphs of several sizes, and the exponent of their growth."""

    def run(setting: Setting) -> Iterator[dict]:
        pool = load_graph(CPU)
        seconds = []
        for count in entries:
            setting.say(f"{count} entries ...")
            batch = random_graph(count // degree, count)(Request(setting.seed))
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


def thread_use(cases: dict[str, Sparse]) -> Figures:
    """Speed-up of a step by all threads over one, in pairs, and how many processors it keeps busy.

    Processor time counts a thread that waits in a loop as busy; the speed-up does not.
    """

    def run(setting: Setting) -> Iterator[dict]:
        threads = torch.get_num_threads()
        if threads < 2:
            raise Unavailable("needs at least two threads")
        pool = load_graph(CPU)
        for name, build in cases.items():
            setting.say(f"{name} ...")
            batch = build(Request(setting.seed))
            call = step(checked(pool, batch), batch, "both")
            pair_s = sum(timed_with(n, call)[0] for n in (1, threads))
            pairs = max(setting.repeats, min(51, int(setting.budget_s / pair_s)))
            samples = [(timed_with(1, call), timed_with(threads, call)) for _ in range(pairs)]
            gain = Percentiles.of([one / wall for (one, _), (wall, _) in samples])
            busy = median(cpu / wall for _, (wall, cpu) in samples)
            seconds = median(wall for _, (wall, _) in samples)
            yield figure(name, gain, "x", threads=threads, busy=busy, seconds=seconds)

    return run


_POOLING = "forward + backward of soft pooling with both losses, graph given"

PART = Part(studies=(
    Study("million-graph", "Graph from edge_index, N 1 000 000, E 10 000 000",
          "edges in random order, whether A is symmetric found out", graph_build(1_000_000, 10_000_000)),
    Study("linearity", "Time against E, N = E / 10, K 64, F 64", _POOLING,
          linearity((100_000, 300_000, 1_000_000, 3_000_000, 10_000_000))),
    Study("threads", "Threads, K 64, F 64", _POOLING,
          thread_use({
              "star of 1 000 000 leaves": star(1_000_000),
              "one graph of N 200 000, E 2 000 000 and 1000 of 10 to 29 nodes": one_huge_many_tiny(
                  200_000, 2_000_000, 1000
              ),
          })),
))  # fmt: skip
