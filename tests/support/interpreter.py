"""Triton's interpreter, made faster: of a small kernel's time it spends most on what gives nothing to the result. And
stricter: what a kernel reads and writes must lie in the tensors that it was given."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor


def make_fast() -> None:
    """Spare it work that it repeats, and the check of every sum of integers for overflow.

    Nothing here overflows: sizes that come near are for a device.
    """
    from triton.runtime import interpreter

    interpreter.interpreter_builder.options = interpreter.InterpreterOptions(sanitize_overflow=False)
    _prepare_once(interpreter)
    _look_up_once(interpreter)
    _make_shapes_once()


def _prepare_once(interpreter: Any) -> None:
    """Let functions that a kernel calls find ``triton.language`` as the kernel has prepared it.

    The interpreter replaces the functions of that module when a kernel starts, and once more at every call of a
    function in it, though all of them use the one module. Those of Triton's own library use another, which is prepared
    by their first call and stays so.
    """
    prepared = set()

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        module = self.fn.__module__
        if module.startswith("triton.") and module not in prepared:
            interpreter._patch_lang(self.fn)
            prepared.add(module)
        return self.rewrite()(*args, **kwargs)

    interpreter.InterpretedFunction.__call__ = call


def _look_up_once(interpreter: Any) -> None:
    """Keep what NumPy calls a type; the interpreter writes its table of them down for every value."""
    original = interpreter._get_np_dtype
    known: dict[str, Any] = {}

    def np_dtype(tt_dtype: Any) -> Any:
        name = tt_dtype.scalar.name if not tt_dtype.scalar.is_ptr() else "pointer"
        found = known.get(name)
        if found is None:
            found = known[name] = original(tt_dtype)
        return found

    interpreter._get_np_dtype = np_dtype


def _make_shapes_once() -> None:
    """Keep the types of blocks, and the shapes of tensors as constants of the language; a value has both."""
    from triton.language import core

    original = core.block_type.__init__
    types: dict[Any, dict[str, Any]] = {}
    shapes: dict[Any, tuple[Any, Any]] = {}

    def block_type(self: Any, element_ty: Any, shape: Any) -> None:
        if type(element_ty) is not core.dtype:  # a pointer, of which every launch has its own
            original(self, element_ty, shape)
            return
        key = (element_ty.name, *(getattr(size, "value", size) for size in shape))
        if key not in types:
            original(self, element_ty, shape)
            types[key] = self.__dict__
        self.__dict__ = types[key]

    def tensor(self: Any, handle: Any, type: Any) -> None:
        shape = type.shape if type.is_block() else ()
        if shape not in shapes:
            numel = core.constexpr(math.prod(shape))
            shapes[shape] = numel, core.tuple([core.constexpr(size) for size in shape])
        self.handle, self.type, self.dtype = handle, type, type.scalar
        self.numel, self.shape = shapes[shape]

    core.block_type.__init__ = block_type
    core.tensor.__init__ = tensor


def check_bounds() -> None:
    """Let a kernel fail that reads or writes an address outside of its tensors, from the first element of a view to
    the last. The interpreter takes any address, and a GPU most."""
    from triton.runtime import interpreter

    executor, builder = interpreter.GridExecutor, interpreter.InterpreterBuilder
    prepare = executor._init_args_hst
    kernel, spans = "", np.empty((0, 2), np.uint64)

    def launched(self: Any, *arguments: Any) -> Any:
        nonlocal kernel, spans
        positional, named = prepare(self, *arguments)
        kernel = self.fn.__name__
        spans = np.array([_span(t) for t in _tensors((*positional, *named.values()))], np.uint64).reshape(
            -1, 2
        )
        return positional, named

    def check(what: str, pointers: Any, mask: Any) -> None:
        used = pointers.data[np.broadcast_to(mask.data.astype(bool), pointers.data.shape)]
        if used.size == 0:
            return
        first, end = spans[:, :1], spans[:, 1:]
        ends = np.array([used.min(), used.max()])
        if ((first <= ends) & (ends < end)).all(1).any():  # of one tensor, as nearly always
            return
        outside = ~((first <= used.reshape(1, -1)) & (used.reshape(1, -1) < end)).any(0)
        if outside.any():
            raise IndexError(f"{kernel} {what} {outside.sum()} addresses outside of its tensors")

    def wrapped(name: str, what: str, places: tuple[int, int]) -> None:
        original = getattr(builder, name)

        def checked(self: Any, *operands: Any, **options: Any) -> Any:
            check(what, *(operands[i] for i in places))
            return original(self, *operands, **options)

        setattr(builder, name, checked)

    executor._init_args_hst = launched
    wrapped("create_masked_load", "reads", (0, 1))
    wrapped("create_masked_store", "writes", (0, 2))
    wrapped("create_atomic_rmw", "writes", (1, 3))


def _tensors(arguments: Any) -> Iterator[Tensor]:
    for argument in arguments:
        if isinstance(argument, tuple):
            yield from _tensors(argument)
        elif isinstance(argument, Tensor):
            yield argument


def _span(t: Tensor) -> tuple[int, int]:
    """The addresses of the elements of a tensor, whose strides are not negative."""
    last = sum((size - 1) * stride for size, stride in zip(t.shape, t.stride(), strict=True))
    return t.data_ptr(), t.data_ptr() + (last + 1) * t.element_size() * (t.numel() > 0)
