"""The one place where kernels are launched, so that launches can be recorded, and compiled ahead of time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Call(NamedTuple):
    """One launch: ``kernel[grid](*arguments, **options)``."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: tuple[Any, ...]
    options: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of the kernel."""
        return str(self.kernel.fn.__name__)


_watchers: list[tuple[list[Call], bool]] = []


@contextmanager
def watch(run: bool = True) -> Iterator[list[Call]]:
    """A list of the launches inside the context; with ``run=False`` they are recorded but not run."""
    calls: list[Call] = []
    _watchers.append((calls, run))
    try:
        yield calls
    finally:
        _watchers.remove((calls, run))


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    """Launch ``kernel`` on the device and the current stream of its first tensor; an empty grid launches nothing."""
    if 0 in grid:
        return
    runs = True
    for calls, run in _watchers:
        calls.append(Call(kernel, grid, arguments, options))
        runs = runs and run
    if runs:
        with _device_of(arguments):
            kernel.run(*arguments, grid=grid, warmup=False, **options)  # kernel[grid](...), a call fewer


_HERE = nullcontext()


def _device_of(arguments: tuple[Any, ...]) -> AbstractContextManager[Any]:
    """A context of the device of the first tensor; to ask which is current takes less time than to enter one."""
    for argument in arguments:
        if isinstance(argument, Tensor):
            if argument.is_cuda and argument.get_device() != torch.cuda.current_device():
                return torch.cuda.device(argument.device)
            break
    return _HERE
