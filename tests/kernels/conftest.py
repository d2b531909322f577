"""Tests of the kernels. Those that run kernels belong to the interpreter's run, all others to the ordinary one."""

from pathlib import Path

import pytest

from tests.support.running import INTERPRETED, one_thread

__all__ = ["one_thread"]

ORDINARY = {
    "test_aot_compiler.py",
    "test_aot_loads.py",
    "test_aot_precision.py",
    "test_aot_record.py",
    "test_launches.py",
    "test_plan.py",
    "test_recompilation.py",
    "test_tuned.py",
}
INTERPRETER = {
    "test_asymmetric_norm.py",
    "test_bounds.py",
    "test_chunks.py",
    "test_clusters.py",
    "test_long_rows.py",
    "test_poolers.py",
    "test_tf32.py",
    "test_variants.py",
    "test_vectors.py",
}
BOTH = {"test_tune.py"}
_names = {path.name for path in Path(__file__).parent.glob("test_*.py")}
if _wrong := sorted(_names ^ (ORDINARY | INTERPRETER | BOTH)):
    raise pytest.UsageError(f"tests/kernels/conftest.py must say in which run they are: {', '.join(_wrong)}")
collect_ignore = sorted(ORDINARY if INTERPRETED else INTERPRETER)
