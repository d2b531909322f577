"""Where kernels are started, so that a compiler ahead of time is shown the very calls that a device gets."""

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
        """The kernel's."""
        return str(self.kernel.fn.__name__)


_watchers: list[tuple[list[Call], bool]] = []


@contextmanager
def watch(run: bool = True) -> Iterator[list[Call]]:
    """A list of the launches inside, which with ``run=False`` are only written down."""
    calls: list[Call] = []
    _watchers.append((calls, run))
    try:
        yield calls
    finally:
        _watchers.remove((calls, run))


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    """Start ``kernel`` on the device and the current stream of its first tensor; an empty grid starts nothing."""
    if 0 in grid:
        return
    wanted = True
    for calls, run in _watchers:
        calls.append(Call(kernel, grid, arguments, options))
        wanted = wanted and run
    if wanted:
        with _device_of(arguments):
            kernel[grid](*arguments, **options)


def _device_of(arguments: tuple[Any, ...]) -> AbstractContextManager[Any]:
    tensor = next(t for t in arguments if isinstance(t, Tensor))
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()
