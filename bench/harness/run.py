"""One run on one device: measure its rates, verify and time every provider on every workload, make the studies."""

from __future__ import annotations

import gc
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from bench.harness import machine, memory, results, stages, timing, truth
from bench.harness.floors import Rates, by_mode, measure_rates
from bench.harness.inputs import Inputs
from bench.harness.precision import in_force
from bench.harness.timing import Effort, Side
from bench.harness.workload import (
    CPU,
    Pool,
    Provider,
    Refused,
    Request,
    Setting,
    Study,
    Unavailable,
    Workload,
)

MODES = {"cpu": ("forward", "backward", "both"), "cuda": ("forward", "both")}
EFFORT = {"cpu": Effort(), "cuda": Effort(2.0, min_pairs=5, max_pairs=101)}
QUICK = {"cpu": Effort(0.4, min_pairs=5, max_pairs=51), "cuda": Effort(0.3, min_pairs=3, max_pairs=21)}
SLOW_PAIRS = 5  # least number of pairs and repetitions where one takes seconds
MOST_COPIES = 16
LEAST_S = 200.0  # of the workloads, however long the stages before them take
META = torch.device("meta")


@dataclass(frozen=True)
class Plan:
    """What to run.

    Attributes:
        known: all providers by name, as the baseline and the truth may not be among those ``wanted``.
        seconds: limit for all workloads together; None: no limit.
        quick: the memory is not measured on a CPU, and the run is not reported.
        total_s: limit for stages and workloads together.
    """

    workloads: list[Workload]
    known: dict[str, Provider]
    wanted: list[str]
    device: torch.device = CPU
    studies: list[Study] = field(default_factory=list)
    modes: tuple[str, ...] = MODES["cpu"]
    effort: Effort = EFFORT["cpu"]
    data_root: Path | None = None
    seed: int = 0
    seconds: float | None = None
    quick: bool = False
    stages: tuple[stages.Stage, ...] = ()
    total_s: float = math.inf


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"


def reason_of(error: Exception) -> tuple[str, str]:
    """The status and the reason that an exception stands for."""
    if isinstance(error, Unavailable):
        return "not measured", str(error)
    if isinstance(error, Refused):
        return "refused", str(error)
    if isinstance(error, torch.OutOfMemoryError):
        return "not measured", "it needs more memory than the device has free"
    return "failed", first_line(error)


class Bench:
    """A workload, its inputs and as many copies as the L2 cache cannot hold twice, and steps on them."""

    def __init__(self, workload: Workload, inputs: Inputs, rates: Rates, device: torch.device) -> None:
        wanted = -(-2 * (rates.l2_bytes or 0) // max(1, inputs.nbytes))
        self.inputs = [inputs, *(inputs.copied() for _ in range(min(wanted, MOST_COPIES) - 1))]
        self.workload, self.device = workload, device
        self.least = by_mode(*inputs.work(rates.l2_bytes))

    def pools(self, provider: Provider) -> list[Pool]:
        """One for each copy, as it may keep what comes with its inputs; with a dense batch, nothing does."""
        if self.workload.kind.name == "dense":
            return [provider.load(self.device)] * len(self.inputs)
        return [provider.load(self.device) for _ in self.inputs]

    def steps(self, pools: list[Pool], mode: str) -> list[Callable[[], object]]:
        """One step on each copy; "forward-replayed" and "both-replayed" as CUDA graphs."""
        plain = mode.removesuffix("-replayed")
        found = [timing.step(pool, one, plain) for pool, one in zip(pools, self.inputs, strict=True)]
        return found if mode == plain else [timing.captured(call, self.device) for call in found]  # type: ignore[return-value]


class Run:
    """State of one run: the folder being filled, the measured rates, the time left."""

    def __init__(self, plan: Plan, parent: Path = results.RESULTS, rates: Rates | None = None) -> None:
        self.plan, self.start, self.failed = plan, time.monotonic(), 0
        metadata = machine.describe(plan.device)  # before the measurements raise the load average
        say(f"{metadata['device_name']}: measuring copy bandwidth and matrix-product rates ...")
        self.rates = rates or measure_rates(plan.device)
        gemm = ", ".join(f"{name} {rate:.0f}" for name, rate in self.rates.gemm_gflops.items())
        say(f"  copy {self.rates.copy_gbps:.1f} GB/s; GFLOP/s: {gemm}")
        if plan.device.type == "cpu" and (metadata["load_average"] or 0) > 0.5:
            say(f"  load average {metadata['load_average']}: other work on this machine blurs the figures")
        counted = [plan.known[name] for name in plan.wanted] + list(plan.studies)
        metadata |= {
            "quick": plan.quick, "seed": plan.seed, "seconds": plan.seconds, "rates": asdict(self.rates),
            "tolerances": {w.name: asdict(w.precision.tolerance) for w in plan.workloads},
            "fp32_norm_drift_per_entry": truth.norm_drift(1), "counted": {part.name: part.counted for part in counted},
        }  # fmt: skip
        self.folder = results.create_folder(parent, metadata)
        self.limit(plan.seconds)

    def limit(self, seconds: float | None) -> None:
        """The time of the workloads runs from now on."""
        self.seconds = math.inf if seconds is None else seconds
        self.deadline = time.monotonic() + self.seconds

    def write(self, status: str, **row: object) -> None:
        results.append_row(self.folder, {"status": status, **row})

    def lack(self, status: str, reason: str, head: dict) -> None:
        """Say and write why there is no figure; a wrong or failed result of ours fails the run."""
        say(f"  {head.get('provider_title', head['title'])}: {status}: {reason}")
        name = head.get("provider")
        self.failed += status in ("refused", "failed") and (name is None or self.plan.known[name].is_ours)
        self.write(status, **head, reason=reason)

    def tidy(self) -> None:
        """Give memory back, so that the next step can have it."""
        gc.collect()
        if self.plan.device.type == "cuda":
            torch.cuda.empty_cache()

    def execute(self) -> int:
        """Run everything; the number of refused or failed rows of ours."""
        plan = self.plan
        self.tidy()
        for stage in plan.stages:
            say(f"{stage.title} ...")
            left = plan.total_s - LEAST_S - (time.monotonic() - self.start)
            row = stages.run(stage, self.folder / f"{stage.name}.txt", max(1.0, left))
            self.failed += row["status"] == "failed"
            results.append_row(self.folder, row)
            say(f"  {row.get('outcome') or row['reason']}")
        if plan.stages:
            self.limit(min(self.seconds, plan.total_s - (time.monotonic() - self.start)))
        total, shares = len(plan.workloads) + len(plan.studies), sum(w.share for w in plan.workloads)
        for i, workload in enumerate(plan.workloads, 1):
            say(f"[{i}/{total}] {workload.title}")
            now = time.monotonic()
            until = now + (self.deadline - now) * workload.share / shares
            shares -= workload.share
            head = {"workload": workload.name, "title": workload.title, "kind": workload.kind.name}
            try:
                with in_force(workload.precision):
                    self.one_workload(workload, head, until)
            except Exception as error:  # one workload's failure is a row, not the end of the run
                self.lack(*reason_of(error), head)
            self.tidy()
        for i, study in enumerate(plan.studies, len(plan.workloads) + 1):
            say(f"[{i}/{total}] {study.title}")
            self.one_study(study)
        return self.failed

    def one_study(self, study: Study) -> None:
        head = {"workload": study.name, "title": study.title, "kind": "study"}
        budget_s = self.plan.effort.budget_s
        try:
            for found in study.run(
                Setting(self.plan.seed, budget_s, SLOW_PAIRS, lambda text: say(f"  {text}"))
            ):
                self.write("measured", **head, **found)
                say(f"  {found['quantity']}: {found['value']:.3g} {found['unit']}".rstrip())
        except Exception as error:  # one study's failure is a row, not the end of the run
            self.lack(*reason_of(error), head)

    def too_large(self, workload: Workload) -> str | None:
        """Why the workload does not fit: inputs, S, M and both gradients, and a quarter of that for the rest."""
        # What plain PyTorch needs for a call is not foreseen: running out of memory is a row then.
        if self.plan.device.type != "cuda" or not workload.kind.foreseen:
            return None
        batch = workload.build(Request(self.plan.seed, META))
        sizes, element = batch.describe(), batch.grads[0].element_size()
        outputs = sizes["nodes"] * (sizes["clusters"] * (2 * element + 4) + sizes["features"] * element)
        needed = 1.25 * (batch.nbytes + outputs)
        free, _ = torch.cuda.mem_get_info(self.plan.device)
        if needed <= free:
            return None
        return f"needs about {needed / 1e9:.0f} GB of device memory, {free / 1e9:.0f} GB are free"

    def late(self, until: float) -> str | None:
        """Why nothing more is begun, once it is time."""
        if time.monotonic() <= until:
            return None
        return f"its share of the {self.seconds:.0f} s of the run was used up"

    def one_workload(self, workload: Workload, head: dict, until: float) -> None:
        plan, kind = self.plan, workload.kind
        for status, reason in (("not measured", self.late(until)), ("skipped", self.too_large(workload))):
            if reason is not None:
                self.lack(status, reason, head)
                return
        try:
            inputs = workload.build(Request(plan.seed, plan.device, plan.data_root))
        except Unavailable as error:
            self.lack("skipped", str(error), head)
            return
        true = None
        if kind.check is None:
            true = truth.truth_of(inputs, self.first_of(kind.truths), separate=not kind.slow)
        bench = Bench(workload, inputs, self.rates, plan.device)
        baseline = self.baseline(bench)
        chosen = [plan.known[name] for name in plan.wanted if plan.known[name].applies(workload)]
        chosen = [p for p in chosen if not (kind.slow and p.name == baseline)]
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

    def first_of(self, names: tuple[str, ...]) -> Pool:
        """The first provider that can be loaded; `Unavailable` with the reason of the last."""
        for name in names[:-1]:
            try:
                return self.plan.known[name].load(self.plan.device)
            except Unavailable:
                continue
        return self.plan.known[names[-1]].load(self.plan.device)

    def baseline(self, bench: Bench) -> str:
        """The first of its kind that gets through a step; `Unavailable` with the reason of the first."""
        reasons = []
        for name in bench.workload.kind.baselines:
            try:
                timing.step(self.plan.known[name].load(self.plan.device), bench.inputs[0], "both")()
                return name
            except RuntimeError as error:
                reasons.append(reason_of(error)[1])
            self.tidy()
        raise Unavailable(f"there is nothing to compare with: {reasons[0]}")

    def one_provider(
        self, provider: Provider, head: dict, bench: Bench, baseline: str, true: truth.Evaluation | None,
        share: float,
    ) -> None:  # fmt: skip
        pools = bench.pools(provider)
        kind, allow = bench.workload.kind, bench.workload.precision.tolerance
        if true is None:
            assert kind.check is not None
            verdict = kind.check(pools[0], bench.inputs[0], allow)
        else:
            verdict = truth.verify(pools[0], bench.inputs[0], true, allow, provider.fp32_norm)
        if not verdict.ok:
            self.lack("refused", "; ".join(verdict.failures), head | {"errors": verdict.errors})
            return
        peers = bench.pools(self.plan.known[baseline])
        for row in self.timings(bench, provider, pools, peers, share):
            self.write("measured", **head, **row, baseline=baseline, errors=verdict.errors)

    def timings(
        self, bench: Bench, provider: Provider, pools: list[Pool], peers: list[Pool], share: float
    ) -> Iterator[dict]:
        """A row for each mode, on a GPU within about ``share`` seconds."""
        workload, effort, modes = bench.workload, self.plan.effort, list(self.plan.modes)
        if workload.replayed and provider.kernels and bench.device.type == "cuda":
            modes += [f"{mode}-replayed" for mode in self.plan.modes]
        if workload.kind.slow:
            effort = replace(effort, min_pairs=SLOW_PAIRS)
        effort = replace(effort, budget_s=max(0.1, min(effort.budget_s, share / (2 * len(modes)))))
        for mode in modes:
            plain = mode.removesuffix("-replayed")
            sides = (bench.steps(pools, mode), bench.steps(peers, plain))
            ours, theirs = (Side(steps, bench.device) for steps in sides)
            found = timing.compare(ours, theirs, effort)
            least = bench.least[plain]
            floor = self.rates.floor_ms(least, workload.precision.rate)
            fraction = floor / found.candidate_ms.p50
            row = {
                "mode": mode, "precision": workload.precision.rate, "sizes": bench.inputs[0].describe(),
                "copies": len(bench.inputs), **asdict(found),
                "floor": {**asdict(least), "ms": floor, "fraction": fraction},
            }  # fmt: skip
            if mode == "both" or (mode == plain and bench.device.type == "cuda"):
                row["peak"] = self.peak(bench, provider, sides[0][0])
            if mode == plain and bench.device.type == "cuda":
                row |= kernels(sides[0][0], bench.device)
            say(
                f"  {provider.title}: {mode} {found.candidate_ms.p50:.3g} ms, {found.speedup.p50:.2f}x"
                f" ({found.speedup.p20:.2f} to {found.speedup.p80:.2f}), {fraction:.1%} of the floor"
            )
            yield row

    def peak(self, bench: Bench, provider: Provider, call: Callable[[], object]) -> dict:
        """Peak memory of forward + backward, or why there is none."""
        plan = self.plan
        try:
            if plan.device.type == "cuda":
                return {"bytes": memory.peak_on_device(call, plan.device)}
            if plan.quick:
                return {"bytes": None, "reason": results.NOT_ASKED}
            threads = torch.get_num_threads()
            found = memory.peak_in_process(
                bench.workload.name, provider.name, plan.seed, threads, plan.data_root
            )
        except Unavailable as error:
            return {"bytes": None, "reason": str(error)}
        return {"bytes": found}


def kernels(call: Callable[[], object], device: torch.device) -> dict:
    """The kernels of a call, or why there are none."""
    try:
        return {"kernels": timing.kernels(call, device)}
    except RuntimeError as error:  # of the profiler, which some machines do not let in
        return {"kernels": [], "no_kernels": first_line(error)}


def execute(
    plan: Plan, parent: Path = results.RESULTS, rates: Rates | None = None
) -> tuple[results.Results, int]:
    """Run ``plan``; the results, and the number of refused or failed rows of ours."""
    run = Run(plan, parent, rates)
    failed = run.execute()
    seconds = time.monotonic() - run.start
    results.finish(run.folder, seconds)
    say(f"{seconds:.0f} s; results in {run.folder}")
    return results.read(run.folder), failed
