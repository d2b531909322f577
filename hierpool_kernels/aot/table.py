"""What compiled variants take, as a table, as a record in a folder, and what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hierpool_kernels.aot.compiler import Report, Variant
from hierpool_kernels.target import KNOWN

LEGEND = (
    "Registers of a thread, bytes it spills, KiB of shared memory of a program, instructions of tensor cores."
)
ROWS, METADATA, TABLE = "rows.jsonl", "metadata.json", "table.md"


@dataclass(frozen=True)
class Row:
    """A variant, what it takes, and its uses: the name of a case, and which launch of the kernel it is there."""

    variant: Variant
    uses: tuple[str, ...]
    report: Report

    @property
    def kernel(self) -> str:
        """Its short name."""
        return short(self.variant.kernel)


def short(kernel: str) -> str:
    """``soft_pool_rows`` of ``_soft_pool_rows_kernel``."""
    return kernel.removeprefix("_").removesuffix("_kernel")


def problems(row: Row) -> list[str]:
    """What is wrong with a variant; on gfx942, no more than that it cannot be started."""
    report, architecture = row.report, KNOWN[row.variant.target]
    if report.error:
        return [f"does not compile: {report.error}"]
    found, limit = [], architecture.shared_bytes
    if report.shared_bytes > limit:
        found.append(
            f"needs {report.shared_bytes} bytes of shared memory, more than the {limit} of a program"
        )
    if architecture.family == "hip":
        return found
    if report.spill_bytes or report.local_instructions:
        found.append(
            f"spills {report.spill_bytes} bytes of each thread, in {report.local_instructions} loads and stores"
        )
    if report.needs_tensor_core and not report.tensor_core:
        found.append("has a product for tensor cores, but none of their instructions")
    return found


# ---- text -----------------------------------------------------------------------------------------------------------


def _features(variant: Variant) -> dict[str, str]:
    """What tells a variant from others: types of tensors, constants, then integers, sizes before strides."""
    kinds, constants = dict(variant.types), dict(variant.constants)
    tensors = {name: f"{_plain(name)}:{kind[1:]}" for name, kind in kinds.items() if kind.startswith("*")}
    numbers = {
        name: "" if kind == "i32" else f"{name}:{kind}" for name, kind in kinds.items() if name not in tensors
    }
    for name in set(variant.divisible) & set(numbers):
        numbers[name] = f"{name}/16{numbers[name].removeprefix(name)}"
    said = {}
    for name, value in constants.items():
        if isinstance(value, bool):
            said[name] = name if value else ""
        else:
            said[name] = "" if value is None else f"{name}={value}"
    options = {name: f"{name}={value}" for name, value in variant.options if name != "warps"}
    return tensors | said | options | dict(reversed(numbers.items()))


def _plain(name: str) -> str:
    return name.removesuffix("_ptr")


def labels(variants: Iterable[Variant]) -> dict[tuple[Any, ...], str]:
    """For each key, what tells it from the other variants of its kernel; of features that go together, the first."""
    kernels: dict[str, dict[tuple[Any, ...], dict[str, str]]] = {}
    for variant in variants:
        kernels.setdefault(variant.kernel, {})[variant.key] = _features(variant)
    found = {}
    for of_kernel in kernels.values():
        names = list(dict.fromkeys(name for features in of_kernel.values() for name in features))
        kept, partitions = [], set()
        for name in names:
            values = [features.get(name, "") for features in of_kernel.values()]
            first = {value: index for index, value in reversed(list(enumerate(values)))}
            partition = tuple(first[value] for value in values)
            if len(first) > 1 and partition not in partitions:
                partitions.add(partition)
                kept.append(name)
        for key, features in of_kernel.items():
            found[key] = " ".join(filter(None, (features.get(name, "") for name in kept)))
    return found


def _cell(row: Row | None) -> str:
    if row is None:
        return "-"
    report = row.report
    if report.error:
        return "does not compile"
    instructions = ", ".join(f"{count} {name}" for name, count in report.tensor_core)
    return f"{report.registers:3} {report.spill_bytes:5} {report.shared_bytes / 1024:6.1f}  {instructions}".rstrip()


def table(rows: Sequence[Row], targets: Sequence[str]) -> str:
    """Variants by architectures: registers of a thread, bytes it spills, KiB of shared memory, tensor cores."""
    names = labels(row.variant for row in rows)
    cells: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in rows:
        cells.setdefault(row.variant.key, {})[row.variant.target] = row
    lines = [["kernel", "variant", "warps", *targets]]
    ordered = sorted(cells.items(), key=lambda item: (item[0][0], names[item[0]]))
    for key, of_target in ordered:
        row = next(iter(of_target.values()))
        warps = str(dict(row.variant.options).get("warps", ""))
        lines.append([row.kernel, names[key], warps, *(_cell(of_target.get(target)) for target in targets)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    text = (" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join((f"{LEGEND}\n", *(f"| {line} |" for line in text)))


def summary(rows: Sequence[Row]) -> str:
    """One line for each architecture."""
    lines = []
    for target in dict.fromkeys(row.variant.target for row in rows):
        own = [row.report for row in rows if row.variant.target == target]
        kernels = {row.variant.kernel for row in rows if row.variant.target == target}
        tensor = sum(report.needs_tensor_core for report in own)
        lines.append(
            f"{target}: {len(own)} variants of {len(kernels)} kernels;"
            f" {sum(bool(report.error) for report in own)} do not compile,"
            f" {sum(report.spill_bytes > 0 for report in own)} spill;"
            f" {sum(bool(report.tensor_core) for report in own if report.needs_tensor_core)} of the {tensor} with a"
            f" product for tensor cores have it on them;"
            f" at most {max(report.registers for report in own)} registers and"
            f" {max(report.shared_bytes for report in own) / 1024:.1f} KiB of shared memory"
        )
    return "\n".join(lines)


# ---- record ---------------------------------------------------------------------------------------------------------


def write(folder: Path, rows: Sequence[Row], metadata: dict[str, Any], text: str) -> None:
    """Write a record: its metadata, a line of JSON for each variant, and the table to be read."""
    folder.mkdir(parents=True, exist_ok=True)
    names = labels(row.variant for row in rows)
    found = []
    for row in rows:
        variant, report = row.variant, asdict(row.report)
        found.append(
            {
                "status": "failed" if row.report.error else "compiled",
                "target": variant.target,
                "kernel": row.kernel,
                "variant": names[variant.key],
                "uses": row.uses,
                **dict(variant.options),
                **report,
                "tensor_core": dict(row.report.tensor_core),
                "constants": {name: value for name, value in variant.constants if value is not None},
            }
        )
    found.sort(key=lambda one: (one["kernel"], one["variant"], list(KNOWN).index(one["target"])))
    (folder / METADATA).write_text(json.dumps(metadata, indent=2) + "\n")
    (folder / ROWS).write_text("".join(json.dumps(one) + "\n" for one in found))
    (folder / TABLE).write_text(text + "\n")


def lost(record: Path, rows: Sequence[Row], targets: Sequence[str], kernels: Sequence[str]) -> list[str]:
    """What a record of ``targets`` and ``kernels`` has and ``rows`` have not: uses, and tensor cores of a use."""
    file = record / ROWS if record.is_dir() else record
    now = {(row.variant.target, row.kernel, use): row.report for row in rows for use in row.uses}
    found = []
    for line in file.read_text().splitlines():
        one = json.loads(line)
        if one["target"] not in targets or one["kernel"] not in kernels:
            continue
        for use in one["uses"]:
            report = now.get((one["target"], one["kernel"], use))
            where = f"{one['target']} {one['kernel']}, {use}"
            if report is None:
                found.append(f"{where}: recorded, but no longer launched")
            elif one["tensor_core"] and not report.tensor_core and not report.error:
                found.append(
                    f"{where}: recorded with instructions of tensor cores, of which there are none now"
                )
    return found
