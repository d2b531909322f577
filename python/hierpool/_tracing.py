"""Whether a call is traced or transformed and must therefore use registered operators."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch.autograd import forward_ad
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

T = TypeVar("T")
P = ParamSpec("P")


def is_traced() -> bool:
    """True under torch.compile, torch.export or a dispatch mode."""
    return torch.compiler.is_compiling() or is_in_torch_dispatch_mode()


def is_transformed() -> bool:
    """True under a transform of torch.func, forward-mode automatic differentiation or torch.jit.trace."""
    return (
        torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or torch._C._is_tracing()
    )


def untraced(function: Callable[P, T]) -> Callable[P, T]:
    """``function``, which breaks the graph of torch.compile and runs outside it.

    A decorator of torch.compiler would import the compiler with hierpool.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        if not torch.compiler.is_compiling():
            return function(*args, **kwargs)
        outside: Callable[P, T] = torch.compiler.disable(function)
        return outside(*args, **kwargs)

    return run
