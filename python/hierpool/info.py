"""``python -m hierpool info``: what is installed, and which backend runs each operator and why not the others."""

from __future__ import annotations

import argparse
import json
import platform
from typing import Any

from hierpool import _native, _triton, backends
from hierpool._version import __version__


def _cuda_devices() -> list[str]:
    import torch

    if not torch.cuda.is_available():
        return []
    devices = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory_gib = properties.total_memory / 2**30
        devices.append(f"{properties.name}, sm_{properties.major}{properties.minor}, {memory_gib:.0f} GiB")
    return devices


def _module_report() -> dict[str, Any]:
    """What the ``_C`` module knows, or why it is absent."""
    try:
        module = _native.python_module()
    except ImportError as error:
        return {"absent": str(error)}
    return {"cpu": module.cpu_features(), "build": module.build_info()}


def collect() -> dict[str, Any]:
    """Everything the command reports, as plain values that JSON can hold.

    Raises:
        ValueError: ``HIERPOOL_CPU_ISA`` names an instruction set that is unknown or not supported.
    """
    import torch

    devices = _cuda_devices()
    record = _native.read_build_record()
    return {
        "hierpool": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "triton": _triton.version(),
        "threads": torch.get_num_threads(),
        "cuda_devices": devices,
        "module": _module_report(),
        "native_missing": _native.unavailable_reason(),
        "native_build_output": record.details,
        "backends": [row._asdict() for row in backends.explain()],
    }


def _cpu_lines(module: dict[str, Any]) -> list[tuple[str, str]]:
    if "absent" in module:
        return [("instruction set", f"unknown: {module['absent']}")]
    cpu, build = module["cpu"], module["build"]
    cap = f"HIERPOOL_CPU_ISA={cpu['cap']}" if cpu["cap"] else "HIERPOOL_CPU_ISA not set"
    return [
        ("instruction set", f"{cpu['isa']} (supported: {', '.join(cpu['supported'])}; {cap})"),
        ("build", f"{build['compiler']}, {build['processor']}, headers of torch {build['torch']}"),
        ("build flags", build["flags"]),
    ]


def _backend_lines(rows: list[dict[str, Any]]) -> list[str]:
    lines = []
    heading = ""
    for row in rows:
        if heading != f"{row['op']} on {row['device']}":
            heading = f"{row['op']} on {row['device']}"
            lines += ["", heading]
        lines.append(f"  {'*' if row['runs'] else ' '} {row['backend']:<12}{row['reason']}")
    return lines


def render(report: dict[str, Any]) -> str:
    """The report of :func:`collect` as text."""
    cuda = "; ".join(report["cuda_devices"])
    if not cuda:
        cuda = "no device" if report["torch_cuda"] else "no device (this torch is built without CUDA)"
    missing = report["native_missing"]
    pairs = [
        ("hierpool", report["hierpool"]),
        ("python", f"{report['python']}, {report['system']}"),
        ("torch", f"{report['torch']}, {report['threads']} threads"),
        ("triton", report["triton"] or "not installed"),
        ("CUDA devices", cuda),
        *_cpu_lines(report["module"]),
        ("native backend", "not loaded, for the reason below" if missing else "loaded"),
    ]
    lines = [f"{name:<17}{value}" for name, value in pairs]
    lines += _backend_lines(report["backends"])
    if missing:
        lines += ["", "The reference backend (plain PyTorch) runs instead. " + _native.REMEDY]
    if missing and report["native_build_output"]:
        lines += ["", "The end of the failed build's output:"]
        lines += ["  " + line for line in report["native_build_output"].splitlines()]
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``info``."""
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def main(args: argparse.Namespace) -> int:
    """Print the report; returns the exit status."""
    report = collect()
    print(json.dumps(report, indent=2) if args.json else render(report))
    return 0
