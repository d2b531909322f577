"""Tests of the kernels. Those that run kernels belong to the interpreter's run, all others to the ordinary one."""

from pathlib import Path

from tests.support.running import INTERPRETED, one_thread

__all__ = ["one_thread"]

ORDINARY = {
    "test_aot_compiler.py",
    "test_aot_loads.py",
    "test_aot_record.py",
    "test_launches.py",
    "test_plan.py",
    "test_recompilation.py",
    "test_tuned.py",
}
BOTH = {"test_tune.py"}
_names = {path.name for path in Path(__file__).parent.glob("test_*.py")}
collect_ignore = sorted(ORDINARY if INTERPRETED else _names - ORDINARY - BOTH)
