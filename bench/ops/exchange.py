"""Bytes that the processes of a sharded graph send in a step of soft pooling, counted and by the formula."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from bench.harness import machine, results
from bench.harness.workload import CPU
from hierpool import RaggedGraph, multilevel_clusters, soft_pool
from hierpool.data import rmat, stochastic_block_model
from hierpool.distributed import ShardedGraph, ranks

RESULTS = results.RESULTS / "exchange"
PARTITIONS = ("contiguous", "random", "communities")
GRAPHS = {"planted": "planted", "rmat": "R-MAT"}
COMMUNITIES, MIXING = 64, 0.2
DEFAULTS = {"nodes": 1 << 20, "mean_degree": 10.0, "processes": 4, "k": 16, "features": 16}


class Step(NamedTuple):
    """The sizes of a step."""

    k: int
    features: int
    processes: int
    graphs: int = 1
    bytes_of_s: int = 4
    gram: bool = True


def record_bytes(step: Step) -> float:
    """What a process sends to sum the record: a part to every other process, then the sums of its own part to each."""
    k, p = step.k, step.processes
    numbers = step.graphs * (k * step.features + (2 if step.gram else 1) * k * k + 2 * k + 5)
    part = -(-numbers // p)
    return 2 * (p - 1) * part * 8


def step_bytes(step: Step, sent_rows: int, halo_rows: int, directed: bool) -> float:
    """What a process sends in a forward and a backward.

    ``sent_rows``: rows of S for other processes, one for each that needs it; ``halo_rows``: rows that it receives, for
    which it returns partial sums of a directed graph in float32.
    """
    rows = sent_rows * step.bytes_of_s + (halo_rows * 4 if directed else 0)
    return rows * step.k + record_bytes(step)


def halo_rows(nodes: int, processes: int, mean_degree: float, share: float) -> float:
    """Rows of other processes that a process needs of a random graph.

    ``share``: that of the edges of a node which go to one other process.
    """
    return nodes * (1 - 1 / processes) * (1 - math.exp(-mean_degree * share))


class Counter:
    """Bytes that this process gave to others."""

    sent = 0


@contextmanager
def counted() -> Iterator[Counter]:
    """Count what the collectives of the package send, from their arguments."""
    counter, exchange, gather = Counter(), dist.all_to_all_single, ranks._all_gather

    def all_to_all(output, given, receive=None, send=None, group=None, **options):  # type: ignore[no-untyped-def]
        size, rank = dist.get_world_size(group), dist.get_rank(group)
        lengths = send if send is not None else [given.size(0) // size] * size
        counter.sent += (sum(lengths) - lengths[rank]) * given.element_size()
        return exchange(output, given, receive, send, group=group, **options)

    def all_gather(output, given, group=None):  # type: ignore[no-untyped-def]
        counter.sent += given.numel() * given.element_size() * (dist.get_world_size(group) - 1)
        return gather(output, given, group=group)

    dist.all_to_all_single, ranks._all_gather = all_to_all, all_gather
    try:
        yield counter
    finally:
        dist.all_to_all_single, ranks._all_gather = exchange, gather


def count_step(graph: ShardedGraph, step: Step) -> tuple[int, float]:
    """The bytes that this process sent in a forward and a backward, and those of the formula."""
    n = graph.num_nodes
    generator = torch.Generator().manual_seed(graph.ranks.rank)
    s = torch.randn(n, step.k, generator=generator, requires_grad=True)
    x = torch.randn(n, step.features, generator=generator, requires_grad=True)
    with counted() as counter:
        record = soft_pool(x, graph, s, entropy=False)
        (record.link_norm + record.x.sum()).backward()
    return counter.sent, step_bytes(step, sum(graph.halo.send), graph.halo.size, not graph.is_symmetric)


def draw(name: str, nodes: int, mean_degree: float) -> tuple[RaggedGraph, Tensor | None]:
    """A graph, and its communities if they are known."""
    if name == "planted":
        return stochastic_block_model(nodes, COMMUNITIES, mean_degree=mean_degree, mixing=MIXING)
    return rmat((nodes - 1).bit_length(), mean_degree=mean_degree), None


def parts_of(graph: RaggedGraph, labels: Tensor | None, partition: str, processes: int) -> Tensor | None:
    """The process of each node; ``None``: contiguous ranges."""
    if partition == "random":
        return torch.randint(processes, (graph.num_nodes,), generator=torch.Generator().manual_seed(1))
    if partition == "communities":
        if labels is not None:
            return labels * processes // COMMUNITIES
        return multilevel_clusters(graph, processes, objective="cut", cycles=1)
    return None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    for name, value in DEFAULTS.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=type(value), default=value, help="(default: %(default)s)")


def run(args: argparse.Namespace, parent: Path = RESULTS) -> results.Results:
    """Count into a new folder of results, a row for every graph and partition."""
    options = {name: getattr(args, name) for name in DEFAULTS}
    folder = results.create_folder(parent, machine.describe(CPU) | options | {"quick": options != DEFAULTS})
    started = time.perf_counter()
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    mp.spawn(_process, (options, store.port, folder), nprocs=args.processes)  # type: ignore[no-untyped-call]
    results.finish(folder, time.perf_counter() - started)
    return results.read(folder)


def _process(rank: int, options: dict, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    store, size = dist.TCPStore("127.0.0.1", port), options["processes"]
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
    step = Step(options["k"], options["features"], size)
    for name, title in GRAPHS.items():
        graph, labels = draw(name, options["nodes"], options["mean_degree"]) if rank == 0 else (None, None)
        for partition in PARTITIONS:
            parts = None if graph is None else parts_of(graph, labels, partition, size)
            shard = ShardedGraph.from_global(graph, parts=parts)
            mine = (*count_step(shard, step), shard.halo.size)
            every = shard.ranks.objects(mine)
            if rank == 0:
                sent, formula, halo = max(every)
                row = {
                    "status": "measured", "graph": name, "title": title, "nodes": shard.total_nodes,
                    "entries": shard.total_edges, "partition": partition, "halo_rows": halo, "sent_bytes": sent,
                    "formula_bytes": formula,
                }  # fmt: skip
                results.append_row(folder, row)
                print(
                    f"{title}, {partition}: {sent} bytes sent, {sent / formula:.4f} of the formula",
                    flush=True,
                )
    dist.destroy_process_group()
