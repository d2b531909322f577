"""Bytes that the processes of a sharded graph send in a step of soft pooling, counted and by the formula."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from hierpool import RaggedGraph, multilevel_clusters, soft_pool
from hierpool.data import rmat, stochastic_block_model
from hierpool.distributed import ShardedGraph, ranks

PARTITIONS = ("contiguous", "random", "communities")
GRAPHS = ("planted", "rmat")
COMMUNITIES = 64


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
        return stochastic_block_model(nodes, COMMUNITIES, mean_degree=mean_degree, mixing=0.2)
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
    parser.add_argument("--nodes", type=int, default=1 << 20)
    parser.add_argument("--mean-degree", type=float, default=10.0)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--k", type=int, default=16)
    parser.add_argument("--features", type=int, default=16)


def run(args: argparse.Namespace) -> int:
    """Print a row for every graph and partition."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    mp.spawn(_process, (args, store.port), nprocs=args.processes)  # type: ignore[no-untyped-call]
    return 0


def _process(rank: int, args: argparse.Namespace, port: int) -> None:
    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=args.processes)
    step = Step(args.k, args.features, args.processes)
    if rank == 0:
        print(
            f"{args.processes} processes, K = {args.k}, F = {args.features}; MB that the busiest process sends"
        )
        print("| graph | nodes | entries | partition | halo rows | counted | formula | ratio |")
        print("|---|---|---|---|---|---|---|---|", flush=True)
    for name in GRAPHS:
        graph, labels = draw(name, args.nodes, args.mean_degree) if rank == 0 else (None, None)
        for partition in PARTITIONS:
            parts = None if graph is None else parts_of(graph, labels, partition, args.processes)
            shard = ShardedGraph.from_global(graph, parts=parts)
            mine = (*count_step(shard, step), shard.halo.size)
            rows = shard.ranks.objects(mine)
            if rank == 0:
                sent, formula, halo = max(rows)
                print(
                    f"| {name} | {shard.total_nodes:,} | {shard.total_edges:,} | {partition} | {halo:,} "
                    f"| {sent / 1e6:.2f} | {formula / 1e6:.2f} | {sent / formula:.4f} |",
                    flush=True,
                )
    dist.destroy_process_group()
