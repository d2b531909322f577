"""Stacks of GraphSAGE layers: every option against the composite's values and gradients of both orders."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool import RaggedGraph
from hierpool.contract import Csr, Dense
from hierpool.ops.sage_stack import OPERATOR, Call, Layer, Normalisation, Options, sage_stack

f64 = torch.float64
NODES, FEATURES = 6, 3
HOLES = torch.tensor([[1, 0, 1, 1, 0, 1], [1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]], dtype=torch.bool)


def drawn(*size: int) -> Tensor:
    return torch.randn(*size, dtype=f64)


def make(
    *,
    widths: tuple[int, ...] = (4, 4, 2),
    dense: str | None = None,
    masked: bool = True,
    weighted: bool = True,
    norm: bool = True,
    **options: Any,
) -> Call:
    """A call whose floating tensors need gradients; ``dense``: one matrix for ``"each"`` graph, or for ``"all"``."""
    torch.manual_seed(0)
    chosen: dict[str, Any] = {"root": True, "bias": True, "mean": True, "aggregate_first": False}
    chosen |= {"normalize": True, "training": True, "momentum": 0.3, "eps": 1e-3, "backend": "auto"}
    chosen |= options
    tensors: list[Tensor] = []
    for i, (fan_in, fan_out) in enumerate(zip((FEATURES, *widths), widths, strict=False)):
        tensors += [drawn(fan_out, fan_in) for _ in range(1 + chosen["root"])]
        tensors += [drawn(fan_out) for _ in range(chosen["bias"] + 2 * (norm and i + 1 < len(widths)))]
    for t in tensors:
        t.requires_grad_()
    running = torch.rand(len(widths) - 1, 2, widths[0], dtype=f64) if norm and len(widths) > 1 else None
    if dense:
        x = drawn(3, NODES, FEATURES)
        # Degrees below and above 1.
        value = torch.rand(3 if dense == "each" else 1, NODES, NODES, dtype=f64) * torch.rand(NODES, 1) / 2
        adj: Dense | Csr = Dense(value.requires_grad_())
    else:
        x = drawn(9, FEATURES)
        ends = torch.randint(9, (2, 25))
        graph = RaggedGraph.from_edge_index(ends, 9, edge_weight=torch.rand(25, dtype=f64))
        graph = graph if weighted else graph.with_value(None)
        value = graph.value if graph.value is None else graph.value.detach().requires_grad_()
        adj = Csr(value, graph.rowptr, graph.col, *graph.transposed())
    mask = HOLES if dense and masked else None
    return Call(x.requires_grad_(), adj, mask, running, tuple(tensors), Options(**chosen))


def leaves_of(call: Call) -> list[Tensor]:
    return [t for t in (call.x, call.adj.value, *call.layers) if t is not None]


def variants() -> Iterator[dict[str, Any]]:
    yield from ({"dense": one, "masked": masked} for one, masked in product(("each", "all"), (True, False)))
    for dense in (None, "each"):
        yield from (
            {"dense": dense, name: False} for name in ("mean", "root", "bias", "normalize", "training")
        )
        yield from ({"dense": dense, "aggregate_first": True, "root": root} for root in (True, False))
        yield {"dense": dense, "norm": False}
        yield {"dense": dense, "widths": (2,)}
        yield {"dense": dense, "widths": (2,), "aggregate_first": True, "normalize": False, "bias": False}
    yield {"weighted": False}


@pytest.mark.parametrize("variant", list(variants()), ids=str)
def test_values_and_gradients(variant: dict[str, Any]) -> None:
    call = make(**variant)
    leaves, trains = leaves_of(call), call.running is not None and call.options.training
    got = OPERATOR(call, ("y", "updated") if trains else ("y",))
    expected = OPERATOR.composite(call)
    torch.testing.assert_close(got[0], expected.y)
    if trains:
        torch.testing.assert_close(got[1], expected.updated)
    upstream = torch.randn_like(got[0])
    grads = [torch.autograd.grad(y, leaves, upstream, create_graph=True) for y in (got[0], expected.y)]
    torch.testing.assert_close(*grads)
    second = [
        torch.autograd.grad(
            sum(g.sin().sum() for g in found), leaves, allow_unused=True, materialize_grads=True
        )
        for found in grads
    ]
    torch.testing.assert_close(*second)


def test_skips_gradients_that_nobody_needs() -> None:
    for chosen in range(len(leaves_of(make()))):
        for options in ({}, {"aggregate_first": True}, {"dense": "each"}):
            results = []
            for run in (OPERATOR, OPERATOR.composite):
                call = make(**options)
                leaves = leaves_of(call)
                for i, leaf in enumerate(leaves):
                    leaf.requires_grad_(i == chosen)
                results.append(torch.autograd.grad(run(call)[0].sin().sum(), leaves[chosen]))
            torch.testing.assert_close(*results)


def test_rows_of_no_length_and_nodes_without_neighbours() -> None:
    """A row of zeros stays one, and has the gradient that torch gives it."""
    x = torch.tensor([[0.0, 0.0], [3.0, -4.0]], dtype=f64)
    layer = Layer(torch.eye(2, dtype=f64), torch.eye(2, dtype=f64), None, None, None)
    graph = RaggedGraph.from_edge_index(torch.zeros(2, 0, dtype=torch.int64), 2)
    leaf = x.clone().requires_grad_()
    y, _ = sage_stack(leaf, graph, None, [layer], mean=True, normalize=True)
    torch.testing.assert_close(y, torch.tensor([[0, 0], [0.6, -0.8]], dtype=f64))
    upstream = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=f64)
    (got,) = torch.autograd.grad(y, leaf, upstream)
    (expected,) = torch.autograd.grad(torch.nn.functional.normalize(leaf, eps=1e-12), leaf, upstream)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("nodes", [0, 1])
def test_running_statistics_of_a_node_and_of_none(nodes: int) -> None:
    """No rows change nothing; the variance of one counts as 0."""
    layers = [
        Layer(torch.eye(2), None, None, torch.ones(2), torch.zeros(2)),
        Layer(torch.eye(2), *[None] * 4),
    ]
    mask = torch.tensor([[nodes == 1, False]])
    norm = Normalisation(torch.full((1, 2, 2), 0.5), True, 0.1, 1e-5)
    x = torch.tensor([[[3.0, 5.0], [7.0, 9.0]]])
    y, updated = sage_stack(x, torch.eye(2)[None], mask, layers, mean=True, normalize=False, norm=norm)
    expected = [[0.45 + 0.3, 0.45 + 0.5], [0.45, 0.45]] if nodes else [[0.5, 0.5], [0.5, 0.5]]
    torch.testing.assert_close(updated, torch.tensor([expected]))
    assert y.eq(0).all()


def test_transforms_and_autocast_take_the_composite() -> None:
    call = make(dense="each")
    leaves = leaves_of(call)

    def total(x: Tensor) -> Tensor:
        return OPERATOR(call._replace(x=x))[0].sum()

    torch.testing.assert_close(torch.func.grad(total)(call.x), torch.autograd.grad(total(call.x), leaves)[0])
    single = make(dense="each")
    tensors = tuple(t.detach().float() for t in single.layers)
    assert single.running is not None
    single = Call(
        single.x.detach().float(), Dense(single.adj.value.detach().float()), single.mask,  # type: ignore[union-attr]
        single.running.float(), tensors, single.options,
    )  # fmt: skip
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got, expected = OPERATOR(single)[0], OPERATOR.composite(single).y
    assert torch.equal(got, expected)
    assert not torch.equal(got, OPERATOR(single)[0])
