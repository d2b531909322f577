"""What a user has made of torch-geometric-pool's poolers keeps its say with the patch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool.integrations.tgp import patch, unpatch
from tests.support.tgp import import_tgp
from tests.support.tgp_poolers import (
    MODES,
    POOLERS,
    F,
    K,
    assert_same,
    both,
    call,
    calls,
    make_batch,
    make_pooler,
    poolers,
    results,
    unpatched,
)

__all__ = ["calls", "unpatched"]  # fixtures

select = import_tgp("tgp.select")
connect = import_tgp("tgp.connect")
reduce = import_tgp("tgp.reduce")


def own_loss(base: type) -> type:
    class Own(base):  # type: ignore[misc, valid-type]
        def compute_loss(self, *args: Any, **options: Any) -> Any:
            return {"mine": super().compute_loss(*args, **options)["link_loss"] * 2}

        def compute_sparse_loss(self, *args: Any, **options: Any) -> Any:
            return {"mine": super().compute_sparse_loss(*args, **options)["link_loss"] * 2}

    return Own


def own_reduce(base: type) -> type:
    class Own(base):  # type: ignore[misc, valid-type]
        def reduce(self, **options: Any) -> Any:
            x, batch = super().reduce(**options)
            return 2 * x, batch

    return Own


def own_connect(base: type) -> type:
    class Own(base):  # type: ignore[misc, valid-type]
        def connect(self, **options: Any) -> Any:
            adj, weight = super().connect(**options)
            return 2 * adj, weight

    return Own


class DoubleReduce(reduce.BaseReduce):  # type: ignore[misc]
    def forward(self, *args: Any, **options: Any) -> Any:
        x, batch = super().forward(*args, **options)
        return 2 * x, batch


class DoubleConnect(connect.DenseConnect):  # type: ignore[misc]
    def forward(self, *args: Any, **options: Any) -> Any:
        adj, weight = super().forward(*args, **options)
        return 2 * adj, weight


def double_hook(module: Any, args: Any, output: Any) -> Any:
    return 2 * output[0], output[1]


def change(pooler: Any, what: str) -> None:
    """What a user can do to a pooler that exists."""
    if what == "reducer":
        pooler.reducer = DoubleReduce()
    elif what == "connector":
        pooler.connector = DoubleConnect()
    elif what == "reducer hook":
        pooler.reducer.register_forward_hook(double_hook)
    elif what == "connector hook":
        pooler.connector.register_forward_hook(double_hook)
    elif what == "cached":
        pooler.cached = True
    elif what == "instance":
        own = pooler.connect
        pooler.connect = lambda **options: (2 * own(**options)[0], None)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "what", ["reducer", "connector", "reducer hook", "connector hook", "cached", "instance"]
)
def test_what_would_be_skipped_is_left_to_their_code(what: str, mode: str, calls: list[str]) -> None:
    pooler, b = make_pooler("DiffPool", mode), make_batch()
    plain = results(*call(pooler, b, mode))
    change(pooler, what)

    def run() -> dict[str, Any]:
        pooler.clear_cache()
        return results(*call(pooler, b, mode))

    ours, theirs = both(run)
    assert not calls
    assert_same(ours, theirs, 0)
    changed = [key for key in ("x", "edge_index") if not torch.equal(ours[key], plain[key])]
    assert len(changed) == (what != "cached")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("make", [own_loss, own_reduce, own_connect])
def test_subclasses_with_methods_that_would_be_skipped(make: Any, mode: str, calls: list[str]) -> None:
    pooler, b = make_pooler("DiffPool", mode), make_batch()
    pooler.__class__ = make(poolers.DiffPool)
    assert_same(*both(lambda: results(*call(pooler, b, mode))), 0)
    assert not calls


def test_the_loss_of_the_other_mode_does_not_matter(calls: list[str]) -> None:
    class Own(poolers.DiffPool):  # type: ignore[misc]
        def compute_sparse_loss(self, *args: Any) -> Any:
            raise AssertionError

    pooler, b = make_pooler("DiffPool", "sparse"), make_batch()
    pooler.__class__ = Own
    assert_same(*both(lambda: results(*call(pooler, b, "sparse"))), 1e-7)
    assert calls == ["softmax"]


class Sharper(select.MLPSelect):  # type: ignore[misc]
    def forward(self, x: Tensor, mask: Any = None, batch: Any = None, **options: Any) -> Any:
        so = super().forward(x=3 * x, mask=mask, batch=batch, **options)
        so.sharp = True
        return so


class OwnSelect(poolers.DiffPool):  # type: ignore[misc]
    def select(self, **options: Any) -> Any:
        so = super().select(**options)
        so.sharp = True
        return so


@pytest.mark.parametrize("sparse_output", [False, True])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", ["selector", "select", "hook", "super"])
def test_any_selector_with_a_dense_assignment(
    how: str, mode: str, sparse_output: bool, calls: list[str]
) -> None:
    pooler, b = make_pooler("DiffPool", mode, sparse_output=sparse_output), make_batch()
    if how == "selector":
        own = Sharper([F, 6], K, batched_representation=mode != "unbatched", act="relu").double()
        own.load_state_dict(pooler.selector.state_dict())
        pooler.selector = own
    elif how == "select":
        pooler.__class__ = OwnSelect
    elif how == "hook":
        pooler.selector.register_forward_hook(lambda module, args, so: setattr(so, "sharp", True))
    else:

        class Super(poolers.DiffPool):  # type: ignore[misc]
            def forward(self, *args: Any, **options: Any) -> Any:
                out = super().forward(*args, **options)
                out.so.sharp = True
                return out

        pooler.__class__ = Super

    def run() -> dict[str, Any]:
        out, leaves = call(pooler, b, mode)
        assert out.so.sharp
        return results(out, leaves)

    assert_same(*both(run), 1e-7)
    assert calls == ["softmax" if how == "super" else "given"]


def test_an_assignment_that_is_not_dense_is_refused_by_their_code(calls: list[str]) -> None:
    class Own(poolers.JustBalancePooling):  # type: ignore[misc]
        def select(self, **options: Any) -> Any:
            return select.SelectOutput(cluster_index=torch.zeros(19, dtype=torch.long))

    pooler, b = make_pooler("JustBalancePooling", "unbatched"), make_batch()
    pooler.__class__ = Own
    for _ in range(2):
        with pytest.raises((RuntimeError, ValueError, NotImplementedError)) as raised:
            call(pooler, b, "unbatched")
        patch()
    assert any("tgp" in str(entry.path) for entry in raised.traceback)
    assert not calls


@pytest.mark.parametrize("name", POOLERS)
def test_errors_of_inputs_are_theirs(name: str, calls: list[str]) -> None:
    b = make_batch()
    for mode, adj in (("sparse", None), ("unbatched", b.adj), ("unbatched", None)):
        pooler = make_pooler(name, mode)
        messages = []
        for _ in range(2):
            with pytest.raises(Exception) as raised:  # noqa: PT011
                pooler(b.x, adj, batch=b.batch)
            messages.append((raised.type, str(raised.value)))
            patch()
        unpatch()
        assert messages[0] == messages[1]
    assert not calls


def test_a_loss_that_is_nan_is_refused() -> None:
    pooler = make_pooler("JustBalancePooling", "sparse")
    b = make_batch()
    with patch(), pytest.raises(ValueError, match="Loss is NaN"):
        pooler(b.x * torch.nan, b.edge_index, b.edge_weight, batch=b.batch)
