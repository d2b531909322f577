"""``python -m hierpool_kernels.aot``: compile, print the table, fail if something is wrong with it."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
import triton
from triton import knobs

from hierpool_kernels.aot import table
from hierpool_kernels.aot.cases import calls, cases_of
from hierpool_kernels.aot.compiler import Variant, tool_version, variant
from hierpool_kernels.aot.workers import reports
from hierpool_kernels.target import KNOWN


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hierpool_kernels.aot",
        description="Compile every kernel variant, and fail if one spills registers, needs too much shared memory or"
        " misses the tensor cores. Needs no GPU.",
    )
    parser.add_argument(
        "--targets", nargs="+", choices=KNOWN, default=list(KNOWN), help="architectures (all)"
    )
    parser.add_argument("--kernels", nargs="+", metavar="NAME", help="such as soft_pool_rows (all)")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes (as many as there are cores)"
    )
    parser.add_argument(
        "--cache", type=Path, metavar="FOLDER", help="keep what was compiled here (a temporary one)"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write a record")
    parser.add_argument(
        "--check",
        type=Path,
        metavar="RECORD",
        help="also fail if a recorded variant or its tensor cores are gone",
    )
    return parser


def launched(targets: Sequence[str], kernels: Sequence[str]) -> list[tuple[Variant, tuple[str, ...]]]:
    """The distinct specialisations of all launches of the named kernels, and the uses of each."""
    found: dict[tuple[Any, ...], tuple[Variant, list[str]]] = {}
    for target in targets:
        for case in cases_of(target):
            seen: Counter[str] = Counter()
            for call in calls(case, target):
                seen[call.name] += 1
                if table.short(call.name) in kernels:
                    one = variant(call, target)
                    _, uses = found.setdefault((target, one.key), (one, []))
                    uses.append(f"{case.name} #{seen[call.name]}")
    return [(one, tuple(uses)) for one, uses in found.values()]


def kernels_of(target: str) -> list[str]:
    """The short names of all kernels that are launched."""
    return sorted({table.short(call.name) for case in cases_of(target) for call in calls(case, target)})


class _Progress:
    """A line of standard error that says how far the compilation is."""

    def __init__(self, variants: Sequence[Variant]) -> None:
        self._variants = variants
        self._done = 0
        self._screen = sys.stderr.isatty()

    def __call__(self, index: int) -> None:
        self._done += 1
        one, total = self._variants[index], len(self._variants)
        text = f"[{self._done}/{total}] {one.target} {table.short(one.kernel)}"
        if self._screen:
            print(f"\r\x1b[K{text}", end="\n" if self._done == total else "", file=sys.stderr, flush=True)
        elif self._done % 50 == 0 or self._done == total:
            print(text, file=sys.stderr, flush=True)


def _git(*words: str) -> str:
    """What git says of the checkout that this file is in, "" where it is in none."""
    folder = Path(__file__).resolve().parent
    try:
        done = subprocess.run(("git", *words), cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def _metadata(targets: Sequence[str], seconds: float) -> dict[str, Any]:
    return {
        "date_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--", "..")),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "assembler": {target: tool_version(target) for target in targets},
        "seconds": round(seconds),
    }


def _compile(options: argparse.Namespace, kernels: Sequence[str]) -> list[table.Row]:
    found = launched(options.targets, kernels)
    variants = [one for one, _ in found]
    done = reports(variants, options.jobs, _Progress(variants))
    return [table.Row(one, uses, report) for (one, uses), report in zip(found, done, strict=True)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 1 if something is wrong with a variant."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if knobs.runtime.interpret:
        parser.error("TRITON_INTERPRET is set: the interpreter compiles nothing; unset it")
    names = kernels_of(options.targets[0])
    kernels = names if options.kernels is None else options.kernels
    unknown = sorted(set(kernels) - set(names))
    if unknown:
        parser.error(f"no kernel is called {', '.join(unknown)}; there are {', '.join(names)}")
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, knobs.cache.scope():
        knobs.cache.dir = str(options.cache or folder)
        rows = _compile(options, kernels)
    seconds = time.monotonic() - start
    text = table.table(rows, options.targets)
    print(text)
    wrong = [
        f"{row.variant.target} {row.kernel}, {row.uses[0]}: {problem}"
        for row in rows
        for problem in table.problems(row)
    ]
    if options.check:
        wrong += table.lost(options.check, rows, options.targets, kernels)
    print(f"\n{table.summary(rows)}\nin {seconds:.0f} s")
    if options.out:
        table.write(options.out, rows, _metadata(options.targets, seconds), text)
    if wrong:
        print("\n" + "\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
