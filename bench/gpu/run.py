"""One run on a GPU: measure the device, verify and time every provider on every workload, within a time."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from bench import bytes as model
from bench import floors, results, verify
from bench.gpu import timing, truth
from bench.gpu.device import describe
from bench.gpu.providers import BASELINES, CALLS, KERNELS, TRUTHS, first_of, is_ours, providers
from bench.gpu.workloads import AnyWork, GpuWorkload, copied, in_force, input_bytes
from bench.measure import Effort, step
from bench.providers import Pool, Provider, ProviderUnavailable
from bench.run import first_line, say

MODES = ("forward", "both")
EFFORT = Effort(budget_s=2.0, min_pairs=5, max_pairs=101)  # at most; less as time runs out
QUICK = Effort(budget_s=0.3, min_pairs=3, max_pairs=21)
MOST_COPIES = 16
PLANNED = ("sm_80", "sm_90", "sm_100")  # architectures that kernels are planned for


@dataclass(frozen=True)
class Plan:
    """What to run, in how many seconds; ``quick`` shortens the timing."""

    workloads: list[GpuWorkload]
    device: torch.device
    seconds: float
    providers: list[str] | None = None
    quick: bool = False
    seed: int = 0


class Bench:
    """A workload, its batch and as many copies as the cache of the device cannot hold, and calls on them."""

    def __init__(
        self, workload: GpuWorkload, batch: AnyWork, rates: model.DeviceRates, device: torch.device
    ) -> None:
        wanted = -(-2 * rates.l2_bytes // max(1, input_bytes(batch)))
        self.batches = [batch, *(copied(batch) for _ in range(min(wanted, MOST_COPIES) - 1))]
        self.workload, self.device = workload, device
        self.least = model.least_work(batch, rates.l2_bytes)

    def pools(self, provider: Provider) -> list[Pool]:
        """One for each copy, as it may keep what comes with its batch; with a dense batch, nothing does."""
        if self.workload.kind == "dense":
            return [provider.load()] * len(self.batches)
        return [provider.load() for _ in self.batches]

    def calls(self, pools: list[Pool], mode: str) -> list[timing.Call]:
        """One step on each copy; "forward-replayed" and "both-replayed" as CUDA graphs."""
        plain = mode.removesuffix("-replayed")
        found = [step(pool, batch, plain) for pool, batch in zip(pools, self.batches, strict=True)]
        return found if mode == plain else [timing.captured(call, self.device) for call in found]

    def rotation(self, pools: list[Pool], mode: str) -> timing.Rotation:
        return timing.Rotation(self.calls(pools, mode), self.device)


def beside(call: timing.Call, device: torch.device) -> dict:
    """Peak memory and kernels of a call, or why there are none."""
    row: dict = {}
    try:
        row["peak"] = {"bytes": timing.peak_bytes(call, device)}
    except timing.Unavailable as error:
        row["peak"] = {"bytes": None, "reason": str(error)}
    try:
        row["kernels"] = timing.kernels(call, device)
    except RuntimeError as error:  # of the profiler, which some machines do not let in
        row["kernels"], row["no_kernels"] = [], first_line(error)
    return row


def reason_of(error: Exception) -> tuple[str, str]:
    """The status and the reason that an exception stands for."""
    if isinstance(error.__cause__, ModuleNotFoundError) and error.__cause__.name:
        return "not measured", f"{error.__cause__.name.split('.')[0]} is not installed"
    if isinstance(error, (ProviderUnavailable, timing.Unavailable)):
        return "not measured", str(error)
    if isinstance(error, torch.OutOfMemoryError):
        return "not measured", "it needs more memory than the device has free"
    return "failed", first_line(error)


class Run:
    """State of one run: the folder being filled, the measured rates, the time left."""

    def __init__(self, plan: Plan, parent: Path, rates: model.DeviceRates | None = None) -> None:
        self.plan, self.start, self.failed = plan, time.monotonic(), 0
        metadata = describe(plan.device)
        say(f"{metadata['device_name']}: measuring copy bandwidth and matrix-product rates ...")
        self.rates = rates or timing.measure_rates(plan.device)
        gemm = ", ".join(f"{name} {rate / 1e3:.0f}" for name, rate in self.rates.gemm_gflops.items())
        say(f"  copy {self.rates.copy_gbps:.0f} GB/s; TFLOP/s: {gemm}")
        self.providers = providers(plan.device)
        self.wanted = plan.providers or list(self.providers)
        known = f"sm_{metadata.get('capability', [9])[0]}0"
        self.known = known if known in PLANNED else None
        metadata |= {
            "quick": plan.quick,
            "seed": plan.seed,
            "seconds": plan.seconds,
            "rates": asdict(self.rates),
            "tolerances": {w.name: asdict(w.precision.tolerance) for w in plan.workloads},
            "counted": {name: self.providers[name].counted for name in self.wanted},
        }
        self.folder = results.create_folder(parent, metadata)
        self.begin(plan.seconds)

    def begin(self, seconds: float) -> None:
        """The time of the workloads runs from now on."""
        self.seconds, self.deadline = seconds, time.monotonic() + seconds

    def finish(self) -> None:
        """Mark the run as complete."""
        seconds = time.monotonic() - self.start
        results.finish(self.folder, seconds)
        say(f"{seconds:.0f} s; results in {self.folder}")

    def count(self, row: dict) -> None:
        """Write a row of a stage, which fails the run if it failed."""
        self.failed += row["status"] == "failed"
        results.append_row(self.folder, row)

    def write(self, status: str, **row: object) -> None:
        results.append_row(self.folder, {"status": status, **row})

    def lack(self, status: str, reason: str, head: dict) -> None:
        """Say and write why there is no figure."""
        say(f"  {head.get('provider_title', 'all')}: {status}: {reason}")
        if status in ("refused", "failed") and is_ours(head.get("provider")):
            self.failed += 1
        self.write(status, **head, reason=reason)

    def execute(self) -> int:
        """Run everything; the number of refused or failed rows of ours."""
        left = sum(w.share for w in self.plan.workloads)
        for i, workload in enumerate(self.plan.workloads, 1):
            say(f"[{i}/{len(self.plan.workloads)}] {workload.title}")
            now = time.monotonic()
            until = now + (self.deadline - now) * workload.share / left
            left -= workload.share
            head = {"workload": workload.name, "title": workload.title, "kind": workload.kind}
            try:
                with in_force(workload.precision):
                    self.one_workload(workload, head, until)
            except Exception as error:  # one workload's failure is a row, not the end of the run
                self.lack(*reason_of(error), head)
            self.tidy()
        return self.failed

    def tidy(self) -> None:
        """Give memory back, so that who comes next can have it."""
        gc.collect()
        if self.plan.device.type == "cuda":
            torch.cuda.empty_cache()

    def too_large(self, workload: GpuWorkload) -> str | None:
        """Why the workload does not fit: inputs, S, M and both gradients, and a quarter of that for the rest."""
        # What plain PyTorch needs for a call is not foreseen: running out of memory is a row then.
        if self.plan.device.type != "cuda" or workload.kind in CALLS:
            return None
        batch = workload.build(self.plan.seed, model.META)
        nodes, element = sum(batch.sizes), batch.x.element_size()
        outputs = nodes * (batch.clusters * (2 * element + 4) + batch.x.size(-1) * element)
        needed = 1.25 * (input_bytes(batch) + outputs)
        free, _ = torch.cuda.mem_get_info(self.plan.device)
        if needed <= free:
            return None
        return f"needs about {needed / 1e9:.0f} GB of device memory, {free / 1e9:.0f} GB are free"

    def late(self, until: float) -> str | None:
        """Why nothing more is begun, once it is time."""
        if time.monotonic() <= until:
            return None
        return f"its share of the {self.seconds:.0f} s of the run was used up"

    def one_workload(self, workload: GpuWorkload, head: dict, until: float) -> None:
        for status, reason in (("not measured", self.late(until)), ("skipped", self.too_large(workload))):
            if reason is not None:
                self.lack(status, reason, head)
                return
        batch = workload.build(self.plan.seed, self.plan.device)
        true = None
        if workload.kind in TRUTHS:
            source = first_of(TRUTHS[workload.kind], self.providers)
            true = verify.truth_of(batch, self.providers[source].load)
        bench = Bench(workload, batch, self.rates, self.plan.device)
        baseline = self.baseline(bench)
        chosen = [self.providers[name] for name in self.wanted]
        chosen = [p for p in chosen if p.applies(workload)]  # type: ignore[arg-type]
        for i, provider in enumerate(chosen):
            own = {**head, "provider": provider.name, "provider_title": provider.title}
            reason = self.late(until)
            if reason is not None:
                self.lack("not measured", reason, own)
                continue
            share = (until - time.monotonic()) / (len(chosen) - i)
            try:
                self.one_provider(provider, own, bench, baseline, true, share)
            except Exception as error:  # one provider's failure is a row, not the end of the run
                self.lack(*reason_of(error), own)
            self.tidy()

    def one_provider(
        self, provider: Provider, head: dict, bench: Bench, baseline: str, true: verify.Evaluation | None,
        share: float,
    ) -> None:  # fmt: skip
        pools = bench.pools(provider)
        batch, allow = bench.batches[0], bench.workload.precision.tolerance
        if true is None:
            verdict = truth.verify(pools[0], batch, allow)  # type: ignore[arg-type]
        else:
            verdict = verify.verify(provider, pools[0], batch, true, allow)
        if not verdict.ok:
            self.lack("refused", "; ".join(verdict.failures), head | {"errors": verdict.errors})
            return
        peers = bench.pools(self.providers[baseline])
        for row in self.timings(bench, provider, pools, peers, share):
            self.write("measured", **head, **row, baseline=baseline, errors=verdict.errors)

    def baseline(self, bench: Bench) -> str:
        """The first of its kind that gets through a step; `ProviderUnavailable` with the reason of the last."""
        reason = ""
        for name in BASELINES[bench.workload.kind]:
            try:
                step(self.providers[name].load(), bench.batches[0], "both")()
                return name
            except (ProviderUnavailable, RuntimeError) as error:
                _, reason = reason_of(error)
            self.tidy()
        raise ProviderUnavailable(f"nothing to compare with runs: {reason}")

    def timings(
        self, bench: Bench, provider: Provider, pools: list[Pool], peers: list[Pool], share: float
    ) -> Iterator[dict]:
        """A row for each mode, within about ``share`` seconds."""
        modes, effort = list(MODES), QUICK if self.plan.quick else EFFORT
        if bench.workload.replayed and provider.name in KERNELS and bench.device.type == "cuda":
            modes += [f"{mode}-replayed" for mode in MODES]
        budget = max(0.1, min(effort.budget_s, share / (2 * len(modes))))
        rate = bench.workload.precision.rate
        for mode in modes:
            plain = mode.removesuffix("-replayed")
            sides = bench.rotation(pools, mode), bench.rotation(peers, plain)
            found = timing.compare(*sides, replace(effort, budget_s=budget))
            floor = floors.floor_ms(bench.least[plain], self.rates.of(rate))
            fraction = floor / found.candidate_ms.p50
            row = {
                "mode": mode, "precision": rate, "sizes": bench.batches[0].describe(), "copies": len(bench.batches),
                **found.as_row(), "floor": {**asdict(bench.least[plain]), "ms": floor, "fraction": fraction},
            }  # fmt: skip
            if mode == plain:
                row |= beside(bench.calls(pools, mode)[0], bench.device)
                row |= self.predicted(bench.workload, provider.name, mode)
            say(
                f"  {provider.title}: {mode} {found.candidate_ms.p50:.3g} ms, {found.speedup.p50:.2f}x"
                f" ({found.speedup.p20:.2f} to {found.speedup.p80:.2f}), {fraction:.1%} of the floor"
            )
            yield row

    def predicted(self, workload: GpuWorkload, provider: str, mode: str) -> dict:
        """What the model says of our kernels at the measured rates, if it knows the device."""
        if provider not in KERNELS or workload.kind not in model.KINDS or self.known is None:
            return {}
        batch, products = workload.build(self.plan.seed, model.META), workload.precision.products
        found = model.launches(batch, KERNELS[provider], products, self.rates, self.known)[mode]
        return {"predicted": {"ms": model.predicted_ms(found, self.rates), "launches": len(found)}}
