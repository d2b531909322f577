"""``python -m hierpool_kernels.aot``: compile kernel variants; fail if something is wrong with one."""

from __future__ import annotations

import argparse
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from random import Random
from typing import Any

import torch
import triton
from triton import knobs

from hierpool_kernels.aot import record, table
from hierpool_kernels.aot.cases import calls, cases_of
from hierpool_kernels.aot.compiler import Report, Variant, has_products, tool_version, variant
from hierpool_kernels.aot.record import Row
from hierpool_kernels.aot.workers import reports
from hierpool_kernels.core.target import KNOWN

# Kernels without products of tiles need nearly the same registers on all CUDA architectures: they are compiled for one.
ALL_KERNELS = ("sm_90", "gfx942")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hierpool_kernels.aot",
        description="Compile kernel variants, and fail if one does not compile, spills registers, needs too much shared"
        " memory, misses the tensor cores or loads single elements. Needs no GPU.",
    )
    add = parser.add_argument
    add("--targets", nargs="+", choices=KNOWN, default=list(KNOWN), help="architectures (default: all)")
    add("--kernels", nargs="+", metavar="NAME", help="such as soft_pool_rows_fwd (default: all)")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one per processor)")
    add("--record", type=Path, metavar="FOLDER",
        help="compile what changed since this record, and a sample of the rest; without it, everything")  # fmt: skip
    add("--update", action="store_true", help="compile what changed, and rewrite the record")
    add("--all", action="store_true", help="compile all variants, whether or not they changed")
    add("--sample", type=float, default=0.05, metavar="SHARE",
        help="share of unchanged variants that must reproduce their record (default: 0.05)")  # fmt: skip
    add(
        "--seed",
        default=datetime.now(timezone.utc).date().isoformat(),
        help="of the sample (default: the date)",
    )
    add("--table", action="store_true", help="print a table of all variants (default without a record)")
    return parser


def launched(targets: Sequence[str], kernels: Sequence[str]) -> list[tuple[Variant, tuple[str, ...]]]:
    """The distinct variants of all launches of the named kernels, and the uses of each."""
    found: dict[tuple[Any, ...], tuple[Variant, list[str]]] = {}
    for target in targets:
        for case in cases_of(target):
            seen: Counter[str] = Counter()
            for call in calls(case, target):
                seen[call.name] += 1
                if record.short(call.name) in kernels and (
                    target in ALL_KERNELS or has_products(call.kernel)
                ):
                    one = variant(call, target)
                    _, uses = found.setdefault((target, *_compiled_once(one)), (one, []))
                    uses.append(f"{case.name} #{seen[call.name]}")
    return [(one, tuple(uses)) for one, uses in found.values()]


def _compiled_once(one: Variant) -> tuple[Any, ...]:
    """The key of variants of which one is compiled. Integer types and divisibility do not matter on gfx942, where a
    kernel only has to compile and to fit into shared memory."""
    if KNOWN[one.target].family == "cuda":
        return one.key
    tensors = tuple(kind for kind in one.types if kind[1].startswith("*"))
    return one.kernel, tensors, tuple(c for c in one.constants if c[1] != 1), one.options


def kernels_of(target: str) -> list[str]:
    """The short names of all kernels that are launched."""
    return sorted({record.short(call.name) for case in cases_of(target) for call in calls(case, target)})


class _Progress:
    """Reports the progress of the compilation on standard error."""

    def __init__(self, variants: Sequence[Variant]) -> None:
        self._variants = variants
        self._done = 0
        self._screen = sys.stderr.isatty()

    def __call__(self, index: int) -> None:
        self._done += 1
        one, total = self._variants[index], len(self._variants)
        text = f"[{self._done}/{total}] {one.target} {record.short(one.kernel)}"
        if self._screen:
            print(f"\r\x1b[K{text}", end="\n" if self._done == total else "", file=sys.stderr, flush=True)
        elif self._done % 50 == 0 or self._done == total:
            print(text, file=sys.stderr, flush=True)


@contextmanager
def _no_cache() -> Iterator[None]:
    """Nothing that was compiled earlier is used inside the context."""
    with tempfile.TemporaryDirectory() as folder, knobs.cache.scope():
        knobs.cache.dir = folder
        yield


def _compile(variants: Sequence[Variant], jobs: int) -> list[Report]:
    with _no_cache():
        return reports(variants, jobs, _Progress(variants))


def _git(*words: str) -> str:
    """The output of git in the checkout of this file, or "" outside a checkout."""
    folder = Path(__file__).resolve().parent
    try:
        done = subprocess.run(("git", *words), cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def _metadata(targets: Sequence[str]) -> dict[str, Any]:
    """The tools, and the checkout as it is when the compilation starts."""
    return {
        "triton": triton.__version__,
        "date_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--", "..")),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "assembler": {target: tool_version(target) for target in targets},
    }


class _Check:
    """The variants that are launched, their lines in the record, and which of them have to be compiled."""

    def __init__(self, options: argparse.Namespace, kernels: Sequence[str]) -> None:
        self.found = launched(options.targets, kernels)
        self.recorded = record.read(options.record) if options.record else {}
        self.keys = [(triton.__version__, one.target, one.specialization) for one, _ in self.found]
        entries = [self.recorded.get(key) for key in self.keys]
        self.before = [None if entry is None else record.report_of(entry) for entry in entries]
        self.unchanged = [
            index
            for index, (entry, (one, _)) in enumerate(zip(entries, self.found, strict=True))
            if entry is not None and entry["hash"] == one.hash and not options.all
        ]
        share = 0.0 if options.update else options.sample
        self.sample = Random(options.seed).sample(self.unchanged, math.ceil(share * len(self.unchanged)))
        self.changed = sorted(set(range(len(self.found))) - set(self.unchanged))
        in_scope = {
            key
            for key, entry in self.recorded.items()
            if key[0] == triton.__version__ and key[1] in options.targets and entry["kernel"] in kernels
        }
        self.gone = sorted(in_scope - set(self.keys))

    def run(self, jobs: int) -> tuple[list[Row], list[str]]:
        """All rows, of which those that changed are compiled, and what is wrong with them."""
        compiled = self.changed + self.sample
        now = dict(zip(compiled, _compile([self.found[i][0] for i in compiled], jobs), strict=True))
        rows = []
        for index, (one, uses) in enumerate(self.found):
            report = self.before[index] if index in self.unchanged else now[index]
            assert report is not None
            rows.append(Row(one, uses, report))
        wrong = [
            f"{rows[i].name}: {text}"
            for i in self.changed
            for text in record.problems(rows[i], self.before[i])
        ]
        wrong += [f"{rows[i].name}: {text}" for i in self.unchanged for text in record.forbidden(rows[i])]
        for i in self.sample:
            recorded = self.before[i]
            assert recorded is not None
            wrong += [
                f"{rows[i].name}: compiled again, {text}" for text in record.differences(now[i], recorded)
            ]
        return rows, wrong

    def gone_messages(self) -> list[str]:
        """What is wrong with the record: variants that are no longer launched."""
        entries = [self.recorded[key] for key in self.gone]
        return [f"{e['target']} {e['kernel']}, {e['use']}: recorded, but no longer launched" for e in entries]

    def write(self, folder: Path, rows: Sequence[Row], run: dict[str, Any]) -> None:
        """Rewrite the lines of the variants in the scope of this run."""
        names = table.labels(row.variant for row in rows)
        kept = {key: entry for key, entry in self.recorded.items() if key not in self.gone}
        fresh = dict(record.entry_of(row, names[row.variant.key], triton.__version__) for row in rows)
        record.write(folder, (kept | fresh).values(), run)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 1 if something is wrong with a variant."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if knobs.runtime.interpret:
        parser.error("TRITON_INTERPRET is set: the interpreter compiles nothing; unset it")
    if options.update and not options.record:
        parser.error("--update needs --record")
    names = kernels_of(options.targets[0])
    kernels = names if options.kernels is None else options.kernels
    unknown = sorted(set(kernels) - set(names))
    if unknown:
        parser.error(f"no kernel is called {', '.join(unknown)}; there are {', '.join(names)}")
    start, tools = time.monotonic(), _metadata(options.targets)
    check = _Check(options, kernels)
    rows, wrong = check.run(options.jobs)
    seconds = time.monotonic() - start
    if options.table or not options.record:
        print(f"{table.table(rows, options.targets)}\n")
    print(table.summary(rows))
    print(table.loads(rows))
    print(
        f"triton {triton.__version__}: {len(rows)} variants, of which {len(check.changed)} were compiled, and"
        f" {len(check.sample)} of the {len(check.unchanged)} unchanged ones (seed {options.seed}), in {seconds:.0f} s"
    )
    if options.update:
        check.write(options.record, rows, tools | {"compiled": len(check.changed), "seconds": round(seconds)})
        print(f"recorded; {len(check.gone)} variants were dropped, as they are no longer launched")
    else:
        wrong += check.gone_messages()
    if wrong:
        print("\n" + "\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
