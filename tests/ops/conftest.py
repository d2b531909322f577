"""Every backend, and every instruction set of the native one, in one run; Triton's interpreter in another."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from tests.support.running import BACKENDS, INTERPRETED, choose, one_thread

__all__ = ["backend", "native", "native_isa", "one_thread"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In the interpreter's run, leave out what is not about its backend, would take too long, or repeats itself."""
    if not INTERPRETED:
        return
    kept, left = [], []
    seen = set()
    for item in items:
        here = Path(__file__).parent in item.path.parents
        test = item.nodeid.split("[")[0]
        repeated = here and MACHINERY.search(test) is not None and test in seen
        if here and (repeated or not interpreted(item)):
            left.append(item)
        else:
            kept.append(item)
            seen.add(test)
    config.hook.pytest_deselected(items=left)
    items[:] = kept


# Tests of how PyTorch treats an operator, whose registration all backends share: one set of parameters is enough.
MACHINERY = re.compile("opcheck|gradcheck|compile|export|vmap|autocast|second_derivative")

# Of the cases in float16, those that are run in the interpreter: it is the path of bfloat16.
FLOAT16 = {"base", "holes", "given", "csr-base", "csr-directed-holes"}
# Of the cases of more than 300 nodes, those that are run.
LARGE = {"n513", "csr-n513-directed-sparse", "csr-n513-directed-sparse-unweighted"}


def interpreted(item: pytest.Item) -> bool:
    """Whether a test takes a backend, and small graphs; large ones, all of float32, are left to one test.

    float64 is for the checks of gradients alone: it is no type of the kernels on a device.
    """
    callspec = getattr(item, "callspec", None)
    parameters = {} if callspec is None else callspec.params
    if parameters.get("backend") != "triton":
        return False
    case = parameters.get("case")
    nodes = getattr(getattr(case, "case", case), "n", 0)
    dtype, dtypes = parameters.get("dtype"), parameters.get("dtypes", ())
    if item.name.startswith("test_grid["):
        return dtype is torch.float32 and (nodes <= 300 or case.name in LARGE)
    if dtype is torch.float16 and case is not None and case.name not in FLOAT16:
        return False
    graphs = getattr(getattr(case, "case", case), "b", 0)
    return nodes <= 100 and graphs <= 10 and dtype is not torch.float64 and torch.float64 not in dtypes


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every backend and instruction set in turn."""
    return choose(request.param, monkeypatch)


@pytest.fixture
def dynamo() -> Iterator[None]:
    """A compiler without memory of other tests, for which a recompilation is an error."""
    torch._dynamo.reset()
    counters.clear()
    with torch._dynamo.config.patch(error_on_recompile=True):
        yield
    torch._dynamo.reset()


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> str:
    """The native backend with the best instruction set of this machine."""
    return choose("native", monkeypatch)


@pytest.fixture(params=BACKENDS[1:])
def native_isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The native backend with one instruction set after the other."""
    return choose(request.param, monkeypatch)
