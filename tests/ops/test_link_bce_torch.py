"""The cross-entropy link loss among PyTorch's own machinery, bad arguments, and memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode

import hierpool
from hierpool import RaggedGraph, link_bce, reference
from tests.support.cases import Case, over
from tests.support.link import LinkInputs, make
from tests.support.running import KINDS

SEED = 4
f64, f32, bf16 = torch.float64, torch.float32, torch.bfloat16
operator = torch.ops.hierpool.link_bce.default
operator_backward = torch.ops.hierpool.link_bce_backward.default
both = pytest.mark.parametrize("backend", KINDS, indirect=True)
SAMPLES = ("directed", "num_nodes", "holes", "given", "no-graphs", "no-nodes", "sliced")


def dense_arguments(inputs: LinkInputs) -> tuple[Any, ...]:
    return (*inputs[:2], None, None, None, inputs.mask, inputs.num_nodes, 1e-7, "valid", False)


def ragged_arguments(weighted: bool, requires_grad: bool) -> tuple[Any, ...]:
    inputs = make(Case("ragged", b=3, n=12, valid="num_nodes", directed=True), SEED, f32)
    s, graph = inputs.ragged()
    assert graph.value is not None
    value = graph.value.detach().requires_grad_(requires_grad) if weighted else None
    s = s.detach().requires_grad_(requires_grad)
    return s, value, graph.rowptr, graph.col, graph.ptr, None, None, 1e-7, "numel", False


@both
@pytest.mark.parametrize("grad", [True, False])
@over(SEED, *SAMPLES)
def test_opcheck_padded(case: Case, grad: bool, backend: str) -> None:
    inputs = make(case, SEED, f32)
    arguments = dense_arguments(inputs.leaves() if grad else inputs)
    torch.library.opcheck(operator, (*arguments, backend))
    for needs in ((True, True), (True, False), (False, True)):
        plain = (torch.tensor(0.3), *dense_arguments(inputs), *needs, backend)
        torch.library.opcheck(operator_backward, plain)


@both
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_opcheck_ragged(weighted: bool, grad: bool, backend: str) -> None:
    torch.library.opcheck(operator, (*ragged_arguments(weighted, grad), backend))
    plain = (torch.tensor(0.3), *ragged_arguments(weighted, False), True, weighted, backend)
    torch.library.opcheck(operator_backward, plain)


@over(SEED, "base", "directed", "holes", "n33-k31-f32")
def test_gradcheck(case: Case, backend: str) -> None:
    inputs = make(case, SEED).leaves()

    def function(s: Tensor, adj: Tensor) -> Tensor:
        return inputs._replace(s=s, adj=adj).loss(backend, eps=0.01)

    assert torch.autograd.gradcheck(function, (inputs.s, inputs.adj), fast_mode=True)


def test_gradcheck_ragged(backend: str) -> None:
    s, graph = make(Case("ragged", b=3, n=12, valid="num_nodes", directed=True), SEED).ragged()
    assert graph.value is not None

    def function(s: Tensor, value: Tensor) -> Tensor:
        return link_bce(s, graph.with_value(value, symmetric=False), eps=0.01, backend=backend)

    leaves = (s.requires_grad_(), graph.value.clone().requires_grad_())
    assert torch.autograd.gradcheck(function, leaves, fast_mode=True)


@pytest.fixture
def dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    with torch._dynamo.config.patch(error_on_recompile=True):
        yield
    torch._dynamo.reset()


@both
@pytest.mark.parametrize("valid", ["all", "holes", "num_nodes"])
@pytest.mark.usefixtures("dynamo")
def test_compile_is_one_graph_for_all_sizes(valid: str, backend: str) -> None:
    def step(s: Tensor, adj: Tensor, mask: Tensor | None, num_nodes: Tensor | None) -> Tensor:
        return link_bce(s.softmax(-1), adj, mask=mask, num_nodes=num_nodes, backend=backend).square()

    compiled = torch.compile(step, backend="aot_eager", fullgraph=True, dynamic=True)
    for b, n, k in ((2, 9, 4), (3, 12, 7), (2, 200, 3)):
        leaves = make(Case("drawn", b=b, n=n, k=k, valid=valid, directed=True), SEED, f32).leaves()
        got, expected = (torch.autograd.grad(f(*leaves), leaves[:2]) for f in (compiled, step))
        torch.testing.assert_close(got, expected)


@both
@pytest.mark.usefixtures("dynamo")
def test_compile_with_a_ragged_graph(backend: str) -> None:
    def step(logits: Tensor, edge_index: Tensor, weight: Tensor, batch: Tensor) -> Tensor:
        graph = RaggedGraph.from_edge_index(edge_index, edge_weight=weight, batch=batch, num_graphs=2)
        return link_bce(logits.softmax(-1), graph, backend=backend)

    draw = torch.Generator().manual_seed(SEED)
    edge_index = torch.randint(0, 9, (2, 20), generator=draw)
    edge_index[0] %= 4
    edge_index[1] %= 4
    weight = torch.rand(20, generator=draw).requires_grad_()
    batch = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1])
    logits = torch.randn(9, 3, generator=draw).requires_grad_()
    compiled = torch.compile(step, backend="aot_eager", fullgraph=True)
    arguments = (logits, edge_index, weight, batch)
    got, expected = (torch.autograd.grad(f(*arguments), (logits, weight)) for f in (compiled, step))
    torch.testing.assert_close(got, expected)


class Adjacencies(TorchDispatchMode):
    """Addresses and dtypes of every A that reaches the operator or its backward."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, torch.dtype]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        position = {operator: 1, operator_backward: 2}.get(func)
        if position is not None:
            self.seen.append((args[position].data_ptr(), args[position].dtype))
        return func(*args, **(kwargs or {}))


@both
@pytest.mark.parametrize("dtype", [f32, torch.bool, bf16], ids=str)
def test_autocast_does_not_copy_the_adjacency(dtype: torch.dtype, backend: str) -> None:
    inputs = make(Case("autocast", n=12, weights="ones"), SEED, f32, dtype)
    linear = torch.nn.Linear(4, 3)
    with Adjacencies() as recorder, torch.autocast("cpu", bf16):
        s = linear(inputs.s).softmax(-1)
        loss = link_bce(s, inputs.adj, backend=backend)
        loss.backward()
    assert recorder.seen == [(inputs.adj.data_ptr(), dtype)] * 2
    assert loss.dtype == f32
    assert linear.weight.grad is not None
    assert linear.weight.grad.isfinite().all()


def test_transforms_are_right() -> None:
    """They run on the reference, also where the native backend would have been taken."""
    inputs = make(Case("transforms", valid="holes", directed=True), SEED)
    direction = torch.randn(inputs.s.shape, generator=torch.Generator().manual_seed(SEED), dtype=f64)

    def loss(s: Tensor) -> Tensor:
        return inputs._replace(s=s).loss()

    leaf = inputs.s.clone().requires_grad_()
    (grad,) = torch.autograd.grad(loss(leaf), leaf)
    torch.testing.assert_close(torch.func.grad(loss)(inputs.s), grad)
    slope = (grad * direction).sum()
    torch.testing.assert_close(torch.func.jvp(loss, (inputs.s,), (direction,))[1], slope)
    with forward_ad.dual_level():
        dual = loss(forward_ad.make_dual(inputs.s, direction))
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, slope)
    several = torch.stack([inputs.s, 0.5 * inputs.s])
    torch.testing.assert_close(torch.func.vmap(loss)(several), torch.stack([loss(s) for s in several]))


def test_transforms_of_the_native_backend_are_refused(native: str) -> None:
    inputs = make(Case("base"), SEED)
    with pytest.raises(RuntimeError, match="backend 'native' cannot run link_bce under"):
        torch.func.grad(lambda s: inputs._replace(s=s).loss(native))(inputs.s)


@pytest.mark.parametrize("through", ["dispatcher", "eager"])
def test_second_derivative_is_an_error(through: str, backend: str) -> None:
    leaves = make(Case("base"), SEED).leaves()
    if through == "dispatcher":
        with Adjacencies():
            loss = leaves.loss(backend)
    else:
        loss = leaves.loss(backend)
    (grad,) = torch.autograd.grad(loss, leaves.s, create_graph=True)
    with pytest.raises(RuntimeError, match="link_bce has no second derivative"):
        torch.autograd.grad(grad.square().sum(), leaves.s)


def test_second_derivative_of_the_reference() -> None:
    inputs = make(Case("base", valid="holes"), SEED).leaves()
    assert torch.autograd.gradgradcheck(
        lambda s, adj: reference.link_bce(s, adj, inputs.mask, eps=0.01), inputs[:2], fast_mode=True
    )


B, N, K = 2, 4, 3
GOOD: dict[str, Any] = {"s": torch.full((B, N, K), 0.3), "adj": torch.ones(B, N, N)}
BAD = [
    ("s", torch.ones(N, K), ValueError, "s must have shape [B, N, K], got (4, 3)"),
    ("s", torch.ones(B, N, 0), ValueError, "s must have at least one cluster"),
    ("s", torch.ones(B, N, K, dtype=torch.int64), TypeError, "s must have dtype float32"),
    ("s", [1.0], TypeError, "s must be a torch.Tensor, got list"),
    ("adj", torch.ones(B, N, N + 1), ValueError, "adj must have shape [B, N, N] = [2, 4, 4] to match s"),
    ("adj", torch.ones(B, 1, N, N), ValueError, "adj must have shape [B, N, N] = [2, 4, 4] to match s"),
    ("adj", torch.ones(B, N, N, dtype=torch.int64), TypeError, "adj must have dtype float32"),
    ("adj", torch.ones(B, N, N).to_sparse(), TypeError, "adj must be a dense (strided) tensor"),
    ("adj", torch.ones(B, N, N, device="meta"), ValueError, "adj must be on the device of s, cpu, got meta"),
    ("mask", torch.ones(B, N + 1), ValueError, "mask must have shape [B, N] = [2, 4], got (2, 5)"),
    ("num_nodes", torch.tensor([5, 1]), ValueError, "num_nodes must lie between 0 and N = 4"),
    ("num_nodes", torch.ones(B), TypeError, "num_nodes must have dtype int64"),
    ("eps", 0.0, ValueError, "eps must be at least 1.2e-38, that of float32, and finite, got 0.0"),
    ("eps", float("nan"), ValueError, "eps must be at least 1.2e-38"),
    ("eps", float("inf"), ValueError, "eps must be at least 1.2e-38"),
    ("eps", 1, TypeError, "eps must be a float, got int"),
    ("normalize", "mean", ValueError, "normalize must be one of None, 'numel', 'valid', got 'mean'"),
    ("symmetric", 1, TypeError, "symmetric must be True, False or None, got 1"),
    (
        "backend",
        "gpu",
        ValueError,
        "backend must be one of 'auto', 'native', 'triton', 'reference', got 'gpu'",
    ),
]


@pytest.mark.parametrize(
    ("name", "value", "kind", "message"), BAD, ids=[f"{i}-{bad[0]}" for i, bad in enumerate(BAD)]
)
def test_bad_argument(name: str, value: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        link_bce(**(GOOD | {name: value}))
    assert message in str(caught.value)


RAGGED_BAD = [
    ("s", torch.ones(5, K), ValueError, "s must have shape [N, K] = [4, K] to match the graph, got (5, 3)"),
    ("s", torch.ones(1, 4, K), ValueError, "s must have shape [N, K] = [4, K] to match the graph"),
    ("s", torch.ones(4, 0), ValueError, "s must have at least one cluster"),
    ("s", torch.ones(4, K, device="meta"), ValueError, "adj must be on the device of s, meta, got cpu"),
    ("mask", torch.ones(1, 4), ValueError, "mask must be None with a RaggedGraph"),
    ("num_nodes", torch.tensor([4]), ValueError, "num_nodes must be None with a RaggedGraph"),
    ("symmetric", True, ValueError, "symmetric must be None with a RaggedGraph"),
]


@pytest.mark.parametrize(("name", "value", "kind", "message"), RAGGED_BAD, ids=str)
def test_bad_argument_beside_a_ragged_graph(
    name: str, value: Any, kind: type[Exception], message: str
) -> None:
    graph = RaggedGraph.from_edge_index(torch.tensor([[0, 1], [1, 2]]), num_nodes=4)
    good: dict[str, Any] = {"s": torch.ones(4, K), "adj": graph}
    with pytest.raises(kind) as caught:
        link_bce(**(good | {name: value}))
    assert message in str(caught.value)


def test_both_mask_and_num_nodes() -> None:
    with pytest.raises(ValueError, match="mask and num_nodes say the same thing twice"):
        link_bce(**GOOD, mask=torch.ones(B, N), num_nodes=torch.ones(B, dtype=torch.int64))


MEMORY = """
import resource, sys
import torch
import hierpool

N, K = 6000, 8
kind, padding, backend = sys.argv[1:]
torch.set_num_threads(2)

def step(adj, n, mask):
    s = torch.rand(*((n,) if kind == "csr" else (1, n)), K).softmax(-1).requires_grad_()
    hierpool.link_bce(s, adj, mask=mask, backend=backend).backward()

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def make(n):
    if kind == "csr":
        return hierpool.RaggedGraph.from_edge_index(torch.randint(0, n, (2, 8 * n)), num_nodes=n)
    adj = torch.empty(1, n, n, dtype=getattr(torch, kind))
    for row in adj[0]:
        row.random_(0, 2)
    return adj

step(make(40), 40, None)
adj = make(N)
mask = torch.arange(N)[None] % 50 != 7 if padding == "holes" else None
before = peak()
step(adj, N, mask)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
@pytest.mark.parametrize(
    ("kind", "padding"), [("float32", "all"), ("float32", "holes"), ("uint8", "all"), ("csr", "all")]
)
def test_no_temporary_of_n_by_n(kind: str, padding: str, native: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", MEMORY, kind, padding, native], capture_output=True, text=True, check=True
    )
    # A twentieth of N x N float32: 7 MB, of which the five matrices of N x K take 1 MB.
    assert int(result.stdout) < 6000 * 6000 * 4 // 20


def test_named_backend_that_cannot_run_says_why() -> None:
    meta = {name: value.to("meta") for name, value in GOOD.items()}
    with pytest.raises(RuntimeError, match="backend 'native' cannot run link_bce on meta"):
        hierpool.link_bce(**meta, backend="native")
    assert hierpool.link_bce(**meta).shape == ()
