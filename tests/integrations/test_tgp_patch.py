"""Putting the patch in force and taking it back, and what is left to torch-geometric-pool's own code."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool.integrations.tgp import patch, unpatch
from tests.support.tgp import import_tgp
from tests.support.tgp_poolers import (
    MODES,
    POOLERS,
    call,
    calls,
    import_module,
    make_batch,
    make_pooler,
    poolers,
    unpatched,
)

__all__ = ["calls", "unpatched"]  # fixtures

ROOT = Path(__file__).parents[2]


def forwards() -> list[Any]:
    owner = import_tgp("tgp.src").DenseSRCPooling
    return [*(getattr(poolers, name).forward for name in POOLERS), owner.clear_cache]


def test_statement_and_its_reverse() -> None:
    before = forwards()
    patch()
    during = forwards()
    assert all(a is not b for a, b in zip(before, during, strict=True))
    patch()
    assert forwards() == during
    unpatch()
    assert forwards() == before
    unpatch()
    assert forwards() == before


def test_signatures_and_names_are_kept() -> None:
    for name in POOLERS:
        forward = getattr(poolers, name).forward
        with patch():
            ours = getattr(poolers, name).forward
            assert inspect.signature(ours) == inspect.signature(forward)
            assert ours.__qualname__ == forward.__qualname__
            given = list(inspect.signature(ours, follow_wrapped=False).parameters)
        assert given == list(inspect.signature(forward).parameters)


def test_context_managers_restore_what_they_found() -> None:
    before = forwards()
    with patch():
        during = forwards()
        with patch():
            assert forwards() == during
        assert forwards() == during
        with pytest.raises(ZeroDivisionError), patch():
            raise ZeroDivisionError
        assert forwards() == during
    assert forwards() == before
    with pytest.raises(ZeroDivisionError), patch():
        raise ZeroDivisionError
    assert forwards() == before
    patch()
    with patch():
        pass
    assert forwards() != before
    unpatch()
    again = patch()
    for _ in range(2):
        with again:
            assert forwards() != before
        assert forwards() == before
    with patch():
        unpatch()
        assert forwards() == before
    assert forwards() == before


def test_a_patch_that_fails_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module()
    complete = module.replacements

    def broken() -> list[Any]:
        return [*complete(), (poolers.DiffPool, "no such method", None)]

    before = forwards()
    monkeypatch.setattr(module, "replacements", broken)
    with pytest.raises(KeyError):
        patch()
    assert forwards() == before
    monkeypatch.setattr(module, "replacements", complete)
    with patch():
        assert forwards() != before


def test_without_torch_geometric_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tgp", None)
    with pytest.raises(
        ImportError, match=r"torch-geometric-pool is needed.*pip install torch-geometric-pool"
    ):
        patch()
    unpatch()


def test_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_tgp("tgp"), "__version__", "1.1.0")
    with pytest.raises(ImportError, match=r"must have version 1\.0.*got 1\.1\.0"):
        patch()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", POOLERS)
def test_one_call_pools(name: str, mode: str, calls: list[str]) -> None:
    pooler, b = make_pooler(name, mode), make_batch()
    call(pooler, b, mode)
    assert not calls
    with patch():
        call(pooler, b, mode)
    assert calls == ["softmax"]


# ------------------------------------------------------------------------------------------------------------- caches


def test_cached_preprocessing() -> None:
    b = make_batch(sizes=(9,))
    others = b.edge_index[:, :3], b.edge_weight[:3]
    pooler = make_pooler("DiffPool", "sparse", cache_preprocessing=True)

    def adj(*edges: Tensor) -> Tensor:
        return pooler(b.x, *edges, batch=b.batch).edge_index.detach()

    edges = b.edge_index, b.edge_weight
    with patch():
        first = adj(*edges)
        assert torch.equal(adj(*others), first)  # from the cache
        assert pooler.preprocessing_cache is None
        pooler.clear_cache()
        second = adj(*others)
        assert not torch.allclose(second, first)
    torch.testing.assert_close(adj(*edges), first)  # theirs, which makes a dense matrix and keeps it
    with patch():
        torch.testing.assert_close(adj(*others), first)  # from that
        pooler.clear_cache()
        torch.testing.assert_close(adj(*others), second)


def test_several_graphs_are_not_cached() -> None:
    b = make_batch()
    pooler = make_pooler("DiffPool", "sparse", cache_preprocessing=True)
    with patch():
        first = pooler(b.x, b.edge_index, b.edge_weight, batch=b.batch).edge_index
        second = pooler(b.x, b.edge_index[:, :9], b.edge_weight[:9], batch=b.batch).edge_index
    assert not torch.allclose(first, second)


# ------------------------------------------------------------------------------------------------- memory and compile

MEMORY = """
import resource
import sys
import torch
from tests.support.tgp import import_tgp
poolers = import_tgp("tgp.poolers")
from hierpool.integrations.tgp import patch
torch.set_num_threads(1)
nodes = 20_000
x = torch.randn(nodes, 16)
edges = torch.randint(nodes, (2, 60_000))
patch()
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
def step(pooler, x, edges):
    out = pooler(x, edges)
    (out.x.sum() + out.edge_index.sum() + sum(out.loss.values())).backward()
for name in sys.argv[1:]:
    pooler = getattr(poolers, name)(16, 10)
    step(pooler, x[:50], edges[:, :1] * 0)
    before = peak()
    step(pooler, x, edges)
    print(name, peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
def test_a_sparse_input_stays_sparse() -> None:
    command = [sys.executable, "-c", MEMORY, *POOLERS]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    matrix = 4 * 20_000**2
    growth = dict(line.split() for line in answer.stdout.splitlines())
    assert growth.keys() == set(POOLERS)
    assert all(int(size) < matrix / 16 for size in growth.values()), growth


@pytest.mark.parametrize("name", ["DiffPool", "MinCutPooling", "DMoNPooling", "HOSCPooling"])
def test_dense_batches_compile_without_a_break(name: str) -> None:
    b = make_batch(torch.float32)
    pooler = make_pooler(name, "dense", torch.float32)

    def run(x: Tensor, adj: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        out = pooler(x, adj, mask=b.mask)
        return out.x, out.edge_index, out.loss

    with patch():
        expected = run(b.dense_x, b.adj)
        got = torch.compile(run, fullgraph=True, backend="aot_eager")(b.dense_x, b.adj)
    torch.testing.assert_close(got, expected)
