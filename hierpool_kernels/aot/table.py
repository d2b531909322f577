"""What compiled variants need, as a table and as a summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from hierpool_kernels.aot.compiler import Variant
from hierpool_kernels.aot.loads import VECTOR, aligned, narrow
from hierpool_kernels.aot.record import Row

LEGEND = (
    "Registers per thread, bytes it spills, KiB of shared memory of a program, bytes per load of each matrix (the"
    " narrowest), tensor-core instructions."
)


def _features(variant: Variant) -> dict[str, str]:
    """Features of a variant by name: dtypes of tensors, constants, options, then integers, sizes before strides."""
    kinds, constants = dict(variant.types), dict(variant.constants)
    tensors = {name: f"{_plain(name)}:{kind[1:]}" for name, kind in kinds.items() if kind.startswith("*")}
    numbers = {
        name: "" if kind == "i32" else f"{name}:{kind}" for name, kind in kinds.items() if name not in tensors
    }
    for name in set(variant.divisible) & set(numbers):
        numbers[name] = f"{name}/16{numbers[name].removeprefix(name)}"
    values = {}
    for name, value in constants.items():
        if isinstance(value, bool):
            values[name] = name if value else ""
        else:
            values[name] = "" if value is None else f"{name}={value}"
    options = {name: f"{name}={value}" for name, value in variant.options if name != "warps"}
    return tensors | values | options | dict(reversed(numbers.items()))


def _plain(name: str) -> str:
    return name.removesuffix("_ptr")


def labels(variants: Iterable[Variant]) -> dict[tuple[Any, ...], str]:
    """A label for each key: the features that distinguish it from other variants of its kernel. Of features that always
    go together, only the first is named."""
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
    loads = " ".join(f"{matrix}:{width}" for matrix, width in report.loads)
    numbers = f"{report.registers:3} {report.spill_bytes:5} {report.shared_bytes / 1024:6.1f}"
    return f"{numbers}  {loads}  {instructions}".rstrip()


def table(rows: Sequence[Row], targets: Sequence[str]) -> str:
    """A table of variants by architectures."""
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


def loads(rows: Sequence[Row]) -> str:
    """Bytes per load of the matrices whose rows are aligned, by architecture; then why some are narrow."""
    lines, reasons = [], Counter[str]()
    for target in dict.fromkeys(row.variant.target for row in rows):
        widths: dict[str, Counter[int]] = {}
        for row in rows:
            if row.variant.target == target:
                for matrix, width in row.report.loads:
                    if aligned(row.variant, matrix):
                        widths.setdefault(matrix, Counter())[min(width, VECTOR)] += 1
                reasons.update(reason for _, _, reason in narrow(row.variant, row.report.loads))
        if widths:
            cells = (f"{matrix} {_widths(counts)}" for matrix, counts in sorted(widths.items()))
            lines.append(f"{target}: bytes per load of aligned matrices: {'; '.join(cells)}")
    lines += [f"  {count} narrow: {reason}" for reason, count in reasons.most_common() if reason]
    return "\n".join(lines)


def _widths(counts: Counter[int]) -> str:
    return ", ".join(f"{width} in {count}" for width, count in sorted(counts.items(), reverse=True))
