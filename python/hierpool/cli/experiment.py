"""``python -m hierpool experiment``: compare methods of graph classification, and make a table of the results."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from hierpool.experiments import METHODS, PROTOCOLS, methods, plots, queue, read_protocol, report, workers
from hierpool.experiments.comparison import make_cells
from hierpool.experiments.folds import FOLDS
from hierpool.experiments.results import FAILED, ResultFile, read_rows
from hierpool.training.config import MAX_SEED
from hierpool.training.files import write_atomic


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "report",
        nargs="*",
        metavar="report FOLDER",
        help="instead of running anything, print the table of a folder and write its plots there",
    )
    parser.add_argument(
        "--out", type=Path, help="folder of the results; runs that are finished there are not repeated"
    )
    parser.add_argument(
        "--methods", nargs="+", metavar="NAME", help=f"from: {', '.join(METHODS)} (default: all)"
    )
    parser.add_argument(
        "--datasets",
        nargs="+",
        metavar="NAME",
        default=list(queue.DATASETS),
        help=f"TU datasets (default: {', '.join(queue.DATASETS)})",
    )
    parser.add_argument(
        "--splits",
        type=Path,
        metavar="PATH",
        help="JSON file with the folds of the one data set, or folder with NAME_splits.json of data sets; others have"
        " our own stratified folds",
    )
    for name, example, default in (("folds", "0-9 or 0 4", f"0-{FOLDS - 1}"), ("seeds", "0-2", "0")):
        parser.add_argument(
            f"--{name}",
            nargs="+",
            metavar="NUMBER",
            default=[default],
            help=f"for example {example} (default: {default})",
        )
    parser.add_argument(
        "--protocol",
        default="fair",
        choices=tuple(PROTOCOLS),
        help="fair: test accuracy at the best epoch on validation graphs; paper: the best validation accuracy, which"
        " is optimistic (default: %(default)s)",
    )
    parser.add_argument("--config", type=Path, help="JSON file with other values of the configuration")
    parser.add_argument(
        "--data-root", type=Path, help="folder that holds tu/NAME/raw (default: HIERPOOL_DATA)"
    )
    parser.add_argument(
        "--workers", type=int, help="processes of one thread each (default: as many as processors)"
    )
    parser.add_argument("--time-limit", type=float, metavar="MINUTES", help="of a run (default: none)")
    parser.add_argument("--retry", action="store_true", help="repeat runs that failed")


def run(args: argparse.Namespace) -> None:
    """Run an experiment, or report one.

    Raises:
        ValueError, OSError, ImportError, RuntimeError: an option, file, package or data set is invalid, or runs failed;
            the message says which.
    """
    if args.report:
        _report(args)
        return
    if args.out is None:
        raise ValueError("out must be the folder of the results; give --out FOLDER")
    count = workers.processors() if args.workers is None else args.workers
    if count < 1:
        raise ValueError(f"workers must be at least 1, got {count}")
    if args.time_limit is not None and not args.time_limit > 0:
        raise ValueError(f"time-limit must be positive, got {args.time_limit}")
    plan, columns = queue.check(_plan(args), args.retry)
    for column in columns:
        print(column)
    try:
        workers.run(plan, columns, count, say=lambda text: print(text, flush=True))
    except KeyboardInterrupt:
        advice = f"finished runs are kept in {plan.folder}, and the same command continues with the others"
        raise KeyboardInterrupt(advice) from None
    print(f"results: {plan.folder}; table: python -m hierpool experiment report {plan.folder}")
    results = ResultFile(plan.folder)
    results.update()
    rows = [results.rows[one.key] for one in plan.runs if one.key in results.rows]
    failed = [row for row in rows if row["status"] == FAILED]
    if failed:
        raise RuntimeError(
            f"{len(failed)} of {len(plan.runs)} runs failed, the first with {failed[0]['reason']}; --retry repeats them"
        )


def _plan(args: argparse.Namespace) -> queue.Plan:
    protocol = read_protocol(args.protocol, args.config)
    chosen = [method.name for method in methods.select(_names(args.methods))]
    datasets = list(dict.fromkeys(_names(args.datasets) or ()))
    if args.splits is not None and not args.splits.exists():
        raise FileNotFoundError(f"splits must be a file or a folder, but {args.splits} does not exist")
    if args.splits is not None and not args.splits.is_dir() and len(datasets) > 1:
        raise ValueError(
            f"splits must be a folder with NAME_splits.json of each of {len(datasets)} data sets, got the file"
            f" {args.splits}"
        )
    numbers = parse_numbers("folds", ",".join(args.folds)), parse_numbers("seeds", ",".join(args.seeds))
    runs = queue.make_runs(protocol, datasets, chosen, *numbers)
    if not runs:
        names = ", ".join(method.name for method in METHODS.values() if method.in_paper)
        raise ValueError(f"methods must be from {names} with --protocol paper, got {', '.join(chosen)}")
    limit = None if args.time_limit is None else 60 * args.time_limit
    return queue.Plan(args.out, runs, protocol, args.data_root, args.splits, limit)


def _names(given: Sequence[str] | None) -> list[str] | None:
    """Names from words, which may be lists with commas."""
    return None if given is None else [name for word in given for name in word.split(",") if name]


def parse_numbers(name: str, text: str) -> list[int]:
    """The numbers of a text such as ``"0-2,5"``, ascending.

    Raises:
        ValueError: the text has another form.
    """
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part, re.ASCII)
        first, last = (0, 0) if match is None else (int(match[1]), int(match[2] or match[1]))
        if match is None or not first <= last <= MAX_SEED or last - first > 10_000:
            raise ValueError(f"{name} must be numbers and ranges such as 0-2,5, got {text!r}")
        found |= {*range(first, last + 1)}
    return sorted(found)


def _report(args: argparse.Namespace) -> None:
    """Print the tables of a folder, and write them and the plots there."""
    if len(args.report) != 2 or args.report[0] != "report":
        raise ValueError(f"report must be followed by one folder, got {' '.join(args.report)!r}")
    folder = Path(args.report[1])
    rows = read_rows(folder)
    text = report.sections(rows)
    if not text:
        raise ValueError(f"folder must hold finished runs, but {folder} holds none")
    print(text)
    write_atomic(folder / "report.md", (text + "\n").encode())
    print(f"\ntables: {folder / 'report.md'}")
    for path in plots.draw_all(folder, make_cells(rows, "fair")):
        print(f"plot: {path}")
