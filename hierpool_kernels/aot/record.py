"""The record of what compiled variants need: a line for each, valid as long as its hash; and what is wrong with one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from hierpool_kernels.aot.compiler import Report, Variant, returns_none
from hierpool_kernels.aot.loads import VECTOR, narrow
from hierpool_kernels.core.target import KNOWN

ROWS, METADATA = "rows.jsonl", "metadata.json"

Key = tuple[str, str, str]  # version of Triton, architecture, specialization


@dataclass(frozen=True)
class Row:
    """A variant, what it needs, and its uses: the name of a case, and the number of the kernel's launch in it."""

    variant: Variant
    uses: tuple[str, ...]
    report: Report

    @property
    def kernel(self) -> str:
        """The short name of the kernel."""
        return short(self.variant.kernel)

    @property
    def name(self) -> str:
        """How messages call the variant."""
        return f"{self.variant.target} {self.kernel}, {self.uses[0]}"


def short(kernel: str) -> str:
    """``soft_pool_rows_fwd`` of ``_soft_pool_rows_fwd_kernel``."""
    return kernel.removeprefix("_").removesuffix("_kernel")


def problems(row: Row, recorded: Report | None = None) -> list[str]:
    """What is wrong with a variant. On gfx942 it has to compile, to fit and not to spill."""
    report, architecture = row.report, KNOWN[row.variant.target]
    if report.error:
        return [f"does not compile: {report.error}"]
    found = [
        f"{name} returns None, which Triton 3.6 cannot compile"
        for name in returns_none(row.variant.call.kernel)
    ]
    limit = architecture.shared_bytes
    if report.shared_bytes > limit:
        found.append(f"needs {report.shared_bytes} bytes of shared memory; a program may have {limit}")
    before = recorded or Report()
    needed = report.needs_tensor_core or before.tensor_core
    if architecture.family == "cuda" and needed and not report.tensor_core:
        found.append("has a product for tensor cores, but none of their instructions")
    return found + forbidden(row)


def forbidden(row: Row) -> list[str]:
    """What no variant may have, whatever is recorded."""
    return spills(row) + narrow_loads(row) + pending(row) + unasked(row)


def spills(row: Row) -> list[str]:
    """The registers that a variant spills."""
    spilled, instructions = row.report.spill_bytes, row.report.local_instructions
    if not (spilled or instructions):
        return []
    return [f"spills {spilled} bytes per thread in {instructions} loads and stores"]


def pending(row: Row) -> list[str]:
    """Products that may read registers which were changed in the meantime."""
    if not row.report.pending:
        return []
    return [f"has {row.report.pending} waits that let a product go on whose left factor is in registers"]


def unasked(row: Row) -> list[str]:
    """Instructions that round float32 to TF32, though IEEE products are asked for."""
    if not row.report.unasked:
        return []
    return [f"multiplies in TF32, by {row.report.unasked} instructions, but asks for IEEE products"]


def narrow_loads(row: Row) -> list[str]:
    """Loads that could be wider, but for those that are accepted. They are read on CUDA architectures."""
    return [
        f"loads {width} bytes of {matrix} at a time, whose rows are aligned to {VECTOR} elements"
        for matrix, width, reason in narrow(row.variant, row.report.loads)
        if not reason
    ]


def differences(report: Report, recorded: Report) -> list[str]:
    """Where a variant that was compiled again differs from its record."""
    names = [field.name for field in fields(Report)]
    if not recorded.loads:  # a line from before loads were read
        names.remove("loads")
    pairs = [(name, getattr(report, name), getattr(recorded, name)) for name in names]
    return [f"{name} is {now}, recorded is {before}" for name, now, before in pairs if now != before]


def read(folder: Path) -> dict[Key, dict[str, Any]]:
    """The lines of a record; none of a folder without one."""
    file = folder / ROWS
    lines = file.read_text().splitlines() if file.exists() else []
    entries = [json.loads(line) for line in lines]
    return {(entry["triton"], entry["target"], entry["specialization"]): entry for entry in entries}


def report_of(entry: dict[str, Any]) -> Report:
    """What a line of the record says that a variant needs."""
    values = {field.name: entry[field.name] for field in fields(Report) if field.name in entry}
    pairs = {name: tuple(sorted(values.get(name, {}).items())) for name in ("tensor_core", "loads")}
    return Report(**values | pairs)


def entry_of(row: Row, label: str, triton: str) -> tuple[Key, dict[str, Any]]:
    """The key of a variant and its line, which leaves out zeros."""
    variant, report = row.variant, asdict(row.report)
    report |= {name: dict(report[name]) for name in ("tensor_core", "loads")}
    key = (triton, variant.target, variant.specialization)
    names = dict(zip(("triton", "target", "specialization"), key, strict=True))
    more = {"kernel": row.kernel, "variant": label, "use": row.uses[0], "hash": variant.hash}
    return key, names | more | {name: value for name, value in report.items() if value}


def write(folder: Path, entries: Iterable[dict[str, Any]], run: dict[str, Any]) -> None:
    """Write a record, and the metadata of the last run that compiled lines of its version of Triton."""
    folder.mkdir(parents=True, exist_ok=True)
    targets = list(KNOWN)
    ordered = sorted(
        entries, key=lambda e: (e["triton"], e["kernel"], e["variant"], e["specialization"], targets.index(e["target"]))
    )  # fmt: skip
    (folder / ROWS).write_text("".join(json.dumps(entry) + "\n" for entry in ordered))
    file = folder / METADATA
    runs = json.loads(file.read_text()) if file.exists() else {}
    before = runs.get(run["triton"])
    if before is None or run["compiled"]:
        assembler = ({} if before is None else before["assembler"]) | run["assembler"]
        runs[run["triton"]] = run | {"assembler": assembler}
    file.write_text(json.dumps(dict(sorted(runs.items())), indent=2) + "\n")
