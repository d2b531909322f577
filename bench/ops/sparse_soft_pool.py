"""DiffPool with a quarter of the nodes as clusters, on a graph on which N x K is impossible."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch

from bench.harness.memory import peak_of
from bench.harness.workload import Part, Refused, Setting, Study
from bench.ops.soft_pool import BACKENDS, require
from bench.ops.studies import figure, repeated


def quarter(
    nodes: int, degree: int, candidates: int, features: int = 16
) -> Callable[[Setting], Iterator[dict]]:
    """Seconds and peak memory of a step: X', A', link and entropy loss, gradients of logits and X."""

    def run(setting: Setting) -> Iterator[dict]:
        require("soft_pool", BACKENDS["cpu"], torch.device("cpu"))
        from hierpool import heavy_edge_clusters, losses, sparse_soft_pool, top_m_softmax
        from hierpool.data.synthetic import stochastic_block_model
        from hierpool.selection import cluster_candidates

        setting.say("graph, clusters and candidates ...")
        k = nodes // 4
        graph, _ = stochastic_block_model(
            nodes, max(2, nodes // 1000), mean_degree=degree, mixing=0.2, seed=setting.seed
        )
        found = cluster_candidates(graph, heavy_edge_clusters(graph, k), candidates)
        random = torch.Generator().manual_seed(setting.seed)
        logits = torch.randn(nodes, candidates, generator=random).requires_grad_()
        x = torch.randn(nodes, features, generator=random).requires_grad_()
        entries = [0]

        def step() -> float:
            start = time.perf_counter()
            s = top_m_softmax(logits, graph, candidates=found, num_clusters=k)
            record = sparse_soft_pool(x, graph, s)
            entries[0] = record.adj.num_edges
            assert record.adj.value is not None
            total = losses.link_pred_loss(record) + losses.entropy_loss(record)
            total = total + record.x.mean() + record.adj.value.mean()
            del record
            torch.autograd.grad(total, [logits, x])
            return time.perf_counter() - start

        setting.say("steps ...")
        times = repeated(step, setting)
        if not entries[0]:
            raise Refused("the coarsened graph has no entry")
        sizes = {"nodes": nodes, "entries": graph.num_edges, "coarse_entries": entries[0]}
        yield figure("step", times, "s", threads=torch.get_num_threads(), **sizes)
        yield {"quantity": "peak besides inputs", "value": peak_of(step) / 2**30, "unit": "GiB", **sizes}

    return run


PART = Part(studies=(
    Study("quarter-clusters", "DiffPool step, K = N / 4, 4 candidates a node, N 1 000 000, E 10 000 000, F 16",
          "sparse soft assignment, both losses, gradients of logits and features; candidates given",
          quarter(1_000_000, 10, 4)),
))  # fmt: skip
