"""What the host waits for on a GPU, and what is sorted, counted on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from hierpool import _tracing

aten = torch.ops.aten
# What gives a value, or a size that depends on values, to the host.
_WAITING = (
    aten._local_scalar_dense,
    aten.equal,
    aten.nonzero,
    aten.masked_select,
    aten._unique2,
    aten.unique_dim,
)
_READING = (Tensor.tolist, Tensor.numpy, Tensor.cpu)


class _Operations(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.sorts: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func.overloadpacket
        masks = packet is aten.index and any(t is not None and t.dtype is torch.bool for t in args[1])
        counted = packet is aten.repeat_interleave and kwargs.get("output_size") is None
        if packet in _WAITING or masks or counted:
            self.waits.append(str(func))
        if packet in (aten.sort, aten.argsort):
            self.sorts.append(args[0].numel())
        return func(*args, **kwargs)


class _Reads(TorchFunctionMode):
    def __init__(self, waits: list[str]) -> None:
        super().__init__()
        self._waits = waits

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _READING:
            self._waits.append(func.__name__)
        return func(*args, **(kwargs or {}))


def counted(call: Callable[[], Any]) -> tuple[Any, list[str], list[int]]:
    """A result, what the host waited for, and the sizes of what was sorted."""
    # Operators are called as if these modes were none: under one that traces, they take another way.
    untraced = mock.patch.object(_tracing, "is_in_torch_dispatch_mode", return_value=False)
    with untraced, _Operations() as operations, _Reads(operations.waits):
        result = call()
    return result, operations.waits, operations.sorts
