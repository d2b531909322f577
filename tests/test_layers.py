"""The direction of imports and includes, and the trees drawn in the documentation."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "python" / "hierpool"
CSRC = ROOT / "csrc"

# What each part of the package may import of the package, besides itself. The longest matching name counts.
BASE = {"hierpool._version", "hierpool._extras", "hierpool._tracing", "hierpool.record"}
BACKENDS = BASE | {"hierpool.backends", "hierpool.graph"}
OPS = BACKENDS | {"hierpool.ops", "hierpool.losses", "hierpool.reference"}
FINISH = OPS | {"hierpool.connect", "hierpool.finish"}
NN = FINISH | {"hierpool.nn"}
TRAINING = NN | {"hierpool", "hierpool.models", "hierpool.data", "hierpool.integrations"}
ALLOWED = {
    "hierpool": NN | {"hierpool.integrations", "hierpool.functional", "hierpool.coarsen"},
    "hierpool._version": set(),
    "hierpool._extras": set(),
    "hierpool._tracing": set(),
    "hierpool.record": set(),
    "hierpool.reference": set(),
    "hierpool._native": {"hierpool._C"},
    "hierpool._triton": set(),
    "hierpool.backends": {"hierpool._native", "hierpool._triton"},
    "hierpool.graph": BASE | {"hierpool.backends"},
    "hierpool.ops": BACKENDS | {"hierpool.reference", "hierpool._native"},
    "hierpool.losses": BASE,
    "hierpool.connect": BASE,
    "hierpool.coarsen": BASE | {"hierpool.graph"},
    "hierpool.finish": OPS | {"hierpool.connect"},
    "hierpool.functional": FINISH,
    "hierpool.metrics": BASE | {"hierpool.graph"},
    "hierpool.integrations": NN,
    "hierpool.nn": FINISH,
    "hierpool.models": NN,
    "hierpool.data": BASE | {"hierpool.graph"},
    "hierpool.training": TRAINING,
    "hierpool.train": TRAINING | {"hierpool.training", "hierpool.plots"},
    "hierpool.clustering": TRAINING | {"hierpool.training", "hierpool.metrics", "hierpool.plots"},
    "hierpool.cluster": TRAINING
    | {"hierpool.training", "hierpool.train", "hierpool.clustering", "hierpool.metrics"},
    "hierpool.plots": TRAINING | {"hierpool.training"},
    "hierpool.demo": TRAINING | {"hierpool.training", "hierpool.train", "hierpool.plots"},
    "hierpool.info": BACKENDS | {"hierpool._native", "hierpool._triton"},
    "hierpool.cli": BASE,
    "hierpool.__main__": {"hierpool.cli"},
}


def belongs(module: str, part: str) -> bool:
    return module == part or (part != "hierpool" and module.startswith(part + "."))


def part_of(module: str) -> str:
    parts = [part for part in ALLOWED if belongs(module, part)]
    assert parts, f"{module} has no place in the layers; give it one in {Path(__file__).name}"
    return max(parts, key=len)


def module_name(path: Path) -> str:
    names = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


def imports(path: Path, module: str, known: set[str]) -> Iterator[str]:
    """Modules of the package that a file imports, at any depth of its code."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports in this package are absolute"
            source = node.module or ""
            targets = [f"{source}.{alias.name}" for alias in node.names]
            targets = [target if target in known else source for target in targets]
        else:
            continue
        yield from (target for target in targets if target.split(".")[0] == "hierpool" and target != module)


PYTHON_FILES = sorted(PACKAGE.rglob("*.py"))
KNOWN = {module_name(path) for path in PYTHON_FILES} | {"hierpool._C"}


@pytest.mark.parametrize("path", PYTHON_FILES, ids=module_name)
def test_imports_point_down(path: Path) -> None:
    module = module_name(path)
    part = part_of(module)
    for target in imports(path, module, KNOWN):
        assert belongs(target, part) or any(belongs(target, allowed) for allowed in ALLOWED[part]), (
            f"{module} imports {target}, which is not below it"
        )


KERNEL_FILES = sorted((ROOT / "hierpool_kernels").rglob("*.py"))


@pytest.mark.parametrize("path", KERNEL_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_kernels_know_nothing_of_the_package(path: Path) -> None:
    assert not list(imports(path, "", KNOWN))


def test_only_fillers_know_the_kernels() -> None:
    for path in PYTHON_FILES:
        if "hierpool_kernels." in path.read_text(encoding="utf-8"):
            assert path.parent == PACKAGE / "ops" / "triton", path


def test_the_layers_have_no_cycle() -> None:
    """The table itself: whatever a part may reach must not reach it."""

    def reach(part: str, seen: frozenset[str] = frozenset()) -> set[str]:
        below = {target for target in ALLOWED.get(part, set()) if target not in seen}
        return below | set().union(*(reach(target, seen | below) for target in below))

    for part in ALLOWED:
        assert part not in reach(part)


def includes(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(encoding="utf-8"), re.MULTILINE)


CXX_FILES = sorted(path for path in CSRC.rglob("*") if path.suffix in {".h", ".cpp"})
CXX_ALLOWED = {"include": {"include"}, "cpu": {"include", "cpu"}}
CXX_ALLOWED |= {"torch": {"include", "cpu", "torch"}, "python": {"include", "cpu", "python"}}
X86_HEADER = re.compile(r"(?:^|/)(?:\w*intrin|cpuid)\.h$")


@pytest.mark.parametrize("path", CXX_FILES, ids=lambda path: str(path.relative_to(CSRC)))
def test_includes_point_down(path: Path) -> None:
    layer = path.relative_to(CSRC).parts[0]
    for include in includes(path):
        if (CSRC / include).is_file():
            target = include.split("/")[0]
        elif (CSRC / "include" / include).is_file():
            target = "include"
        elif include.startswith(("torch/", "ATen/", "c10/")):
            target = "torch"
            assert not include.startswith(("ATen/", "c10/", "torch/extension", "torch/library")), (
                f"{include} is outside torch's stable interface"
            )
        elif include.startswith(("pybind11/", "Python")):
            target = "python"
        else:
            continue
        assert target in CXX_ALLOWED[layer], f"{path.relative_to(ROOT)} includes {include}"


@pytest.mark.parametrize("path", CXX_FILES, ids=lambda path: str(path.relative_to(CSRC)))
def test_x86_headers_stay_in_the_avx_files(path: Path) -> None:
    x86 = [include for include in includes(path) if X86_HEADER.search(include)]
    assert not x86 or re.search(r"_avx(2|512)\.(h|cpp)$", path.name), f"{path.name} includes {x86}"


def expand(name: str) -> list[str]:
    """a{b,c}.d -> [ab.d, ac.d]"""
    parts = re.split(r"\{([^}]*)\}", name)
    choices = [part.split(",") if index % 2 else [part] for index, part in enumerate(parts)]
    return ["".join(pick) for pick in itertools.product(*choices)]


def drawn_files(text: str) -> set[str]:
    """Files of the first fenced block of a document: indented names, folders end with a slash."""
    block = re.search(r"```\n(.*?)```", text, re.DOTALL)
    assert block is not None
    files: set[str] = set()
    folders: list[str] = []
    for line in block.group(1).splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name = line.split()[0]
        folders[depth:] = [name] if name.endswith("/") else []
        if not name.endswith("/"):
            files |= {"".join(folders) + expanded for expanded in expand(name)}
    return files


def test_the_drawn_tree_of_csrc_matches_the_disk() -> None:
    on_disk = {str(path.relative_to(ROOT)) for path in CXX_FILES}
    drawn = drawn_files((CSRC / "README.md").read_text(encoding="utf-8"))
    assert drawn == on_disk


def test_the_drawn_tree_of_the_kernels_matches_the_disk() -> None:
    on_disk = {str(path.relative_to(ROOT)) for path in KERNEL_FILES} - {"hierpool_kernels/__init__.py"}
    drawn = drawn_files((ROOT / "hierpool_kernels" / "README.md").read_text(encoding="utf-8"))
    assert drawn == on_disk


def test_every_source_is_built() -> None:
    cmake = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    for path in CXX_FILES:
        if path.suffix == ".cpp":
            stem = re.sub(r"_(scalar|avx2|avx512)$", "", path.stem)
            assert re.search(rf"\b{stem}\b", cmake), f"{path.relative_to(ROOT)} is not in CMakeLists.txt"
