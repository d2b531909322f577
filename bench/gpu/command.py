"""``python -m bench gpu``: tests and workloads on the CUDA device of this machine, into a new result folder."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from bench import results
from bench.gpu import device, report, stages
from bench.gpu.operators import OPERATORS
from bench.gpu.providers import providers
from bench.gpu.run import Plan, Run
from bench.gpu.workloads import WORKLOADS
from bench.registry import select
from bench.run import say

ALL = WORKLOADS | OPERATORS
SECONDS = 420.0  # of the workloads
TOTAL_S = 570.0  # with the stages before them, which get what is more
LEAST_S = 200.0  # of the workloads, however long the stages take


def add_arguments(parser: argparse.ArgumentParser) -> None:
    names = providers(torch.device("cuda"))
    parser.add_argument(
        "--workloads", nargs="+", metavar="NAME", help=f"from: {', '.join(ALL)} (default: all)"
    )
    parser.add_argument(
        "--providers", nargs="+", metavar="NAME", help=f"from: {', '.join(names)} (default: all)"
    )
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for all workloads together")
    parser.add_argument(
        "--out", type=Path, default=results.RESULTS, metavar="DIR", help="where the folder is made"
    )
    parser.add_argument("--seed", type=int, default=0, help="of graphs, features and logits")
    parser.add_argument("--quick", action="store_true", help="a short look: few pairs")
    parser.add_argument(
        "--tests",
        action="store_true",
        help=f"first run tests/gpu and compute-sanitizer; at most {TOTAL_S:.0f} s in all",
    )


def plan(args: argparse.Namespace, on: torch.device) -> Plan:
    """Turn the options into a plan; ValueError names what is wrong."""
    if not args.seconds > 0:
        raise ValueError(f"--seconds must be positive, got {args.seconds:g}")
    chosen = select(ALL, args.workloads, "workload")
    wanted = [p.name for p in select(providers(on), args.providers, "provider")]
    return Plan(chosen, on, args.seconds, wanted, args.quick, args.seed)


def execute(
    work: Plan, parent: Path, tests: bool = False, rates: object = None
) -> tuple[results.Results, int]:
    """Stages if asked for, then the workloads; the results, and the number of failures of ours."""
    run = Run(work, parent, rates)  # type: ignore[arg-type]
    if tests:
        run.tidy()
        for stage in stages.STAGES:
            say(f"{stage.title} ...")
            left = TOTAL_S - LEAST_S - (time.monotonic() - run.start)
            row = stages.run(stage, run.folder / f"{stage.name}.txt", max(1.0, left))
            run.count(row)
            say(f"  {row.get('outcome') or row['reason']}")
        run.begin(min(work.seconds, TOTAL_S - (time.monotonic() - run.start)))
    run.execute()
    run.finish()
    return results.read(run.folder), run.failed


def command(args: argparse.Namespace) -> int:
    """The exit status: 2 without a device, 1 if anything of ours is wrong or failed."""
    reason = device.missing()
    if reason is not None:
        print(reason, file=sys.stderr)
        return 2
    found, failed = execute(plan(args, torch.device("cuda", 0)), args.out, args.tests)
    text = report.table(found)
    (found.folder / "table.txt").write_text(text + "\n")
    print(text)
    try:
        for path in report.draw(found, found.folder):
            say(f"wrote {path.name}")
    except RuntimeError as error:
        say(str(error))
    return 1 if failed else 0
