"""The total variation of S over the entries of A, sparse and dense."""

import hierpool
from bench.harness.workload import Cost, Part
from bench.ops import calls
from bench.ops.calls import Build, Make, workload


def sparse(build: Build) -> Make:
    """Over the edges of a graph."""
    return calls.on_graph(
        build, lambda graph, s, backend: hierpool.total_variation(s, graph, backend=backend).variation,
        calls.assignment, lambda s, entries: (1,),
    )  # fmt: skip


def dense(build: Build) -> Make:
    """Over the entries of a padded batch."""
    return calls.on_assignment(
        build, lambda s, adj, backend: hierpool.total_variation(s, adj, backend=backend).variation, pairs=True
    )


PART = Part((
    workload("variation", f"total_variation, {calls.MILLION_TITLE}, K 64", sparse(calls.MILLION)),
    workload("variation-dense", f"total_variation, {calls.DENSE_TITLE} K64, dense", dense(calls.PAIRS)),
))  # fmt: skip

COST = Cost("E K", "N K", "L1 distances over the edges")
