"""The distance between the rows of X at both ends of every edge."""

import hierpool
from bench.harness.workload import Part
from bench.ops.calls import MILLION, MILLION_TITLE, Build, Make, features, on_graph, workload


def edge_distances(build: Build) -> Make:
    """L1 distances, one for each entry of A."""
    return on_graph(
        build, lambda graph, x, backend: hierpool.edge_distances(graph, x, backend=backend), features,
        lambda x, entries: (entries,),
    )  # fmt: skip


PART = Part((workload("distances", f"edge_distances, {MILLION_TITLE}, F 64", edge_distances(MILLION)),))
