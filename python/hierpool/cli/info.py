"""``python -m hierpool info``: versions, and which backend runs each operator."""

from __future__ import annotations

import argparse
import json
import platform
import textwrap
from collections import Counter
from collections.abc import Iterable
from importlib import metadata
from itertools import groupby
from typing import Any

import torch

import hierpool
from hierpool.backends.native import _library

HINT = "Reasons and build: hierpool info --why. One operator: hierpool info OPERATOR."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "operator", nargs="?", help="print why each backend runs, or does not run, this operator"
    )
    parser.add_argument(
        "--why", action="store_true", help="print the reasons for all operators, and the build"
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(args: argparse.Namespace) -> None:
    """Print the report.

    Raises:
        ValueError: there is no such operator, or ``HIERPOOL_CPU_ISA`` is invalid.
    """
    report = collect()
    operators = list(dict.fromkeys(row["op"] for row in report["backends"]))
    if args.operator is not None and args.operator not in operators:
        raise ValueError(f"operator must be one of {', '.join(operators)}, got {args.operator!r}")
    if args.json:
        print(json.dumps(report, indent=2))
    elif args.operator is not None:
        print("\n".join(_reasons(row for row in report["backends"] if row["op"] == args.operator)[1:]))
    else:
        print(render_reasons(report) if args.why else render_table(report))


def collect() -> dict[str, Any]:
    """The contents of the report, as values that JSON can hold."""
    try:
        build = _library.build_facts()
    except ImportError as error:
        build = {"absent": str(error)}
    try:
        triton = metadata.version("triton")
    except metadata.PackageNotFoundError:
        triton = None
    return {
        "hierpool": hierpool.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "triton": triton,
        "threads": torch.get_num_threads(),
        "cuda_devices": _cuda_devices(),
        "module": build,
        "native_missing": _library.unavailable_reason(),
        "native_build_output": _library.read_build_record().details,
        "backends": [verdict._asdict() for verdict in hierpool.explain()],
    }


def _cuda_devices() -> list[str]:
    devices = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        memory_gib = properties.total_memory / 2**30
        devices.append(f"{properties.name}, sm_{properties.major}{properties.minor}, {memory_gib:.0f} GiB")
    return devices


def render_table(report: dict[str, Any]) -> str:
    """The versions, and the operators by the backends that run them, for a screen of 80 columns and 24 lines."""
    rows = report["backends"]
    running = {(row["op"], row["device"]): row["backend"] for row in rows if row["runs"]}
    devices = list(dict.fromkeys(device for _, device in running))
    lines = [*_version_lines(report), ""]
    lines.append("".join(f"{device:<12}" for device in devices) + "operators")
    groups: dict[str, list[str]] = {}
    for op in dict.fromkeys(op for op, _ in running):
        groups.setdefault("".join(f"{running[op, device]:<12}" for device in devices), []).append(op)
    for named, operators in groups.items():
        lines += textwrap.wrap(
            ", ".join(operators), 80, initial_indent=named, subsequent_indent=" " * len(named)
        )
    if report["native_missing"]:
        lines.append("The native backend is not available; --why says why, and how to get it.")
    return "\n".join([*lines, HINT])


def render_reasons(report: dict[str, Any]) -> str:
    """The versions, the build, and the reasons of all operators, which are printed once for equal reasons."""
    missing = report["native_missing"]
    lines = _version_lines(report)
    module = report["module"]
    if "absent" in module:
        lines.append(f"{'instruction set':<17}unknown: {module['absent']}")
    else:
        cpu, build = module["cpu"], module["build"]
        cap = f"HIERPOOL_CPU_ISA={cpu['cap']}" if cpu["cap"] else "HIERPOOL_CPU_ISA not set"
        lines += [
            f"{'instruction set':<17}{cpu['isa']} (supported: {', '.join(cpu['supported'])}; {cap})",
            f"{'build':<17}{build['compiler']}, {build['processor']}, headers of torch {build['torch']}",
            f"{'build flags':<17}{build['flags']}",
        ]
    lines.append(f"{'native backend':<17}{'not loaded, for the reason below' if missing else 'loaded'}")
    lines += _reasons(report["backends"])
    if missing:
        lines += ["", "The reference backend (plain PyTorch) runs instead. " + _library.REMEDY]
        if report["native_build_output"]:
            lines += ["", "The end of the output of the failed build:"]
            lines += ["  " + line for line in report["native_build_output"].splitlines()]
    return "\n".join(lines)


def _version_lines(report: dict[str, Any]) -> list[str]:
    devices = Counter(report["cuda_devices"])
    cuda = "; ".join(f"{count} x {device}" for device, count in devices.items())
    if not cuda:
        cuda = "no device" if report["torch_cuda"] else "no device (this torch is built without CUDA)"
    pairs = {
        "hierpool": report["hierpool"],
        "python": f"{report['python']}, {report['system']}",
        "torch": f"{report['torch']}, {report['threads']} threads",
        "triton": report["triton"] or "not installed",
        "CUDA devices": cuda,
    }
    return [f"{name:<17}{value}" for name, value in pairs.items()]


def _reasons(rows: Iterable[dict[str, Any]]) -> list[str]:
    """For every device, the verdict on each backend; operators with equal verdicts share a block."""
    blocks: dict[tuple[str, ...], list[str]] = {}
    for (op, device), verdicts in groupby(rows, lambda row: (row["op"], row["device"])):
        text = (f"  {'*' if v['runs'] else ' '} {v['backend']:<12}{v['reason']}" for v in verdicts)
        blocks.setdefault((device, *text), []).append(op)
    lines = []
    for (device, *verdict_lines), operators in blocks.items():
        lines += ["", f"{', '.join(operators)} on {device}", *verdict_lines]
    return lines
