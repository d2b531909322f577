"""What the kernels will take on an H200, predicted from bytes and flops, launch by launch: ``python -m bench bytes``.

The launches are the real ones, written down by ``hierpool_kernels.launch.watch`` from tensors without data; what each
must move and compute is said by `bench.costs`. A launch takes the longer of bytes / copy bandwidth and flops / rate of
the product, of which fewer programs than multiprocessors get their share, and a start. The sum over launches is the
prediction, beside the floor: least work by `bench.floors`, and the gathers that no cache can hold.

Chains of dependent loads, registers and the work of the host are not in it: where a measurement is far off, this is
where to look first.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bench import floors
from bench.costs import COSTS, Cost, Launch, gathered_bytes, size
from bench.gpu.workloads import WORKLOADS, GpuWorkload
from bench.operators import Problem
from bench.registry import select
from bench.sparse import AnyBatch
from bench.tables import aligned, number
from bench.workloads import Batch

META = torch.device("meta")
MODES = ("forward", "backward", "both")
# What a kernel is told when symmetric is True, and when it is None: on a GPU it does not look.
TOLD = {True: "symmetric given", False: "not given"}
KINDS = ("dense", "graphs", "large")  # without those that have a layer before the pooling
POOLING = {name: w for name, w in WORKLOADS.items() if w.kind in KINDS}


@dataclass(frozen=True)
class DeviceRates:
    """What a device does: copy (read + write), products by how they are taken, the start of a launch; its L2 cache."""

    copy_gbps: float
    gemm_gflops: Mapping[str, float]  # of "half", "tf32" and "ieee"
    launch_us: float
    l2_bytes: int
    processors: int

    def of(self, rate: str) -> floors.Rates:
        """The rates for a floor whose products are taken in one way."""
        return floors.Rates(self.copy_gbps, self.gemm_gflops[rate])


# Copy and bfloat16 products as such a card does them, TF32 at half of that, float32 from its data sheet; what the start
# of a launch takes is assumed.
H200 = DeviceRates(
    4300.0, {"half": 790e3, "tf32": 395e3, "ieee": 67e3}, launch_us=3.0, l2_bytes=60 << 20, processors=132
)


# ---- floor ----------------------------------------------------------------------------------------------------------


def least_work(batch: AnyBatch | Problem, l2_bytes: int) -> dict[str, floors.Work]:
    """`bench.floors.work`, and rows of S read by every entry of a sparse A, where S is larger than the L2 cache.

    A problem says its own.
    """
    if isinstance(batch, Problem):
        return batch.least(l2_bytes)
    steps = floors.work(batch)
    s = torch.empty(sum(batch.sizes), batch.clusters, dtype=batch.x.dtype, device=META)
    if isinstance(batch, Batch) or size(s) <= l2_bytes:
        return steps
    gathers = floors.Work(gathered_bytes(s, batch.entries, l2_bytes), 0)
    steps["forward"] += gathers
    if not batch.symmetric:
        steps["backward"] += gathers
    return steps | {"both": steps["forward"] + steps["backward"]}


# ---- launches -------------------------------------------------------------------------------------------------------


class TorchLaunches(TorchDispatchMode):
    """What torch itself starts on the device meanwhile: the name of each operation, and what it reads and writes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, Cost]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        views = any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)
        if not views and not name.startswith(("empty", "new_empty")):
            read = size(*(t for t in args if isinstance(t, Tensor)))
            self.found.append((f"torch {name}", Cost(read, size(out) if isinstance(out, Tensor) else 0)))
        return out


class Step:
    """The forward and the backward of a workload, started with tensors that have no data."""

    def __init__(self, batch: AnyBatch, told: bool, fp32: str, known: str) -> None:
        from hierpool_kernels.batch import Batch as Nodes
        from hierpool_kernels.soft_pool import Csr, Dense
        from hierpool_kernels.target import KNOWN, Target

        self.batch, self.told, self.target = batch, told, Target(KNOWN[known], fp32)
        if isinstance(batch, Batch):
            self.nodes = Nodes.padded(*batch.x.shape[:2], batch.mask, None)
            self.edges: Dense | Csr = Dense(batch.adj.unsqueeze(1))
        else:
            n, compressed = batch.x.size(0), {"dtype": torch.int32, "device": META}
            rows = torch.empty(n + 1, **compressed), torch.empty(batch.entries, **compressed)
            self.nodes = Nodes.ragged(batch.ptr, n)
            self.edges = Csr(*rows, None, *((None, None) if told else rows), None)

    def forward(self) -> Any:
        from hierpool_kernels.soft_pool import Wanted, launch_soft_pool_fwd

        batch, wanted = self.batch, Wanted(gram=True, link=True, entropy=True, mean=True, save=True)
        logits, x = batch.logits.detach(), batch.x.detach()
        return launch_soft_pool_fwd(
            logits, x, self.edges, self.nodes, None, False, self.told, wanted, self.target
        )

    def backward(self, out: Any) -> None:
        from hierpool_kernels.soft_pool import Saved, Upstream, launch_soft_pool_bwd

        grads = Upstream(None, out.x, out.adj, None, None, None, out.total_entropy, out.link_norm)
        saved = Saved(out.s, out.gram, out.link_norm, out.m)
        needs, x = (True, True, False), self.batch.x.detach()
        launch_soft_pool_bwd(
            grads, saved, x, self.edges, self.nodes, None, False, self.told, True, needs, self.target
        )


@dataclass(frozen=True)
class LaunchCost:
    """A launch, and what it moves and computes."""

    name: str
    grid: tuple[int, ...]
    cost: Cost

    def us(self, rates: DeviceRates) -> float:
        """Microseconds, with its start."""
        busy = min(1.0, math.prod(self.grid) / rates.processors)
        products = sum(flops / (rates.gemm_gflops[rate] * busy) for rate, flops in self.cost.flops.items())
        return max(self.cost.bytes / rates.copy_gbps, products) / 1e3 + rates.launch_us


def launches(
    batch: AnyBatch, told: bool, fp32: str, rates: DeviceRates, known: str = "sm_90"
) -> dict[str, list[LaunchCost]]:
    """Every launch of the forward and of the backward, in their order but for those of torch, which come last."""
    from hierpool_kernels.launch import watch

    step, found, out = Step(batch, told, fp32, known), {}, None
    for mode in ("forward", "backward"):
        with watch(run=False) as calls, TorchLaunches() as torchs:
            out = step.forward() if mode == "forward" else step.backward(out)
        ours = [Launch(call, batch.sizes, rates.l2_bytes) for call in calls]
        found[mode] = [LaunchCost(p.name, p.grid, COSTS[p.name](p)) for p in ours]
        found[mode] += [LaunchCost(name, (), cost) for name, cost in torchs.found]
    return found | {"both": found["forward"] + found["backward"]}


# ---- prediction -----------------------------------------------------------------------------------------------------


def predicted_ms(found: list[LaunchCost], rates: DeviceRates) -> float:
    """The sum over launches, one after the other."""
    return sum(launch.us(rates) for launch in found) / 1e3


def table(workloads: list[GpuWorkload], rates: DeviceRates, kernels: bool = False) -> str:
    """A line for each workload, way of telling about symmetry and mode; below it each launch, if ``kernels``."""
    head = (
        "workload", "A", "mode", "launches", "MB read", "MB written", "GFLOP", "floor us", "predicted us", "of floor"
    )  # fmt: skip
    lines: list[tuple[str, ...]] = [head]
    for workload in workloads:
        batch = workload.build(0, META)
        steps, rate = least_work(batch, rates.l2_bytes), workload.precision.rate
        for told, how in TOLD.items():
            if not told and not isinstance(batch, Batch):
                continue  # a graph in compressed rows knows whether it is symmetric
            found = launches(batch, told, workload.precision.products, rates)
            for mode in MODES:
                floor = 1e3 * floors.floor_ms(steps[mode], rates.of(rate))
                us = 1e3 * predicted_ms(found[mode], rates)
                who = (workload.title, how, mode, str(len(found[mode])))
                lines.append((*who, *_work(found[mode]), number(floor), number(us), f"{floor / us:.0%}"))
                if kernels and mode != "both":
                    lines += [
                        (f"    {launch.name}", "x".join(map(str, launch.grid)), "", "", *_work([launch]), "",
                         number(launch.us(rates)), "")
                        for launch in found[mode]
                    ]  # fmt: skip
    return aligned(lines)


def _work(found: list[LaunchCost]) -> tuple[str, str, str]:
    costs = [launch.cost for launch in found]
    totals = (sum(c.read for c in costs) / 1e6, sum(c.written for c in costs) / 1e6)
    return number(totals[0]), number(totals[1]), number(sum(sum(c.flops.values()) for c in costs) / 1e9)


def heading(rates: DeviceRates) -> str:
    """What the table is, and what it supposes."""
    products = ", ".join(f"{name} {rate / 1e3:g}" for name, rate in rates.gemm_gflops.items())
    return (
        f"Predicted, not measured: an H200 with {rates.copy_gbps:g} GB/s of copy, TFLOP/s of {products}, "
        f"{rates.l2_bytes >> 20} MB of L2, {rates.launch_us:g} us for the start of a launch"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workloads", nargs="+", metavar="NAME", help=f"from: {', '.join(POOLING)} (default: all)"
    )
    parser.add_argument(
        "--launch-us", type=float, default=H200.launch_us, help="what the start of a launch takes"
    )
    parser.add_argument("--kernels", action="store_true", help="a line for every launch, too")


def command(args: argparse.Namespace) -> int:
    """``python -m bench bytes``: the exit status."""
    if args.launch_us < 0:
        raise ValueError(f"--launch-us must not be negative, got {args.launch_us:g}")
    if importlib.util.find_spec("triton") is None:
        raise RuntimeError("the launches are written down by hierpool_kernels, which needs triton")
    rates = replace(H200, launch_us=args.launch_us)
    chosen = select(POOLING, args.workloads, "workload")
    print(f"{heading(rates)}\n\n{table(chosen, rates, args.kernels)}")
    return 0
