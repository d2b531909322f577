"""Command line: ``python -m bench run`` times operators, ``step`` training steps, ``gpu`` operators on a GPU, of which
``bytes`` predicts the times; ``report`` writes table and plots, ``poolers`` the page of that name."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import torch

from bench import bytes as model
from bench import poolers, report, results, run, step
from bench.gpu import command as gpu
from bench.kinds import KINDS, Workload
from bench.measure import Effort
from bench.registry import MODES, PROVIDERS, STUDIES, WORKLOADS, select
from bench.studies import Study


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m bench", description="Benchmarks of the pooling operators.")
    commands = top.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="verify and time, into a new folder under bench/results")
    one.add_argument(
        "--workloads",
        nargs="+",
        metavar="NAME",
        help=f"workloads and studies, from: {', '.join([*WORKLOADS, *STUDIES])} (default: all)",
    )
    one.add_argument(
        "--providers", nargs="+", metavar="NAME", help=f"from: {', '.join(PROVIDERS)} (default: all)"
    )
    one.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES), help="what is timed")
    one.add_argument("--data-root", type=Path, help="folder with tu/<NAME>/raw (default: HIERPOOL_DATA)")
    one.add_argument("--threads", type=int, help="threads of torch (default: torch's own choice)")
    one.add_argument("--seed", type=int, default=0, help="of batches, features and logits")
    one.add_argument(
        "--budget-s", type=float, default=Effort.budget_s, help="seconds for a pair of providers and mode"
    )
    one.add_argument(
        "--quick", action="store_true", help="a short look: few pairs, no memory; never reported"
    )
    two = commands.add_parser(
        "report", help="print the table; write it into README.md, and the plots to docs/assets"
    )
    two.add_argument("folder", nargs="?", type=Path, help="result folder (default: the newest complete one)")
    two.add_argument(
        "--check", action="store_true", help="only check that README.md holds the newest results"
    )
    two.add_argument("--print", action="store_true", dest="print_only", help="only print")
    step.add_arguments(
        commands.add_parser(
            "step", help="time whole training steps against PyG's layers, into bench/step_results"
        )
    )
    gpu.add_arguments(commands.add_parser("gpu", help="verify and time on a CUDA device, within a time"))
    model.add_arguments(
        commands.add_parser("bytes", help="predict the times on an H200 from bytes and flops")
    )
    poolers.add_arguments(commands.add_parser("poolers", help="write docs/poolers.md from the poolers"))
    return top


def data_root(given: Path | None) -> Path | None:
    """The data root from the option or HIERPOOL_DATA; ValueError when it is no folder."""
    root = given or (Path(os.environ["HIERPOOL_DATA"]) if os.environ.get("HIERPOOL_DATA") else None)
    if root is not None and not root.is_dir():
        raise ValueError(f"data root {root} is not a folder")
    return root


def plan(args: argparse.Namespace) -> run.Plan:
    """Turn the options into a plan; ValueError names what is wrong."""
    if args.threads is not None:
        if args.threads < 1:
            raise ValueError(f"--threads must be at least 1, got {args.threads}")
        torch.set_num_threads(args.threads)
    if not args.budget_s > 0:
        raise ValueError(f"--budget-s must be positive, got {args.budget_s}")
    chosen = select({**WORKLOADS, **STUDIES}, args.workloads, "workload")
    return run.Plan(
        workloads=[entry for entry in chosen if isinstance(entry, Workload)],
        studies=[entry for entry in chosen if isinstance(entry, Study)],
        providers=select(PROVIDERS, args.providers, "provider"),
        modes=args.modes,
        data_root=data_root(args.data_root),
        seed=args.seed,
        effort=run.QUICK if args.quick else Effort(budget_s=args.budget_s),
        quick=args.quick,
    )


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    try:
        if args.command == "run":
            PROVIDERS[KINDS["dense"].baseline].load()
            folder, failed = run.execute(plan(args))
            print(report.terminal_table(results.read(folder)))
            return 1 if failed else 0
        if args.command == "step":
            return step.command(args, run.ROOT)
        if args.command == "gpu":
            return gpu.command(args)
        if args.command == "bytes":
            return model.command(args)
        if args.command == "poolers":
            return poolers.main(args)
        return report.command(args.folder, check=args.check, print_only=args.print_only)
    except (ValueError, RuntimeError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
