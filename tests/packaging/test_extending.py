"""A pooler and an operator are added as the documentation says: one file in each layer, and the tests of all others."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.wheels import ROOT, build_wheel, compiler_in, copy_sources

NN = "python/hierpool/nn"
FILE = re.compile(r"^(?:#|//) (\S+)\n")


def files_of(page: str) -> dict[str, str]:
    """The files that the code blocks of a page are, by their paths."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:python|cpp)\n(.*?)```", text, re.DOTALL)
    named = [(match.group(1), block[match.end() :]) for block in blocks if (match := FILE.match(block))]
    assert named
    return dict(named)


def poolers_of(page: str) -> dict[str, str]:
    """The files of the two poolers on a page, and their exports."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    soft, hard = (re.split(r"\n\n\n(?=\w+ = )", found)[0] for found in blocks if "class " in found)
    return {
        f"{NN}/map_equation.py": soft.replace(
            "from hierpool.nn import", "from hierpool.nn.soft_pooling import"
        ),
        f"{NN}/alike.py": hard.replace("from hierpool.nn import", "from hierpool.nn.hard_pooling import"),
        f"{NN}/__init__.py": (
            "from hierpool.nn.alike import AlikePool  # noqa: E402, F401\n"
            "from hierpool.nn.map_equation import MapEquationPool  # noqa: E402, F401\n"
        ),
    }


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources and tests with the operator and the pooler of the documentation."""
    folder = copy_sources(tmp_path_factory.mktemp("tree"), "tests")
    for path, text in (files_of("add-an-operator.md") | poolers_of("add-a-pooler.md")).items():
        there = folder / path
        before = there.read_text(encoding="utf-8") + "\n\n" if there.exists() else ""
        there.write_text(before + text, encoding="utf-8")
    return folder


def run(tree: Path, *arguments: str, path: Path, **variables: str) -> str:
    """Pytest in the tree; what it printed."""
    environment = os.environ | {"PYTHONPATH": f"{path}{os.pathsep}{tree}", "OMP_NUM_THREADS": "1"} | variables
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    answer = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def passed(output: str) -> int:
    return int(re.search(r"(\d+) passed", output).group(1))  # type: ignore[union-attr]


@pytest.mark.slow
def test_an_operator_of_one_file_in_each_layer(tree: Path) -> None:
    """With its C++ kernels, of which the new files are compiled."""
    variables = {"HIERPOOL_PYMODULE": "0", "HIERPOOL_REQUIRE_NATIVE": "1", "CXX": compiler_in(tree)}
    wheel = build_wheel(tree, **variables)
    site = tree / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    output = run(tree, "tests/ops/test_contract.py", "-k", "scaled_product", path=site)
    assert passed(output) > 20


@pytest.mark.slow
def test_an_operator_on_triton_kernels(tree: Path) -> None:
    pytest.importorskip("triton")
    arguments = ("tests/ops/test_contract.py", "-k", "scaled_product")
    output = run(tree, *arguments, path=tree / "python", TRITON_INTERPRET="1")
    assert passed(output) > 10


@pytest.mark.parametrize(
    ("tests", "name"), [("tests/nn/test_poolers.py", "map"), ("tests/nn/test_hard_poolers.py", "alike")]
)
def test_a_pooler_of_one_file(tests: str, name: str, tree: Path) -> None:
    output = run(tree, tests, "-k", name, path=tree / "python")
    assert passed(output) > 3
