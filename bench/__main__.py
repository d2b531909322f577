"""Command line: ``python -m bench run`` times operators on the CPU, ``gpu`` on a CUDA device, ``step`` whole training
steps, ``clusterings`` clusterings of one graph, ``hard-poolers`` poolers that keep or merge nodes; ``launches`` counts
what calls need of the host of a GPU, ``exchange`` the bytes between processes that share a graph; ``report`` writes
tables and plots, ``poolers`` and ``accuracy`` their pages."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import torch

from bench.harness import machine, results, run, stages
from bench.harness.timing import Effort
from bench.harness.workload import CPU, Study, Workload, select
from bench.ops import (
    PROVIDERS,
    STUDIES,
    clusterings,
    exchange,
    hard_poolers,
    launches,
    precoarsening,
    step,
    workloads_on,
)
from bench.report import accuracy, pages, plots, poolers, tables
from bench.report import clusterings as clusterings_page
from bench.report import exchange as exchange_page
from bench.report import hard_poolers as hard_poolers_page

CUDA = torch.device("cuda", 0)
SECONDS = 420.0  # of the workloads on a GPU
TOTAL_S = 570.0  # with the stages before them


def defaults(device: str) -> list[str]:
    """Providers that are timed on a type of device without being named."""
    return [p.name for p in PROVIDERS.values() if device in p.devices]


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m bench", description="Benchmarks of the pooling operators.")
    commands = top.add_subparsers(dest="command", required=True)
    cpu = commands.add_parser("run", help="verify and time on the CPU, into a new folder under bench/results")
    gpu = commands.add_parser("gpu", help="verify and time on a CUDA device, within a time")
    for one, names in ((cpu, [*workloads_on("cpu"), *STUDIES]), (gpu, workloads_on("cuda"))):
        one.add_argument(
            "--workloads", nargs="+", metavar="NAME", help=f"from: {', '.join(names)} (default: all)"
        )
        one.add_argument("--providers", nargs="+", metavar="NAME", help=f"from: {', '.join(PROVIDERS)}")
        one.add_argument("--seed", type=int, default=0, help="of graphs, features and logits")
        one.add_argument("--quick", action="store_true", help="a short look: few pairs; never reported")
    modes, budget_s = run.MODES["cpu"], run.EFFORT["cpu"].budget_s
    cpu.add_argument("--modes", nargs="+", choices=modes, default=list(modes), help="what is timed")
    cpu.add_argument("--data-root", type=Path, help="folder with tu/<NAME>/raw (default: HIERPOOL_DATA)")
    cpu.add_argument("--threads", type=int, help="threads of torch (default: torch's own choice)")
    cpu.add_argument(
        "--budget-s", type=float, default=budget_s, help="seconds for a pair of providers and mode"
    )
    gpu.add_argument("--seconds", type=float, default=SECONDS, help="for all workloads together")
    gpu.add_argument(
        "--out", type=Path, default=results.RESULTS, metavar="DIR", help="where the folder is made"
    )
    gpu.add_argument("--tests", action="store_true",
                     help=f"first run tests/gpu and compute-sanitizer; at most {TOTAL_S:.0f} s in all")  # fmt: skip
    step.add_arguments(commands.add_parser("step", help="time whole training steps against PyG's layers"))
    commands.add_parser("launches", help="count launches, allocations and kernels of a call, without a GPU")
    bytes_sent = commands.add_parser(
        "exchange",
        help="count the bytes between processes that share a graph; write docs/distributed.md's tables",
    )
    exchange.add_arguments(bytes_sent)
    _add_page(bytes_sent)
    report = commands.add_parser(
        "report", help="print the tables; write README.md's, docs/benchmarks.md, plots"
    )
    report.add_argument("folder", nargs="?", type=Path, help="only print the tables of this result folder")
    report.add_argument(
        "--check", action="store_true", help="only check that the pages hold the newest results"
    )
    report.add_argument("--print", action="store_true", dest="print_only", help="only print")
    one = commands.add_parser(
        "clusterings", help="compare clusterings of one graph; write docs/clusterings.md"
    )
    _add_comparison(one, "+", {"--graphs": clusterings.GRAPHS, "--methods": clusterings.METHODS})
    accuracies = commands.add_parser("accuracy", help="write docs/accuracy.md from the runs of experiments")
    accuracies.add_argument(
        "--add",
        type=Path,
        metavar="FOLDER",
        help="first add the finished cells of this folder of an experiment",
    )
    accuracies.add_argument("--check", action="store_true", help="only check that the page holds the results")
    hard = commands.add_parser(
        "hard-poolers", help="compare poolers that keep or merge nodes; write docs/hard-poolers.md"
    )
    parts = {
        "--pairs": hard_poolers.PAIRS,
        "--growth": hard_poolers.GROWTH,
        "--pooled-once": precoarsening.DATA_SETS,
    }
    _add_comparison(hard, "*", parts)
    hard.add_argument(
        "--quick", action="store_true", help="a short look: few pairs, small graphs; never reported"
    )
    page = commands.add_parser("poolers", help="write docs/poolers.md from the poolers")
    page.add_argument("--check", action="store_true", help="only check that the page is what it should be")
    return top


def _add_comparison(parser: argparse.ArgumentParser, nargs: str, chosen: dict[str, Collection[str]]) -> None:
    """The options of a comparison that has a page of its own: what of it to measure, where, and the page."""
    for flag, known in chosen.items():
        parser.add_argument(flag, nargs=nargs, choices=known, default=list(known), metavar="NAME",
                            help=f"from: {', '.join(known)} (default: all)")  # fmt: skip
    parser.add_argument("--data-root", type=Path, help="folder of data sets (default: HIERPOOL_DATA)")
    parser.add_argument("--threads", type=int, help="threads (default: torch's own choice)")
    _add_page(parser)


def _add_page(parser: argparse.ArgumentParser) -> None:
    """The options of a comparison that only concern its page."""
    parser.add_argument("--report", action="store_true", help="only write the page of the newest results")
    parser.add_argument(
        "--check", action="store_true", help="only check that the page holds the newest results"
    )


def data_root(given: Path | None) -> Path | None:
    """The data root from the option or HIERPOOL_DATA; ValueError when it is no folder."""
    root = given or (Path(os.environ["HIERPOOL_DATA"]) if os.environ.get("HIERPOOL_DATA") else None)
    if root is not None and not root.is_dir():
        raise ValueError(f"data root {root} is not a folder")
    return root


def plan(args: argparse.Namespace) -> run.Plan:
    """Turn the options of ``run`` or ``gpu`` into a plan; ValueError names what is wrong."""
    device = CUDA if args.command == "gpu" else CPU
    kind = device.type
    chosen = select({**workloads_on(kind), **(STUDIES if kind == "cpu" else {})}, args.workloads, "workload")
    wanted = [p.name for p in select(PROVIDERS, args.providers or defaults(kind), "provider")]
    made = run.Plan(
        [entry for entry in chosen if isinstance(entry, Workload)], PROVIDERS, wanted, device,
        studies=[entry for entry in chosen if isinstance(entry, Study)], modes=run.MODES[kind], seed=args.seed,
        effort=(run.QUICK if args.quick else run.EFFORT)[kind], quick=args.quick,
    )  # fmt: skip
    if kind == "cuda":
        if not args.seconds > 0:
            raise ValueError(f"--seconds must be positive, got {args.seconds:g}")
        before = stages.STAGES if args.tests else ()
        return replace(made, seconds=args.seconds, stages=before, total_s=TOTAL_S)
    if args.threads is not None:
        if args.threads < 1:
            raise ValueError(f"--threads must be at least 1, got {args.threads}")
        torch.set_num_threads(args.threads)
    if not args.budget_s > 0:
        raise ValueError(f"--budget-s must be positive, got {args.budget_s}")
    effort = made.effort if args.quick else Effort(budget_s=args.budget_s)
    return replace(made, modes=tuple(args.modes), data_root=data_root(args.data_root), effort=effort)


def on_gpu(args: argparse.Namespace) -> int:
    """The exit status of ``gpu``: 2 without a device, 1 if anything of ours is wrong or failed."""
    reason = machine.missing()
    if reason is not None:
        print(reason, file=sys.stderr)
        return 2
    found, failed = run.execute(plan(args), args.out)
    text = tables.terminal(found)
    (found.folder / "table.txt").write_text(text + "\n")
    print(text)
    try:
        for path in plots.draw(found, found.folder):
            run.say(f"wrote {path.name}")
    except RuntimeError as error:
        run.say(str(error))
    return 1 if failed else 0


def on_pages(args: argparse.Namespace) -> int:
    """The exit status of ``clusterings``, ``hard-poolers`` and ``exchange``, which have pages of their own."""
    if args.command == "exchange":
        if not (args.report or args.check) and exchange.run(args).metadata["quick"]:
            return 0  # of other sizes
        return exchange_page.command(args.check)
    if not (args.report or args.check):
        if args.threads is not None and args.threads < 1:
            raise ValueError(f"--threads must be at least 1, got {args.threads}")
        threads, root = args.threads or torch.get_num_threads(), data_root(args.data_root)
        if args.command == "clusterings":
            made = clusterings.run(args.graphs, args.methods, threads, root)
        else:
            made = hard_poolers.run((args.pairs, args.growth, args.pooled_once), threads, root, args.quick)
        if made.metadata["quick"]:
            return 0  # not all of it
    return (clusterings_page if args.command == "clusterings" else hard_poolers_page).command(args.check)


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    try:
        if args.command == "run":
            PROVIDERS["pyg"].load(CPU)  # the tables compare with it
            found, failed = run.execute(plan(args))
            print(tables.terminal(found))
            return 1 if failed else 0
        if args.command == "gpu":
            return on_gpu(args)
        if args.command == "step":
            found = step.run(args)
            print(
                f"{tables.place(found)}\n\n{tables.aligned(tables.steps(found))}\n\nresults in {found.folder}"
            )
            return 0
        if args.command in ("clusterings", "hard-poolers", "exchange"):
            return on_pages(args)
        if args.command == "launches":
            torch.set_num_threads(1)
            print(f"{tables.aligned(launches.table())}\n\n{launches.LEGEND}")
            return 0
        if args.command == "accuracy":
            return accuracy.command(args.check, args.add)
        if args.command == "poolers":
            return poolers.command(args.check)
        return pages.command(args.folder, check=args.check, print_only=args.print_only)
    except (ValueError, RuntimeError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
