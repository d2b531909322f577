"""What a compiled specialisation takes, without a device: from a stand-in for the driver, and the tools of triton."""

from __future__ import annotations

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

from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from hierpool_kernels.launch import Call
from hierpool_kernels.target import KNOWN

TENSOR_CORE = re.compile(r"(?:H|HG|I|IG|D|Q|QG)MMA|UTC\w*MMA|mfma")
LOCAL_MEMORY = ("LDL", "STL")
OPTIONS = ("num_warps", "num_stages")


class _StandIn:
    """As much of a driver as a compilation asks of it."""

    def __init__(self, target: str, purpose: str) -> None:
        self._name = f"{target}, {purpose}"
        self._target = gpu(target)

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> str:
        """What a kernel keeps its specialisations by."""
        return self._name

    def get_current_stream(self, device: object) -> int:
        return 0


def gpu(target: str) -> GPUTarget:
    """Triton's name of one of :data:`~hierpool_kernels.target.KNOWN` architectures."""
    architecture = KNOWN[target]
    if architecture.family == "hip":
        return GPUTarget("hip", target, 64)
    return GPUTarget("cuda", architecture.version, 32)


@contextmanager
def _standing_in(target: str, purpose: str) -> Iterator[None]:
    before = driver._active  # to ask for `active` would make a driver, which needs a device
    driver.set_active(_StandIn(target, purpose))
    try:
        yield
    finally:
        driver._active = before


@dataclass(frozen=True)
class Variant:
    """A specialisation of a kernel: what Triton keeps apart.

    Attributes:
        kernel: its name.
        types: of each argument, as Triton writes them; None and 1 are constants.
        constants: of the others.
        divisible: arguments that are multiples of 16.
        options: numbers of warps and of stages, where the launch says them.
        target: architecture.
        call: a launch of it.
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
        """What is the same on architectures that are given the same specialisation."""
        return self.kernel, self.types, self.constants, self.divisible, self.options


def variant(call: Call, target: str) -> Variant:
    """The specialisation that a launch would be given; nothing is compiled."""
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
        tuple((name.removeprefix("num_"), call.options[name]) for name in OPTIONS if name in call.options),
        target,
        call,
    )


def _plain(value: Any) -> Any:
    """A constant as JSON has it."""
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _compile(call: Call) -> Any:
    return call.kernel.warmup(*call.arguments, grid=call.grid, **call.options)


@dataclass(frozen=True)
class Report:
    """What a compiled variant takes.

    Attributes:
        error: why it could not be compiled, or "".
        registers: of a thread; of gfx942, vector registers.
        spill_bytes: of a thread, in its stack frame or elsewhere in local memory.
        local_instructions: loads and stores of local memory.
        shared_bytes: of a program.
        tensor_core: instructions of tensor cores.
        needs_tensor_core: there is a product of tiles which these can take.
    """

    error: str = ""
    registers: int = 0
    spill_bytes: int = 0
    local_instructions: int = 0
    shared_bytes: int = 0
    tensor_core: tuple[tuple[str, int], ...] = ()
    needs_tensor_core: bool = False


def report(found: Variant) -> Report:
    """Compile a variant, or take it from Triton's cache, and read what it takes."""
    with _standing_in(found.target, "compiled"):
        compiled = _compile(found.call)
    needs = needs_tensor_core(compiled.asm["ttir"])
    shared = compiled.metadata.shared
    if KNOWN[found.target].family == "hip":
        registers, spilled, counts = read_amdgcn(compiled.asm["amdgcn"])
    else:
        registers, spilled, counts = _read_cubin(compiled.asm["cubin"], needs)
    local = sum(counts.pop(name, 0) for name in LOCAL_MEMORY)
    return Report("", registers, spilled, local, shared, tuple(sorted(counts.items())), needs)


def _read_cubin(cubin: bytes, needs: bool) -> tuple[int, int, Counter[str]]:
    """Disassembled, which takes a third of a second, only where instructions matter."""
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
    """Registers, and bytes of local memory, of a thread, as ``cuobjdump --dump-resource-usage`` prints them."""
    (line,) = re.findall(r"\bREG:.*", text)
    number = {name: int(value) for name, value in re.findall(r"([A-Z]+):(\d+)", line)}
    return number["REG"], number["STACK"] + number["LOCAL"]


def read_sass(text: str) -> Counter[str]:
    """Instructions of tensor cores and of local memory, as ``nvdisasm -c`` prints them."""
    operations = re.findall(r"^\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z]\w*)", text, re.MULTILINE)
    return Counter(name for name in operations if name in LOCAL_MEMORY or TENSOR_CORE.fullmatch(name))


def read_amdgcn(text: str) -> tuple[int, int, Counter[str]]:
    """The same of assembly for gfx942: of vector registers, of scratch memory, and of both kinds of instructions."""
    number = {name: int(value) for name, value in re.findall(r"^\s*\.(\w+):\s+(\d+)\s*$", text, re.MULTILINE)}
    operations = re.findall(r"^\s+([a-z]\w+)", text, re.MULTILINE)
    kinds = (("v_mfma", "mfma"), ("scratch_load", "LDL"), ("scratch_store", "STL"))
    counts = Counter(kind for name in operations for start, kind in kinds if name.startswith(start))
    return number["vgpr_count"], number["private_segment_fixed_size"], counts


_DOT = re.compile(r"^.*= tt\.dot .*$", re.MULTILINE)


def needs_tensor_core(ttir: str) -> bool:
    """Whether a product of tiles is of 16-bit floats or in TF32; those of float32 as IEEE have it are sums of FMA."""
    return any(
        re.search(r"inputPrecision = tf32|: tensor<\w+x(?:bf16|f16)>", dot) for dot in _DOT.findall(ttir)
    )


@cache
def tool_version(target: str) -> str:
    """Of the assembler that Triton takes for an architecture."""
    if KNOWN[target].family == "hip":
        return "LLVM of triton"
    newer = getattr(knobs.nvidia, "ptxas_blackwell", knobs.nvidia.ptxas)
    return str((newer if KNOWN[target].version >= 100 else knobs.nvidia.ptxas).version)
