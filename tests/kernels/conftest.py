"""The kernels themselves. What runs them belongs to the interpreter's run, what compiles them to the other one."""

from tests.support.running import INTERPRETED, one_thread

__all__ = ["one_thread"]

collect_ignore = (
    ["test_aot.py"]
    if INTERPRETED
    else ["test_slots.py", "test_variants.py", "test_long_rows.py", "test_poolers.py"]
)
