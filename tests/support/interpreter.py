"""Triton's interpreter, made faster: of a small kernel's time it spends most on what gives nothing to the result."""

from __future__ import annotations

import math
from typing import Any


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
