"""One run: measure the machine, verify and time every chosen provider on every chosen workload, make the studies."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from bench import floors, machine, memory, results, verify
from bench.goals import judged
from bench.kinds import KINDS, Workload
from bench.measure import Effort, compare
from bench.providers import Pool, Provider, ProviderUnavailable
from bench.registry import MODES, PROVIDERS
from bench.sparse import AnyBatch
from bench.studies import Refused, Setting, Study, StudyUnavailable
from bench.workloads import WorkloadUnavailable

ROOT = Path(__file__).resolve().parents[1]
QUICK = Effort(budget_s=0.4, min_pairs=5, max_pairs=51)
SLOW_PAIRS = 5  # least number of pairs and repetitions where one takes seconds


@dataclass(frozen=True)
class Plan:
    """What to run. ``quick`` shortens the timing and leaves the memory out."""

    workloads: list[Workload]
    providers: list[Provider]
    studies: list[Study] = field(default_factory=list)
    modes: list[str] = field(default_factory=lambda: list(MODES))
    data_root: Path | None = None
    seed: int = 0
    effort: Effort = field(default_factory=Effort)
    quick: bool = False


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"


class Run:
    """State of one run: the folder being filled and the measured rates."""

    def __init__(self, plan: Plan, parent: Path = results.RESULTS) -> None:
        self.plan = plan
        metadata = machine.describe(ROOT)  # before the measurements raise the load average
        say("measuring copy bandwidth and matrix-product rate ...")
        self.rates = floors.measure_rates()
        say(f"  copy {self.rates.copy_gbps:.1f} GB/s, float32 GEMM {self.rates.gemm_gflops:.0f} GFLOP/s")
        if (metadata["load_average"] or 0) > 0.5:
            say(f"  load average {metadata['load_average']}: other work on this machine blurs the figures")
        metadata |= {
            "quick": plan.quick,
            "seed": plan.seed,
            "baselines": {kind: of.baseline for kind, of in KINDS.items()},
            "rates": asdict(self.rates),
        }
        metadata["tolerances"] = {
            "values": verify.VALUE_TOLERANCE,
            "gradients": verify.GRADIENT_TOLERANCE,
            "fp32_norm_drift_per_entry": verify.norm_drift(1),
        }
        metadata["counted"] = {part.name: part.counted for part in (*plan.providers, *plan.studies)}
        self.folder = results.create_folder(parent, metadata)
        self.failed = 0

    def write(self, status: str, **row: object) -> None:
        if status in ("refused", "failed"):
            self.failed += 1
        results.append_row(self.folder, {"status": status, **row})

    def execute(self) -> int:
        """Run everything; the number of refused or failed rows."""
        total = len(self.plan.workloads) + len(self.plan.studies)
        for i, workload in enumerate(self.plan.workloads, 1):
            say(f"[{i}/{total}] {workload.title}")
            try:
                batch = workload.build(self.plan.seed, self.plan.data_root)
            except WorkloadUnavailable as error:
                say(f"  skipped: {error}")
                self.write("skipped", workload=workload.name, title=workload.title, reason=str(error))
                continue
            self.one_workload(workload, batch)
        for i, study in enumerate(self.plan.studies, len(self.plan.workloads) + 1):
            say(f"[{i}/{total}] {study.title}")
            self.one_study(study)
        return self.failed

    def one_study(self, study: Study) -> None:
        head = {"workload": study.name, "title": study.title, "kind": "study"}
        effort = self.plan.effort
        setting = Setting(self.plan.seed, effort.budget_s, SLOW_PAIRS, say=lambda text: say(f"  {text}"))
        try:
            for found in study.run(setting):
                row = {**head, **found}
                self.write("measured", **row, goals=judged(row))
                say(f"  {found['quantity']}: {found['value']:.3g} {found['unit']}".rstrip())
        except (StudyUnavailable, ProviderUnavailable) as error:
            say(f"  not measured: {error}")
            self.write("not measured", **head, reason=str(error))
        except Refused as error:
            say(f"  refused: {error}")
            self.write("refused", **head, reason=str(error))
        except Exception as error:  # one study's failure is a row, not the end of the run
            say(f"  failed: {first_line(error)}")
            self.write("failed", **head, reason=first_line(error))

    def one_workload(self, workload: Workload, batch: AnyBatch) -> None:
        kind = KINDS[workload.kind]
        try:
            peer = PROVIDERS[kind.baseline].load()
            truth = verify.truth_of(batch, PROVIDERS[kind.truth].load, separate=not kind.slow)
        except ProviderUnavailable as error:
            say(f"  not measured: {error}")
            self.write("not measured", workload=workload.name, title=workload.title, reason=str(error))
            return
        for provider in self.plan.providers:
            if not provider.applies(workload) or (kind.slow and provider.name == kind.baseline):
                continue
            head = {
                "workload": workload.name, "title": workload.title, "kind": workload.kind, "provider": provider.name,
            }  # fmt: skip
            try:
                pool = provider.load()
                verdict = verify.verify(provider, pool, batch, truth)
            except ProviderUnavailable as error:
                say(f"  {provider.title}: not measured: {error}")
                self.write("not measured", **head, reason=str(error))
            except Exception as error:  # one provider's failure is a row, not the end of the run
                say(f"  {provider.title}: failed: {first_line(error)}")
                self.write("failed", **head, reason=first_line(error))
            else:
                if verdict.ok:
                    self.time(head, workload, provider, pool, peer, batch, verdict)
                else:
                    say(f"  {provider.title}: refused: {'; '.join(verdict.failures)}")
                    self.write("refused", **head, reason="; ".join(verdict.failures), errors=verdict.errors)

    def time(
        self, head: dict, workload: Workload, provider: Provider, pool: Pool, peer: Pool, batch: AnyBatch,
        verdict: verify.Verdict,
    ) -> None:  # fmt: skip
        steps = floors.work(batch)
        peak = self.peak(workload, provider)
        effort = self.plan.effort
        if KINDS[workload.kind].slow:
            effort = replace(effort, min_pairs=SLOW_PAIRS)
        for mode in self.plan.modes:
            result = compare(pool, peer, batch, mode, effort)
            bound = floors.floor_ms(steps[mode], self.rates)
            floor = {**asdict(steps[mode]), "ms": bound, "fraction": bound / result.candidate_ms.p50}
            row = {**head, "mode": mode, "sizes": batch.describe(), **result.as_row(), "floor": floor}
            if mode == "both":
                row["peak"] = peak
                row["goals"] = judged(row)
            self.write("measured", **row, errors=verdict.errors)
            say(
                f"  {provider.title}: {mode} {result.candidate_ms.p50:.3g} ms, {result.speedup.p50:.2f}x"
                f" ({result.speedup.p20:.2f} to {result.speedup.p80:.2f}), {floor['fraction']:.1%} of the floor"
            )

    def peak(self, workload: Workload, provider: Provider) -> dict[str, int | str | None]:
        if self.plan.quick or "both" not in self.plan.modes:
            return {"bytes": None, "reason": results.NOT_ASKED}
        try:
            threads = torch.get_num_threads()
            found = memory.peak_bytes(
                workload.name, provider.name, self.plan.seed, threads, self.plan.data_root
            )
        except memory.MemoryUnavailable as error:
            return {"bytes": None, "reason": str(error)}
        return {"bytes": found}


def execute(plan: Plan, parent: Path = results.RESULTS) -> tuple[Path, int]:
    """Run ``plan``; the folder written and the number of refused or failed rows."""
    start = time.monotonic()
    run = Run(plan, parent)
    failed = run.execute()
    seconds = time.monotonic() - start
    results.finish(run.folder, seconds)
    say(f"{seconds:.0f} s; results in {run.folder}")
    return run.folder, failed
