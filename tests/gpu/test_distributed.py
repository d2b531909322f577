"""Sharded graphs on CUDA devices with NCCL: one process on one device, and two on two devices."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from hierpool import soft_pool, spmm
from hierpool.distributed import ShardedGraph
from tests.support.sharded import FIELDS, draw

SEEDS = range(1, 9)
pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_nccl_available()), reason="torch has no NCCL"
)


def check(device: torch.device) -> None:
    """Values and gradients of the default group, against one process on the CPU in float64."""
    rank, size = dist.get_rank(), dist.get_world_size()
    for seed in SEEDS:
        drawn = draw(seed, size)
        single = drawn.cast(torch.float32)
        whole, parts = single.graph.to(device), single.parts
        graph = ShardedGraph.from_global(
            whole if rank == 0 else None, parts=None if rank or parts is None else parts.to(device)
        )
        options = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in drawn.options.items()}
        own = [graph.scatter(t.to(device), src=None).requires_grad_() for t in (single.x, single.s)]
        record = soft_pool(own[0], graph, own[1], **options)
        leaves = [drawn.x.clone().requires_grad_(), drawn.s.clone().requires_grad_()]
        truth = soft_pool(leaves[0], drawn.graph, leaves[1], **drawn.options)
        near: dict[str, Any] = {"rtol": 2e-3, "atol": 2e-3}
        for name in FIELDS:
            torch.testing.assert_close(getattr(record, name).double().cpu(), getattr(truth, name), **near)
        loss = sum(getattr(record, name).double().sum() for name in ("x", "adj", "size", "volume"))
        exact = sum(getattr(truth, name).sum() for name in ("x", "adj", "size", "volume"))
        if graph.total_nodes:
            got = torch.autograd.grad(loss, own)
            expected = torch.autograd.grad(exact, leaves)
            for one, other in zip(got, expected, strict=True):
                torch.testing.assert_close(graph.gather(one).double().cpu(), other, **near)
        y = graph.gather(spmm(graph, own[0].detach()))
        torch.testing.assert_close(y.double().cpu(), spmm(drawn.graph, drawn.x), **near)


def test_one_device(device: torch.device) -> None:
    store = dist.HashStore()
    dist.init_process_group("nccl", store=store, rank=0, world_size=1)
    try:
        check(device)
    finally:
        dist.destroy_process_group()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="not run: there are fewer than two CUDA devices")
def test_two_devices() -> None:
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    mp.spawn(_process, (store.port,), nprocs=2)  # type: ignore[no-untyped-call]


def _process(rank: int, port: int) -> None:
    device = torch.device("cuda", rank)
    torch.cuda.set_device(device)
    store = dist.TCPStore("127.0.0.1", port)
    dist.init_process_group("nccl", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=120))
    check(device)
    dist.destroy_process_group()
