"""How many bytes the load instructions of a compiled kernel take from each tensor, from its PTX."""

from __future__ import annotations

import re

# The matrices whose loads count, and the arguments that may say how many columns they have.
MATRICES = {
    "a": (), "s": ("K",), "logits": ("K",), "x": ("F", "K"), "y": ("C",), "left": ("K",), "right": ("K",),
    "m": ("K",), "mt": ("K",), "ds": ("K",), "t": ("K",),
}  # fmt: skip

_PARAMETER = re.compile(r"\.param\s+\.[bu]\d+(\s+\.ptr\s+\.global)?[^,()]*?\w+_param_(\d+)")
_READ = re.compile(r"ld\.param\.[bu]64\s+(%rd\d+),\s*\[\w+_param_(\d+)\];")
_LOAD = re.compile(r"ld\.global[\w.:]*?(?:\.v(\d))?\.[busf](\d+)\s+[^\[]*\[\s*(%rd\d+)[^\]]*\]")
_COPY = re.compile(r"cp\.async\.c[ag][\w.:]*\s+\[[^\]]*\],\s*\[\s*(%rd\d+)[^\]]*\],\s*(0x[0-9a-f]+|\d+)")
_MOVE = re.compile(r"(?:add|sub|mad|mov|selp|cvta|max|min)[\w.]*\s+(%rd\d+),\s*([^;]+);")
_POINTER = re.compile(r"%rd\d+")


def read_loads(ptx: str) -> dict[int, int]:
    """The bytes of the narrowest load of each pointer among the parameters of a kernel, by its position.

    Addresses are followed from parameters through additions, moves and selections of 64-bit registers, in any order, as
    loops assign a register at their end that they read at their start.
    """
    sources: dict[str, set[str]] = {}
    positions: dict[str, set[int]] = {}
    loads: list[tuple[str, int]] = []
    for line in ptx.splitlines():
        if found := _READ.search(line):
            positions.setdefault(found[1], set()).add(int(found[2]))
        elif found := _LOAD.search(line):
            loads.append((found[3], int(found[1] or 1) * int(found[2]) // 8))
        elif found := _COPY.search(line):
            loads.append((found[1], int(found[2], 0)))
        elif found := _MOVE.search(line):
            sources.setdefault(found[1], set()).update(_POINTER.findall(found[2]))
    pointers = {int(position) for is_pointer, position in _PARAMETER.findall(ptx) if is_pointer}
    narrowest: dict[int, int] = {}
    for register, width in loads:
        for position in _reached(register, sources, positions) & pointers:
            narrowest[position] = min(width, narrowest.get(position, width))
    return narrowest


def _reached(register: str, sources: dict[str, set[str]], positions: dict[str, set[int]]) -> set[int]:
    """The parameters that a register comes from."""
    seen, waiting, found = {register}, [register], set()
    while waiting:
        name = waiting.pop()
        found |= positions.get(name, set())
        waiting += sources.get(name, set()) - seen
        seen |= sources.get(name, set())
    return found
