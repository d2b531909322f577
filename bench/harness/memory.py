"""Peak memory of one step: by the allocator on a GPU, by the resident set of a fresh process on a CPU.

``python -m bench.harness.memory JSON`` is that process. It builds the inputs, runs one step
(imports, thread pools, compilation), gives free memory back to the system, resets the kernel's high-water mark and runs
a second step. The figure is that step's peak resident set minus the resident set before it, so inputs and libraries do
not count. Needs Linux and glibc.
"""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.harness.workload import Request, Unavailable

ROOT = Path(__file__).resolve().parents[2]
STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident_bytes(field: str) -> int:
    """``VmRSS`` (now) or ``VmHWM`` (high-water mark) of this process."""
    for line in STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise Unavailable(f"{STATUS} has no field {field}")


def peak_of(call: Callable[[], object]) -> int:
    """Bytes by which the resident set grows at most while ``call`` runs."""
    try:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        CLEAR_REFS.write_text("5")  # resets VmHWM to VmRSS
        before = resident_bytes("VmRSS")
    except (OSError, AttributeError) as error:
        raise Unavailable(f"peak memory needs Linux with glibc: {error}") from error
    call()
    return max(0, resident_bytes("VmHWM") - before)


def peak_on_device(call: Callable[[], object], device: torch.device) -> int:
    """Bytes by which allocated memory grows at most while ``call`` runs, after a first run."""
    if device.type != "cuda":
        raise Unavailable("memory is counted by the allocator of CUDA")
    call()
    gc.collect()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


class Alive(TorchDispatchMode):
    """Counts the bytes of the tensors that are made under it and are alive: now, and at most."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        self.most = max(self.most, self.now)
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def peak_of_tensors(call: Callable[[], object]) -> int:
    """Bytes of the tensors that ``call`` makes and that are alive at once, at most.

    On PyTorch's meta device, where tensors have no memory, this tells what a step needs that may not fit. Scratch space
    within an operation and what the allocator adds are not counted.
    """
    with Alive() as alive:
        call()
    return alive.most


def measure_here(workload: str, provider: str, seed: int, threads: int, data_root: str | None) -> int:
    """Peak of forward + backward on the CPU, in this process."""
    from bench.harness.timing import step
    from bench.ops import PROVIDERS, WORKLOADS

    torch.set_num_threads(threads)
    request = Request(seed, data_root=Path(data_root) if data_root else None)
    call = step(PROVIDERS[provider].load(request.device), WORKLOADS[workload].build(request), "both")
    call()
    return peak_of(call)


def peak_in_process(workload: str, provider: str, seed: int, threads: int, data_root: Path | None) -> int:
    """Peak of forward + backward, in a fresh process. Raises `Unavailable` with the child's last line."""
    what = {"workload": workload, "provider": provider, "seed": seed, "threads": threads}
    what["data_root"] = None if data_root is None else str(data_root.resolve())
    command = [sys.executable, "-m", "bench.harness.memory", json.dumps(what)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise Unavailable(lines[-1])
    return json.loads(done.stdout.splitlines()[-1])["peak_bytes"]


if __name__ == "__main__":
    print(json.dumps({"peak_bytes": measure_here(**json.loads(sys.argv[1]))}))
