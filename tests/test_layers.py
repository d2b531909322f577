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
LEAVES = {
    "hierpool._version",
    "hierpool._extras",
    "hierpool._hashes",
    "hierpool._tracing",
    "hierpool.connect",
    "hierpool.contract",
    "hierpool.record",
}
BACKENDS = LEAVES | {"hierpool.backends", "hierpool.reference"}
OPS = BACKENDS | {
    "hierpool.distributed",
    "hierpool.graph",
    "hierpool.losses",
    "hierpool.ops",
    "hierpool.selection",
}
FUNCTIONAL = OPS | {"hierpool.functional"}
NN = FUNCTIONAL | {"hierpool.nn"}
MODELS = NN | {"hierpool", "hierpool.models", "hierpool.data", "hierpool.integrations"}
TRAINING = MODELS | {"hierpool.training", "hierpool.clustering", "hierpool.experiments", "hierpool.metrics"}
ALLOWED = {
    "hierpool": NN,
    "hierpool._version": set(),
    "hierpool._extras": set(),
    "hierpool._hashes": set(),
    "hierpool._tracing": set(),
    "hierpool.connect": {"hierpool.contract"},
    "hierpool.contract": set(),
    "hierpool.record": set(),
    "hierpool.reference": {"hierpool.contract"},
    "hierpool.backends": LEAVES | {"hierpool.reference"},
    "hierpool.graph": BACKENDS,
    "hierpool.distributed": BACKENDS | {"hierpool.graph"},
    "hierpool.losses": LEAVES,
    "hierpool.selection": BACKENDS | {"hierpool.graph"},
    "hierpool.ops": BACKENDS | {"hierpool.distributed", "hierpool.graph", "hierpool.losses"},
    "hierpool.functional": OPS,
    "hierpool.nn": FUNCTIONAL,
    "hierpool.integrations": NN,
    "hierpool.models": NN,
    "hierpool.metrics": {"hierpool.distributed", "hierpool.graph"},
    "hierpool.data": LEAVES | {"hierpool.distributed", "hierpool.graph", "hierpool._C"},
    "hierpool.training": MODELS,
    "hierpool.clustering": MODELS | {"hierpool.training", "hierpool.metrics"},
    "hierpool.experiments": MODELS | {"hierpool.training"},
    "hierpool.cli": TRAINING | BACKENDS,
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


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes that are executed."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from walk(child)


def imports(path: Path, module: str, known: set[str]) -> Iterator[str]:
    """Modules of the package that a file imports, at any depth of its code, but those for type checkers alone."""
    for node in walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports in this package are absolute"
            source = node.module or ""
            targets = [f"{source}.{alias.name}" for alias in node.names]
            targets = [target if target in known else source for target in targets]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            constant = [one.value for one in node.args[:1] if isinstance(one, ast.Constant)]
            targets = constant if called == "import_module" else []
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


def test_only_the_triton_backend_knows_the_kernels() -> None:
    for path in PYTHON_FILES:
        if "hierpool_kernels." in path.read_text(encoding="utf-8"):
            assert path.parent == PACKAGE / "backends" / "triton", path


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
    if path.name == "isa.cpp":
        return  # asks the processor what it has
    x86 = [include for include in includes(path) if X86_HEADER.search(include)]
    assert not x86 or re.search(r"_(avx2|avx512|amx)\.(h|cpp)$", path.name), f"{path.name} includes {x86}"


def expand(name: str) -> list[str]:
    """a{b,c}.d -> [ab.d, ac.d]"""
    parts = re.split(r"\{([^}]*)\}", name)
    choices = [part.split(",") if index % 2 else [part] for index, part in enumerate(parts)]
    return ["".join(pick) for pick in itertools.product(*choices)]


OPERATORS = sorted(path.stem for path in (PACKAGE / "ops").glob("[a-z]*.py"))


def drawn_files(text: str, root: Path) -> set[str]:
    """Files of the first fenced block of a document: indented names, folders end with a slash.

    ``<operator>`` stands for every operator that has such a file.
    """
    block = re.search(r"```\n(.*?)```", text, re.DOTALL)
    assert block is not None
    files: set[str] = set()
    folders: list[str] = []
    for line in block.group(1).splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name = line.split()[0]
        folders[depth:] = [name] if name.endswith("/") else []
        if not name.endswith("/"):
            drawn = {"".join(folders) + expanded for expanded in expand(name)}
            several = {
                path.replace("<operator>", op) for path in drawn for op in OPERATORS if "<operator>" in path
            }
            files |= {path for path in drawn if "<operator>" not in path}
            files |= {path for path in several if (root / path).is_file()}
    return files


def test_the_drawn_tree_of_the_kernels_matches_the_disk() -> None:
    on_disk = {str(path.relative_to(ROOT)) for path in KERNEL_FILES} - {"hierpool_kernels/__init__.py"}
    drawn = drawn_files((ROOT / "hierpool_kernels" / "README.md").read_text(encoding="utf-8"), ROOT)
    assert drawn == on_disk
