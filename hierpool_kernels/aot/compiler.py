"""Compiles one variant of a kernel without a device, and reads what it needs with the tools of Triton."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import triton
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.language import constexpr
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from hierpool_kernels.aot.loads import MATRICES, read_loads
from hierpool_kernels.core.launch import Call
from hierpool_kernels.core.target import KNOWN

TENSOR_CORE = re.compile(r"(?:H|HG|I|IG|D|Q|QG)MMA|UTC\w*MMA|mfma")
LOCAL_MEMORY = ("LDL", "STL")


class _StandIn:
    """The part of a driver that a compilation needs."""

    def __init__(self, target: str, purpose: str) -> None:
        self._name = f"{target}, {purpose}"
        self._target = gpu(target)

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> str:
        """The key under which a kernel keeps its compiled variants."""
        return self._name

    def get_current_stream(self, device: object) -> int:
        return 0


def gpu(target: str) -> GPUTarget:
    """Triton's description of one of the :data:`~hierpool_kernels.core.target.KNOWN` architectures."""
    architecture = KNOWN[target]
    if architecture.family == "hip":
        return GPUTarget("hip", target, 64)
    return GPUTarget("cuda", architecture.version, 32)


@contextmanager
def _standing_in(target: str, purpose: str) -> Iterator[None]:
    before = driver._active  # reading `active` would create a driver, which needs a device
    driver.set_active(_StandIn(target, purpose))
    try:
        yield
    finally:
        driver._active = before


@dataclass(frozen=True)
class Variant:
    """A variant of a kernel: what Triton compiles separately.

    Attributes:
        kernel: name of the kernel.
        types: types of the arguments, as Triton writes them.
        constants: values of the constants; None and 1 are constants, too.
        divisible: arguments that are multiples of 16.
        options: options of the launch, such as the number of warps.
        target: name of the architecture.
        call: one launch of the variant.
    """

    kernel: str
    types: tuple[tuple[str, str], ...]
    constants: tuple[tuple[str, Any], ...]
    divisible: tuple[str, ...]
    options: tuple[tuple[str, int], ...]
    target: str
    call: Call

    @property
    def key(self) -> tuple[Any, ...]:
        """Identifies the variant on one architecture."""
        return self.kernel, self.types, self.constants, self.divisible, self.options

    @property
    def specialization(self) -> str:
        """A hash of :attr:`key`."""
        return _digest(self.key)

    @property
    def hash(self) -> str:
        """A hash of all that determines the compilation."""
        return _digest(
            (self.key, self.target, source(self.call.kernel), triton.__version__, tool_version(self.target))
        )


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


@cache
def source(kernel: JITFunction[Any]) -> tuple[str, ...]:
    """The source of a kernel, of the functions that it calls and of the constants that they use, without comments."""
    functions: set[JITFunction[Any]] = set()
    waiting = [kernel]
    found: set[tuple[str, str]] = set()
    while waiting:
        function = waiting.pop()
        if function in functions:
            continue
        functions.add(function)
        tree = ast.parse("".join(function.raw_src))
        (definition,) = tree.body
        assert isinstance(definition, ast.FunctionDef)
        if ast.get_docstring(definition) is not None:
            definition.body = definition.body[1:] or [ast.Pass()]
        found.add((definition.name, ast.unparse(tree)))
        for name in {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}:
            value = function.fn.__globals__.get(name)
            if isinstance(value, JITFunction):
                waiting.append(value)
            elif isinstance(value, constexpr):
                found.add((name, repr(value.value)))
    return tuple(f"{name}: {text}" for name, text in sorted(found))


def returns_none(kernel: JITFunction[Any]) -> list[str]:
    """The functions of a kernel that state ``return None``. Triton 3.6 cannot compile them; later versions can."""
    found = []
    for text in source(kernel):
        name, _, code = text.partition(": ")
        nodes = ast.walk(ast.parse(code)) if "return" in code else ()
        if any(isinstance(n, ast.Return) and n.value and ast.unparse(n.value) == "None" for n in nodes):
            found.append(name)
    return found


def has_products(kernel: JITFunction[Any]) -> bool:
    """True if the kernel multiplies tiles."""
    return any("tl.dot(" in text for text in source(kernel))


def variant(call: Call, target: str) -> Variant:
    """The variant that a launch needs; nothing is compiled."""
    seen: list[dict[str, Any]] = []

    def stop(**found: Any) -> bool:
        seen.append(found["compile"])
        return True

    with _standing_in(target, "looked at"), knobs.runtime.scope():
        knobs.runtime.jit_cache_hook = stop
        _compile(call)
    (found,) = seen
    names = list(found["signature"])
    constants = {names[path[0]]: value for path, value in found["constants"].items()}
    attributes = {names[path[0]]: value for path, value in found["configs"][0].items()}
    return Variant(
        call.name,
        tuple((name, kind) for name, kind in found["signature"].items() if kind != "constexpr"),
        tuple(sorted((name, _plain(value)) for name, value in constants.items())),
        tuple(name for name, value in attributes.items() if ["tt.divisibility", 16] in value),
        tuple(sorted((n.removeprefix("num_"), v) for n, v in call.options.items() if n not in names)),
        target,
        call,
    )


def _plain(value: Any) -> Any:
    """A constant as a value of JSON."""
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _compile(call: Call) -> Any:
    return call.kernel.warmup(*call.arguments, grid=call.grid, **call.options)


@dataclass(frozen=True)
class Report:
    """What a compiled variant needs.

    Attributes:
        error: why it does not compile, or "".
        registers: registers per thread; vector registers on gfx942.
        spill_bytes: bytes of local memory per thread.
        local_instructions: loads and stores of local memory.
        shared_bytes: shared memory of a program.
        tensor_core: the tensor-core instructions and their numbers.
        needs_tensor_core: True if there is a product of tiles that tensor cores can compute.
        loads: bytes that the narrowest load of each matrix takes, on CUDA architectures.
        pending: waits that let a product go on whose left factor is in registers, on Hopper.
        unasked: TF32 instructions of a kernel that asks for none.
    """

    error: str = ""
    registers: int = 0
    spill_bytes: int = 0
    local_instructions: int = 0
    shared_bytes: int = 0
    tensor_core: tuple[tuple[str, int], ...] = ()
    needs_tensor_core: bool = False
    loads: tuple[tuple[str, int], ...] = ()
    pending: int = 0
    unasked: int = 0


def report(found: Variant) -> Report:
    """Compile a variant and read what it needs."""
    with _standing_in(found.target, "compiled"):
        compiled = _compile(found.call)
    needs = needs_tensor_core(compiled.asm["ttir"])
    shared = compiled.metadata.shared
    loads: tuple[tuple[str, int], ...] = ()
    unasked = 0
    if KNOWN[found.target].family == "hip":
        registers, spilled, counts = read_amdgcn(compiled.asm["amdgcn"])
    else:
        registers, spilled, counts = _read_cubin(compiled.asm["cubin"], needs)
        loads = _loads(found, compiled.asm["ptx"])
        unasked = unasked_tf32(compiled.asm["ttir"], compiled.asm["ptx"])
    local = sum(counts.pop(name, 0) for name in LOCAL_MEMORY)
    pending = pending_products(compiled.asm["ttgir"])
    return Report(
        "", registers, spilled, local, shared, tuple(sorted(counts.items())), needs, loads, pending, unasked
    )


def _loads(found: Variant, ptx: str) -> tuple[tuple[str, int], ...]:
    """See :class:`Report`; the parameters of a kernel are its arguments that are not constants."""
    names = [name.removesuffix("_ptr") for name, _ in found.types]
    widths = {names[i]: width for i, width in read_loads(ptx).items() if i < len(names)}
    return tuple(sorted((name, width) for name, width in widths.items() if name in MATRICES))


def _read_cubin(cubin: bytes, needs: bool) -> tuple[int, int, Counter[str]]:
    """Disassembles, which takes a third of a second, only where the instructions matter."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        registers, spilled = read_resource_usage(
            _output(knobs.nvidia.cuobjdump.path, "--dump-resource-usage", str(file))
        )
        if not (needs or spilled):
            return registers, 0, Counter()
        return registers, spilled, read_sass(_output(knobs.nvidia.nvdisasm.path, "-c", "-ndf", str(file)))


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def read_resource_usage(text: str) -> tuple[int, int]:
    """Registers and bytes of local memory per thread, from ``cuobjdump --dump-resource-usage``."""
    (line,) = re.findall(r"\bREG:.*", text)
    number = {name: int(value) for name, value in re.findall(r"([A-Z]+):(\d+)", line)}
    return number["REG"], number["STACK"] + number["LOCAL"]


def read_sass(text: str) -> Counter[str]:
    """Numbers of tensor-core and local-memory instructions, from ``nvdisasm -c``."""
    operations = re.findall(r"^\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z]\w*)", text, re.MULTILINE)
    return Counter(name for name in operations if name in LOCAL_MEMORY or TENSOR_CORE.fullmatch(name))


def read_amdgcn(text: str) -> tuple[int, int, Counter[str]]:
    """Vector registers, bytes of scratch memory, and both kinds of instructions, from assembly for gfx942."""
    number = {name: int(value) for name, value in re.findall(r"^\s*\.(\w+):\s+(\d+)\s*$", text, re.MULTILINE)}
    operations = re.findall(r"^\s+([a-z]\w+)", text, re.MULTILINE)
    kinds = (("v_mfma", "mfma"), ("scratch_load", "LDL"), ("scratch_store", "STL"))
    counts = Counter(kind for name in operations for start, kind in kinds if name.startswith(start))
    return number["vgpr_count"], number["private_segment_fixed_size"], counts


_DOT = re.compile(r"^.*= tt\.dot .*$", re.MULTILINE)


def needs_tensor_core(ttir: str) -> bool:
    """True if a product of tiles is of 16-bit floats or in TF32; IEEE float32 products are FMA."""
    return any(
        re.search(r"inputPrecision = tf32|: tensor<\w+x(?:bf16|f16)>", dot) for dot in _DOT.findall(ttir)
    )


_TF32 = re.compile(r"kind::tf32|mma\.[\w.:]*\.tf32\.tf32")


def unasked_tf32(ttir: str, ptx: str) -> int:
    """The number of TF32 instructions, if no product asks for TF32.

    On sm_100, Triton takes a factor that depends on a number of 16 bits or less for one that is exact in TF32, even if
    only a mask does, and multiplies in TF32 although IEEE is asked for.
    """
    return 0 if "inputPrecision = tf32" in ttir else len(_TF32.findall(ptx))


_PRODUCT = re.compile(r"(%\w+)(?::\d+)? = ttng\.warp_group_dot [^\n]*? : tensor<")
_WAIT = re.compile(r"ttng\.warp_group_dot_wait ([^{]*)\{pendings = [1-9]")


def pending_products(ttgir: str) -> int:
    """The number of waits for the products of a warp group that let one go on whose left factor is a tensor.

    A tensor is in registers, and Triton 3.6 may change these before the product has read them.
    """
    products = set(_PRODUCT.findall(ttgir))
    return sum(bool(products & set(re.findall(r"%\w+", waits))) for waits in _WAIT.findall(ttgir))


@cache
def tool_version(target: str) -> str:
    """The version of the assembler that Triton uses for an architecture."""
    if KNOWN[target].family == "hip":
        return "LLVM of triton"
    newer = getattr(knobs.nvidia, "ptxas_blackwell", knobs.nvidia.ptxas)
    return str((newer if KNOWN[target].version >= 100 else knobs.nvidia.ptxas).version)
