"""What a call costs the host on a GPU, found out without one: Triton launches, allocations and kernels of torch.

CPU tensors go the way of CUDA tensors, through Triton's own launcher, to a driver that starts nothing. Results are
whatever was in memory. Kernels are not compiled.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hierpool import _tracing, backends
from hierpool.backends import native
from hierpool.backends import triton as triton_backend
from hierpool.backends.triton import _availability

aten = torch.ops.aten
_ALLOCATIONS = {
    op.default for op in (aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided)
} | {aten.empty.memory_format}
# And views that say so. A scalar stays on the CPU.
_NO_KERNELS = {aten._unsafe_view.default, aten.promote_types.default, aten.scalar_tensor.default}


class Counts(NamedTuple):
    """Triton launches, tensors allocated without a kernel, kernels of torch (which allocate their results)."""

    launches: int
    allocations: int
    kernels: int


class _Driver:
    """A driver of Triton for a GPU of compute capability 9.0, whose kernels do nothing but count."""

    started = 0

    def get_current_device(self) -> str:
        """A name that no real device has: each JIT function keeps its compiled kernels by device."""
        return "none"

    def get_current_stream(self, device: str) -> int:
        return 0

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)


_DRIVER = _Driver()


class _Kernel:
    """What Triton's launcher needs of a compiled kernel."""

    function = packed_metadata = None

    def launch_metadata(self, *args: Any) -> None:
        return None

    def run(self, *args: Any) -> None:
        _DRIVER.started += 1


class _Counter(TorchDispatchMode):
    """Counts operations of torch: one that makes no view and does more than allocate is taken for one kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.allocations = self.kernels = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _ALLOCATIONS:
            self.allocations += 1
        elif not func.is_view and func not in _NO_KERNELS:
            self.kernels += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def without_device() -> Iterator[None]:
    """Inside the context, operators on CPU tensors run as on CUDA tensors, and nothing is started.

    Raises:
        RuntimeError: there is no Triton, or kernels run in its interpreter.
    """
    if _availability.version() is None or _availability.interpreted():
        raise RuntimeError("launches are counted with triton installed, and without TRITON_INTERPRET=1")
    import triton
    from triton.runtime.driver import driver

    from hierpool_kernels.core import target

    def no_kernels(op: str, device_type: str, has_float64: bool) -> str:
        return "the tensors stand for those of a GPU"

    replaced = [
        (native, "can_run", no_kernels),
        (triton_backend, "DEVICES", ("cpu", "cuda")),
        (_availability, "interpreted", lambda: True),  # which takes CPU tensors
        (target, "INTERPRETER", target.KNOWN["sm_90"]),
        (driver, "_active", _DRIVER),
        (triton.compiler, "compile", lambda src, target, options: _Kernel()),
    ]
    backends.module.cache_clear()
    try:
        with ExitStack() as stack:
            for owner, name, value in replaced:
                stack.enter_context(mock.patch.object(owner, name, value))
            yield
    finally:
        backends.module.cache_clear()


def count(call: Callable[[], Any]) -> tuple[Counts, Any]:
    """What a call needs, and its result; inside :func:`without_device`."""
    before = _DRIVER.started
    # Operators are called as if this mode were none: under one that traces, they take another way.
    with mock.patch.object(_tracing, "is_in_torch_dispatch_mode", return_value=False), _Counter() as counter:
        result = call()
    return Counts(_DRIVER.started - before, counter.allocations, counter.kernels), result


def host_us(call: Callable[[], Any], calls: int = 400) -> float:
    """The time of a call in microseconds: the 10th percentile of many; inside :func:`without_device`."""
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e6 * sorted(times)[calls // 10]
