"""Importing hierpool does nothing beyond importing torch: looked at in fresh processes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROBE = """
import json, os, sys, threading
import torch
environment, threads, modules = dict(os.environ), threading.active_count(), set(sys.modules)
import hierpool
from hierpool.backends.native import _library
print(json.dumps({
    "environment_kept": dict(os.environ) == environment,
    "threads_started": threading.active_count() - threads,
    "modules": sorted(set(sys.modules) - modules),
    "cuda_initialised": torch.cuda.is_initialized(),
    "native_tried": _library._LIBRARY._tried,
    "libraries": sorted(torch.ops.loaded_libraries),
}))
"""
OPTIONAL = {"triton", "torch_geometric", "matplotlib", "tqdm", "grakel", "scipy", "sklearn", "pandas"}

ROOT = Path(__file__).parent.parent


def run_python(code: str) -> Any:
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(answer.stdout)


@pytest.fixture(scope="module")
def probed() -> dict[str, Any]:
    return run_python(PROBE)


def test_import_has_no_side_effects(probed: dict[str, Any]) -> None:
    assert probed["environment_kept"]
    assert probed["threads_started"] == 0
    assert not probed["cuda_initialised"]


def test_import_does_not_load_the_native_library(probed: dict[str, Any]) -> None:
    assert not probed["native_tried"]
    assert not [library for library in probed["libraries"] if "hierpool" in library]


def test_import_pulls_in_no_optional_package(probed: dict[str, Any]) -> None:
    imported = {name.split(".")[0] for name in probed["modules"]}
    assert "hierpool" in imported
    assert not imported & OPTIONAL


@pytest.mark.parametrize(
    "module",
    ["hierpool.nn", "hierpool.models", "hierpool.losses", "hierpool.integrations.tgp", "hierpool.cli.main"],
)
def test_public_modules_need_torch_only(module: str) -> None:
    code = f"import json, sys, torch; before = set(sys.modules); import {module}; "
    code += "print(json.dumps([name.split('.')[0] for name in set(sys.modules) - before]))"
    imported = set(run_python(code))
    assert "hierpool" in imported
    assert not imported & OPTIONAL


def test_command_line_loads_a_command_only_when_asked_for() -> None:
    code = (
        "import json, sys, hierpool.cli.main; print(json.dumps([m for m in sys.modules if 'hierpool' in m]))"
    )
    modules = run_python(code)
    assert "hierpool.cli.main" in modules
    for command in ("info", "train", "cluster", "demo"):
        assert (ROOT / "python" / "hierpool" / "cli" / f"{command}.py").is_file()
        assert f"hierpool.cli.{command}" not in modules
