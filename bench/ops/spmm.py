"""A X with a sparse A."""

import hierpool
from bench.harness.workload import Cost, Part
from bench.ops.calls import MILLION, MILLION_TITLE, Build, Make, features, on_graph, workload


def spmm(build: Build) -> Make:
    """Rows of X, multiplied by the entries of a row of A and added up."""
    return on_graph(
        build, lambda graph, x, backend: hierpool.spmm(graph, x, backend=backend), features,
        lambda x, entries: tuple(x.shape), multiplies=True,
    )  # fmt: skip


PART = Part((workload("spmm", f"spmm, {MILLION_TITLE}, F 64", spmm(MILLION)),))

COST = Cost("E K", "N K", "A S, three times for walks of three edges")
