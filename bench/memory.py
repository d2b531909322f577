"""Peak memory of one step, measured in a fresh process: ``python -m bench.memory --workload W --provider P``.

The process builds the inputs, runs one step (imports, thread pools, compilation), gives free memory back to the
system, resets the kernel's high-water mark and runs a second step. The figure is that step's peak resident set minus
the resident set before it, so inputs and libraries do not count. Needs Linux and glibc.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class MemoryUnavailable(RuntimeError):
    """The peak cannot be measured on this system."""


def resident_bytes(field: str) -> int:
    """``VmRSS`` (now) or ``VmHWM`` (high-water mark) of this process."""
    for line in STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise MemoryUnavailable(f"{STATUS} has no field {field}")


def peak_of(call: Callable[[], object]) -> int:
    """Bytes by which the resident set grows at most while ``call`` runs."""
    try:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        CLEAR_REFS.write_text("5")  # resets VmHWM to VmRSS
        before = resident_bytes("VmRSS")
    except (OSError, AttributeError) as error:
        raise MemoryUnavailable(f"peak memory needs Linux with glibc: {error}") from error
    call()
    return max(0, resident_bytes("VmHWM") - before)


def measure_here(workload: str, provider: str, seed: int, threads: int, data_root: Path | None) -> int:
    """Peak of forward + backward, in this process."""
    import torch

    from bench.measure import step
    from bench.registry import PROVIDERS, WORKLOADS

    torch.set_num_threads(threads)
    batch = WORKLOADS[workload].build(seed, data_root)
    call = step(PROVIDERS[provider].load(), batch, "both")
    call()
    return peak_of(call)


def peak_bytes(workload: str, provider: str, seed: int, threads: int, data_root: Path | None) -> int:
    """Peak of forward + backward, in a fresh process. Raises `MemoryUnavailable` with the child's last line."""
    command = [sys.executable, "-m", "bench.memory", "--workload", workload, "--provider", provider]
    command += ["--seed", str(seed), "--threads", str(threads)]
    if data_root is not None:
        command += ["--data-root", str(data_root.resolve())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise MemoryUnavailable(lines[-1])
    return json.loads(done.stdout.splitlines()[-1])["peak_bytes"]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.memory", description="Peak memory of one step, as JSON."
    )
    parser.add_argument("--workload", required=True)
    parser.add_argument("--provider", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--data-root", type=Path)
    args = parser.parse_args()
    peak = measure_here(args.workload, args.provider, args.seed, args.threads, args.data_root)
    print(json.dumps({"peak_bytes": peak}))


if __name__ == "__main__":
    main()
