"""hierpool in PyTorch Geometric's place: every name of it, back again, and values that stay."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch

import hierpool
from hierpool.integrations.pyg import Patch, patch, unpatch
from tests.support.ragged import both_forms

pyg = pytest.importorskip("torch_geometric.nn", reason="torch_geometric (extra: pyg) is not installed")
NAMES = ("dense_diff_pool", "dense_mincut_pool", "DMoNPooling")
ALL = (*NAMES, "EdgePooling", "ClusterPooling", "graclus")
ORIGINALS = {name: getattr(pyg, name) for name in ALL}


@pytest.fixture(autouse=True)
def _unpatched() -> Iterator[None]:
    yield
    unpatch()
    assert all(getattr(pyg, name) is ORIGINALS[name] for name in ALL)


def is_ours(thing: Any) -> bool:
    return thing.__module__.startswith("hierpool.")


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that imported the functions by name before the call, one of them under another."""
    module: Any = ModuleType("a_program")
    module.dense_diff_pool = pyg.dense_diff_pool
    module.pool = pyg.dense_mincut_pool
    monkeypatch.setitem(sys.modules, "a_program", module)
    return module


def test_every_name_is_replaced_and_given_back(program: Any) -> None:
    import torch_geometric.nn.dense as dense

    patch()
    for module in (pyg, dense):
        assert all(is_ours(getattr(module, name)) for name in NAMES)
    assert is_ours(dense.mincut_pool.dense_mincut_pool)
    assert is_ours(pyg.EdgePooling)
    assert is_ours(pyg.pool.EdgePooling)
    assert is_ours(program.dense_diff_pool)
    assert is_ours(program.pool)
    assert issubclass(pyg.DMoNPooling, hierpool.DMoNPooling)
    unpatch()
    assert program.pool is ORIGINALS["dense_mincut_pool"]
    assert dense.DMoNPooling is ORIGINALS["DMoNPooling"]


def test_once_is_enough_and_contexts_nest() -> None:
    patch()
    with patch() as inner:
        assert isinstance(inner, Patch)
    assert is_ours(pyg.dense_diff_pool)
    unpatch()
    unpatch()
    with patch():
        with patch(pyg_compat=True):
            assert pyg.DMoNPooling(4, 2).pyg_compat
        assert not pyg.DMoNPooling(4, 2).pyg_compat
        assert is_ours(pyg.dense_diff_pool)
    assert pyg.dense_diff_pool is ORIGINALS["dense_diff_pool"]


def test_an_exception_takes_it_back() -> None:
    with pytest.raises(ZeroDivisionError), patch():
        raise ZeroDivisionError
    assert pyg.dense_diff_pool is ORIGINALS["dense_diff_pool"]


def test_a_program_gets_the_same_values() -> None:
    batch = both_forms((7, 5, 9), weighted=True)
    logits = torch.randn(3, 9, 4, dtype=torch.float64)

    def program() -> list[Any]:
        torch.manual_seed(0)
        layer = pyg.DMoNPooling(4, 3).double()
        args = (batch.x, batch.adj.clone(), logits, batch.mask)
        return [
            pyg.dense_diff_pool(*args),
            pyg.dense_mincut_pool(*args),
            layer(batch.x, batch.adj.clone(), batch.mask),
        ]

    expected = program()
    with patch(pyg_compat=True):
        torch.testing.assert_close(program(), expected)


def test_without_pyg_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_geometric.nn", None)
    with pytest.raises(ImportError, match=r"pip install 'hierpool\[pyg\]'"):
        patch()
    with pytest.raises(TypeError, match="pyg_compat must be True or False, got 1"):
        patch(pyg_compat=1)  # type: ignore[arg-type]
