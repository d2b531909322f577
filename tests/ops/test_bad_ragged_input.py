"""Bad arguments beside a sparse graph: each an error that names the argument, what was given and what was expected."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool import RaggedGraph, diff_pool, soft_pool

N, K, F = 4, 3, 5
EDGES = torch.tensor([[0, 1, 2], [1, 2, 3]])


def pool(**changes: Any) -> Any:
    graph = RaggedGraph.from_edge_index(EDGES, N)
    return soft_pool(**({"x": torch.ones(N, F), "adj": graph, "s": torch.zeros(N, K)} | changes))


def function(**changes: Any) -> Any:
    return diff_pool(**({"x": torch.ones(N, F), "edge_index": EDGES, "s": torch.zeros(N, K)} | changes))


both = pytest.mark.parametrize("call", [pool, function], ids=["soft_pool", "diff_pool"])


def assert_raises(kind: type[Exception], fragments: tuple[str, ...], call: Callable, **changes: Any) -> None:
    with pytest.raises(kind) as caught:
        call(**changes)
    message = str(caught.value)
    for fragment in fragments:
        assert fragment in message, f"{fragment!r} is not in {message!r}"


SHAPES = [
    ("s", torch.zeros(N + 1, K), ("s must have shape [N, K] = [4, K] to match the graph", "(5, 3)")),
    ("s", torch.zeros(1, N, K), ("s must have shape [N, K] = [4, K] to match the graph", "(1, 4, 3)")),
    ("s", torch.zeros(N), ("s must have shape [N, K] = [4, K] to match the graph", "(4,)")),
    ("s", torch.zeros(N, 0), ("s must have at least one cluster", "(4, 0)")),
    ("x", torch.ones(1, N, F), ("x must have shape [N, F] = [4, F] to match the graph", "(1, 4, 5)")),
    ("x", torch.ones(N + 1, F), ("x must have shape [N, F] = [4, F] to match the graph", "(5, 5)")),
    ("x", torch.ones(N), ("x must have shape [N, F] = [4, F] to match the graph", "(4,)")),
]


@pytest.mark.parametrize(
    ("name", "value", "fragments"), SHAPES, ids=[f"{name}-{tuple(value.shape)}" for name, value, _ in SHAPES]
)
def test_shape(name: str, value: Tensor, fragments: tuple[str, ...]) -> None:
    assert_raises(ValueError, fragments, pool, **{name: value})


@both
@pytest.mark.parametrize(
    ("name", "dtype"),
    [("x", torch.int64), ("x", torch.bool), ("s", torch.int32), ("s", torch.complex64)],
    ids=str,
)
def test_dtype(name: str, dtype: torch.dtype, call: Callable) -> None:
    value = torch.ones(N, F if name == "x" else K).to(dtype)
    given = f"got {str(dtype).removeprefix('torch.')}"
    assert_raises(TypeError, (f"{name} must have dtype float32, float64", given), call, **{name: value})


@both
@pytest.mark.parametrize("name", ["x", "s"])
def test_not_a_tensor(name: str, call: Callable) -> None:
    assert_raises(TypeError, (f"{name} must be a torch.Tensor", "got list"), call, **{name: [[1.0]]})


@both
@pytest.mark.parametrize("name", ["x", "s"])
def test_sparse_layout(name: str, call: Callable) -> None:
    value = torch.ones(N, F if name == "x" else K).to_sparse()
    fragments = (f"{name} must be a dense (strided) tensor", "sparse_coo", f"{name}.to_dense()")
    assert_raises(TypeError, fragments, call, **{name: value})


def test_device_disagrees() -> None:
    graph = RaggedGraph.from_edge_index(EDGES, N)
    assert_raises(
        ValueError,
        ("x must be on the device of s", "cpu", "got meta"),
        pool,
        x=torch.ones(N, F, device="meta"),
    )
    meta = {"x": torch.ones(N, F, device="meta"), "s": torch.zeros(N, K, device="meta"), "adj": graph}
    assert_raises(ValueError, ("adj must be on the device of s", "meta", "got cpu"), pool, **meta)


KNOWN = [
    ("mask", torch.ones(1, N)),
    ("num_nodes", torch.tensor([N])),
    ("symmetric", True),
    ("symmetric", False),
]


@pytest.mark.parametrize(("name", "value"), KNOWN, ids=[name for name, _ in KNOWN])
def test_what_a_graph_knows_is_not_said_again(name: str, value: Any) -> None:
    fragments = (f"{name} must be None with a RaggedGraph", f"got {value!r:.20}")
    assert_raises(ValueError, fragments, pool, **{name: value})


CHOICES = [
    (pool, "assignment", "hard", "'softmax', 'given'"),
    (pool, "link_loss", "l1", "None, 'frobenius'"),
    (pool, "backend", "cuda", "'auto', 'native', 'triton', 'reference'"),
    (function, "link_loss", "l1", "'frobenius'"),
    (function, "backend", "cuda", "'auto', 'native', 'triton', 'reference'"),
    (function, "normalize", "mean", "'pyg', 'valid'"),
]


@pytest.mark.parametrize(
    ("call", "name", "value", "expected"),
    CHOICES,
    ids=[f"{call.__name__}-{name}" for call, name, *_ in CHOICES],
)
def test_unknown_choice(call: Callable, name: str, value: str, expected: str) -> None:
    assert_raises(ValueError, (f"{name} must be", expected, f"got {value!r}"), call, **{name: value})


@both
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")], ids=str)
@pytest.mark.parametrize("tensor", [True, False], ids=["tensor", "float"])
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_temperature(value: float, tensor: bool, backend: str, call: Callable) -> None:
    fragments = ("temperature must be positive and finite", f"got {value}")
    temperature = torch.tensor(value) if tensor else value
    assert_raises(ValueError, fragments, call, temperature=temperature, backend=backend)


def test_temperature_of_a_given_assignment() -> None:
    fragments = ("temperature has no meaning with assignment='given'",)
    assert_raises(ValueError, fragments, pool, temperature=0.5, assignment="given")


def test_flags() -> None:
    assert_raises(TypeError, ("entropy must be True or False", "got 1"), pool, entropy=1)
    assert_raises(TypeError, ("gram must be True, False or None", "got 1"), pool, gram=1)
    fragments = ("gram=False", "link_loss='frobenius'", "pass link_loss=None")
    assert_raises(ValueError, fragments, pool, gram=False)
    assert_raises(TypeError, ("symmetric must be True, False or None", "got 1"), function, symmetric=1)


def test_arguments_of_diff_pool_that_need_others() -> None:
    fragments = ("drop has a meaning with sparse_output=True only", "got drop=0.1")
    assert_raises(ValueError, fragments, function, drop=0.1)
    graph = RaggedGraph.from_edge_index(EDGES, N)
    alone = {
        "edge_weight": torch.ones(3),
        "batch": torch.zeros(N).long(),
        "ptr": torch.tensor([0, N]),
        "batch_size": 1,
        "symmetric": True,
    }
    for name, value in alone.items():
        fragments = (f"{name} must be None if edge_index is a RaggedGraph", "got")
        assert_raises(ValueError, fragments, function, edge_index=graph, **{name: value})
    matrix = torch.sparse_coo_tensor(EDGES, torch.ones(3), (N, N), check_invariants=True)
    for name in ("edge_weight", "batch", "batch_size"):
        fragments = (f"{name} must be None if edge_index is a sparse matrix",)
        assert_raises(ValueError, fragments, function, edge_index=matrix, **{name: alone[name]})


def test_edges_of_diff_pool() -> None:
    assert_raises(
        ValueError, ("edge_index must have shape [2, E]", "(3, 2)"), function, edge_index=EDGES.T.contiguous()
    )
    assert_raises(
        TypeError, ("edge_index must have dtype int64 or int32",), function, edge_index=EDGES.float()
    )
    assert_raises(
        ValueError, ("edge_weight must have shape [E] = [3]", "(2,)"), function, edge_weight=torch.ones(2)
    )
    assert_raises(
        ValueError, ("batch must have shape [num_nodes] = [4]",), function, batch=torch.zeros(3).long()
    )
    assert_raises(
        ValueError, ("edge_index[0][0] is 6, but there are 4 nodes",), function, edge_index=EDGES + 6
    )
    crossing = ("an edge joins node 1 of graph 0 to node 2 of graph 1",)
    assert_raises(ValueError, crossing, function, batch=torch.tensor([0, 0, 1, 1]))


def test_named_backend_that_cannot_run_says_why() -> None:
    meta = {"x": torch.ones(N, F, device="meta"), "s": torch.zeros(N, K, device="meta")}
    graph = RaggedGraph.from_edge_index(EDGES, N, symmetric=False).to("meta")
    reason = (
        "backend 'native' cannot run soft_pool_csr on meta: the C++ kernels run on CPU tensors, not on meta"
    )
    with pytest.raises(RuntimeError, match=re.escape(reason)):
        pool(adj=graph, backend="native", **meta)
