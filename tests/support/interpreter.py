"""Triton's interpreter, made faster: it spends most of the time of a small kernel on preparing itself again."""

from __future__ import annotations

from typing import Any


def prepare_once() -> None:
    """Let functions that a kernel calls find ``triton.language`` as the kernel has prepared it.

    The interpreter replaces the functions of that module when a kernel starts, and once more at every call of a
    function in it, though all of them use the one module. Those of Triton's own library use another, which is prepared
    by their first call and stays so.
    """
    from triton.runtime import interpreter

    prepared = set()

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        module = self.fn.__module__
        if module.startswith("triton.") and module not in prepared:
            interpreter._patch_lang(self.fn)
            prepared.add(module)
        return self.rewrite()(*args, **kwargs)

    interpreter.InterpretedFunction.__call__ = call
