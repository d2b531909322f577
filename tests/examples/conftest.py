from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.running import one_thread

__all__ = ["one_thread"]
FOLDER = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def load_example() -> Iterator[Callable[[str], ModuleType]]:
    """Imports a module of the folder of examples, which imports other modules of it by their names."""
    for package in ("torch_geometric", "tqdm", "matplotlib", "numpy"):
        pytest.importorskip(package, reason=f"{package} (extra: train) is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield __import__
    for path in FOLDER.glob("*.py"):
        sys.modules.pop(path.stem, None)
