"""How many bytes the load instructions of a compiled kernel take from each matrix, from its PTX."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import triton

if TYPE_CHECKING:
    from hierpool_kernels.aot.compiler import Variant

VECTOR = 16  # bytes of the widest load

# The matrices whose loads count, and the arguments that may say how many columns they have.
MATRICES = {
    "a": (), "turned": (), "s": ("K",), "logits": ("K",), "x": ("F", "K"), "y": ("C",), "left": ("K",), "right": ("K",),
    "m": ("K",), "mt": ("K",), "ds": ("K",), "t": ("K",),
}  # fmt: skip
_STRIDES = {"logits": "l_", "mt": "m_"}  # where the names of strides do not start with that of the matrix

_POINTER = re.compile(r"\.param\s+\.[bu]64\s+\.ptr\s+\.global[^,()]*?\w+_param_(\d+)")
_READ = re.compile(r"ld\.param\.[bu]64\s+(%\w+),\s*\[\w+_param_(\d+)\];")
_LOAD = re.compile(r"ld\.global[\w.:]*?(?:\.v(\d))?\.[busf](\d+)\s+[^\[]*\[\s*(%\w+)[^\]]*\]")
_COPY = re.compile(r"cp\.async\.c[ag][\w.:]*\s+\[[^\]]*\],\s*\[\s*(%\w+)[^\]]*\],\s*(0x[0-9a-f]+|\d+)")
_OTHER = re.compile(r"(?:@!?%\w+\s+)?([a-z]\w*)[\w.:]*\s+(\{[^}]*\}|\[[^\]]*\]|[^,;]*),\s*([^;]*);")
_REGISTER = re.compile(r"%r\w*")


def read_loads(ptx: str) -> dict[int, int]:
    """The bytes of the narrowest load of each pointer among the parameters of a kernel, by its position.

    Addresses are followed from parameters through registers, in any order, as loops assign registers at their end that
    they read at their start; and through shared memory, from stores to the loads that are next in the text, as a change
    of layout needs. What was loaded from global memory is no address.
    """
    reached: dict[str, int] = {}  # registers, and shared memory: the parameters that they come from, as bits
    moves: list[tuple[list[str], list[str]]] = []
    changes, read = 0, False  # of layout through shared memory
    loads: list[tuple[str, int]] = []
    pointers = {int(position) for position in _POINTER.findall(ptx)}
    for line in ptx.splitlines():
        if found := _READ.search(line):
            if int(found[2]) in pointers:
                reached[found[1]] = reached.get(found[1], 0) | 1 << int(found[2])
        elif found := _LOAD.search(line):
            loads.append((found[3], int(found[1] or 1) * int(found[2]) // 8))
        elif found := _COPY.search(line):
            loads.append((found[1], int(found[2], 0)))
        elif found := _OTHER.search(line):
            operation, first, others = found.groups()
            to, origins = _REGISTER.findall(first), _REGISTER.findall(others)
            if operation in ("st", "stmatrix"):
                changes, read = changes + read, False
                to = [f"shared {changes}"]
            elif operation in ("ld", "ldmatrix"):
                origins, read = [f"shared {changes}"], True
            moves.append((to, origins))
    _follow(moves, reached)
    narrowest: dict[int, int] = {}
    for register, width in loads:
        if not reached.get(register):
            raise ValueError(f"a load from [{register}] is from no parameter of the kernel")
        for position in pointers:
            if reached[register] >> position & 1:
                narrowest[position] = min(width, narrowest.get(position, width))
    return narrowest


def _follow(moves: list[tuple[list[str], list[str]]], reached: dict[str, int]) -> None:
    """Complete ``reached`` with what moves give to registers."""
    changed = True
    while changed:
        changed = False
        for to, origins in moves:
            bits = 0
            for name in origins:
                bits |= reached.get(name, 0)
            for name in to:
                if bits & ~reached.get(name, 0):
                    reached[name] = reached.get(name, 0) | bits
                    changed = True


def aligned(variant: Variant, matrix: str) -> bool:
    """True if rows of 16-bit or 32-bit floats start at multiples of 16 elements, for all that the compiler knows.

    Strides of graphs and of edge types count rows, or vectors of A, or are multiples of the strides of rows.
    """
    kinds, constants, divisible = dict(variant.types), dict(variant.constants), set(variant.divisible)
    if kinds.get(f"{matrix}_ptr") not in ("*bf16", "*fp16", "*fp32") or f"{matrix}_ptr" not in divisible:
        return False
    prefix = _STRIDES.get(matrix, f"{matrix}_")
    strides = {name for name in kinds if name.startswith(prefix) and name.endswith(("_row", "_col"))}
    if matrix == "a":
        inner = {name for name in ("a_row", "a_col") if constants.get(name) == 1}
        return constants.get("VECTOR") == 16 and bool(inner) and strides <= divisible
    if matrix == "turned":  # there is one only where N is a multiple of 16
        return True
    width = next((name for name in MATRICES[matrix] if name in kinds or name in constants), None)
    return width in divisible and strides <= divisible


class Accepted(NamedTuple):
    """A narrow load that is known.

    Attributes:
        kernels, matrices: their short names.
        applies: True for the variants in which the load is accepted.
        reason: why the load is narrow.
    """

    kernels: tuple[str, ...]
    matrices: tuple[str, ...]
    applies: Callable[[Variant], bool]
    reason: str


def narrow(variant: Variant, loads: tuple[tuple[str, int], ...]) -> list[tuple[str, int, str]]:
    """The aligned matrices that are not loaded in vectors of 16 bytes: name, bytes, and why this is accepted, or ""."""
    kernel = variant.kernel.removeprefix("_").removesuffix("_kernel")
    return [
        (
            matrix,
            width,
            next((one.reason for one in ACCEPTED if _is_accepted(one, kernel, matrix, variant)), ""),
        )
        for matrix, width in loads
        if width < VECTOR and aligned(variant, matrix)
    ]


def _is_accepted(one: Accepted, kernel: str, matrix: str, variant: Variant) -> bool:
    return kernel in one.kernels and matrix in one.matrices and one.applies(variant)


def _has(argument: str) -> Callable[[Variant], bool]:
    return lambda variant: argument in dict(variant.types)


def _both(*conditions: Callable[[Variant], bool]) -> Callable[[Variant], bool]:
    return lambda variant: all(condition(variant) for condition in conditions)


def _in_triton_3_6(variant: Variant) -> bool:
    return triton.__version__.startswith("3.6.")


ACCEPTED = (
    Accepted(
        ("soft_pool_rows_fwd",), ("s",), _both(_in_triton_3_6, _has("rowptr"), _has("clusters_ptr")),
        "Triton 3.6 does not see that the columns of a graph end with a vector, where A is sparse",
    ),
)  # fmt: skip
