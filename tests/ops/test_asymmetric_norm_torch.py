"""The asymmetric norm among PyTorch's own machinery, bad arguments, and memory."""

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
from hierpool import RaggedGraph, asymmetric_norm, reference
from tests.support.asymmetric import NormInputs, make
from tests.support.cases import Case, over
from tests.support.running import KINDS

SEED = 9
f64, f32, bf16 = torch.float64, torch.float32, torch.bfloat16
operator = torch.ops.hierpool.asymmetric_norm.default
operator_backward = torch.ops.hierpool.asymmetric_norm_backward.default
both = pytest.mark.parametrize("backend", KINDS, indirect=True)
SAMPLES = ("base", "num_nodes", "holes", "no-graphs", "no-nodes", "one-cluster", "sliced")


def arguments(inputs: NormInputs) -> tuple[Any, ...]:
    ptr = None if inputs.graph is None else inputs.graph.ptr
    return inputs.s, ptr, inputs.mask, inputs.num_nodes


@both
@pytest.mark.parametrize("ragged", [False, True])
@over(SEED, *SAMPLES)
def test_opcheck(case: Case, ragged: bool, backend: str) -> None:
    inputs = make(case, SEED, f32)
    if ragged and case.b:
        inputs = inputs.ragged()
    s, *structure = arguments(inputs)
    for leaf in (s, s.detach().requires_grad_()):
        torch.library.opcheck(operator, (leaf, *structure, backend))
    norm, *saved = operator(s, *structure, backend)
    torch.library.opcheck(operator_backward, (norm, s, *saved, *structure, backend))


@over(SEED, "base", "holes", "num_nodes", "one-cluster", "n33-k31-f32")
def test_gradcheck(case: Case, backend: str) -> None:
    inputs = make(case, SEED)
    leaf = inputs.s.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: inputs._replace(s=s).norm(backend), (leaf,), fast_mode=True)


def test_gradcheck_ragged(backend: str) -> None:
    inputs = make(Case("ragged", b=3, n=12, valid="num_nodes"), SEED).ragged(SEED)
    leaf = inputs.s.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: inputs._replace(s=s).norm(backend), (leaf,), fast_mode=True)


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
    def step(s: Tensor, mask: Tensor | None, num_nodes: Tensor | None) -> Tensor:
        return asymmetric_norm(s.softmax(-1), mask=mask, num_nodes=num_nodes, backend=backend).square().sum()

    compiled = torch.compile(step, backend="aot_eager", fullgraph=True, dynamic=True)
    for b, n, k in ((2, 9, 4), (3, 12, 7), (2, 90, 3)):
        inputs = make(Case("drawn", b=b, n=n, k=k, valid=valid), SEED, f32)
        leaf = inputs.s.detach().requires_grad_()
        got, expected = (
            torch.autograd.grad(f(leaf, inputs.mask, inputs.num_nodes), leaf) for f in (compiled, step)
        )
        torch.testing.assert_close(got, expected)


@both
@pytest.mark.usefixtures("dynamo")
def test_compile_with_a_ragged_graph(backend: str) -> None:
    def step(logits: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        graph = RaggedGraph.from_edge_index(edge_index, batch=batch, num_graphs=2)
        return asymmetric_norm(logits.softmax(-1), graph, backend=backend).sum()

    batch = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1])
    edge_index = torch.tensor([[0, 1, 4], [2, 3, 7]])
    logits = torch.randn(9, 3, generator=torch.Generator().manual_seed(SEED)).requires_grad_()
    compiled = torch.compile(step, backend="aot_eager", fullgraph=True)
    got, expected = (torch.autograd.grad(f(logits, edge_index, batch), logits) for f in (compiled, step))
    torch.testing.assert_close(got, expected)


@pytest.mark.usefixtures("dynamo")
def test_the_reference_compiles() -> None:
    inputs = make(Case("drawn", b=3, n=12, valid="holes"), SEED, f32)
    leaf = inputs.s.detach().requires_grad_()

    def step(s: Tensor, mask: Tensor | None) -> Tensor:
        return reference.asymmetric_norm(s, mask).norm.sum()

    compiled = torch.compile(step, backend="aot_eager", fullgraph=True)
    got, expected = (torch.autograd.grad(f(leaf, inputs.mask), leaf) for f in (compiled, step))
    torch.testing.assert_close(got, expected)


@both
def test_autocast_changes_nothing(backend: str) -> None:
    linear = torch.nn.Linear(4, 3)
    x = make(Case("autocast", n=12), SEED, f32).s
    with torch.autocast("cpu", bf16):
        s = linear(x).softmax(-1)
        norm = asymmetric_norm(s, backend=backend)
    assert norm.dtype == f32
    assert torch.equal(norm, asymmetric_norm(s, backend=backend))
    norm.sum().backward()
    assert linear.weight.grad is not None
    assert linear.weight.grad.isfinite().all()


def test_transforms_are_right() -> None:
    """They run on the reference, also where the native backend would have been taken."""
    inputs = make(Case("transforms", valid="holes"), SEED)
    direction = torch.randn(inputs.s.shape, generator=torch.Generator().manual_seed(SEED), dtype=f64)

    def loss(s: Tensor) -> Tensor:
        return inputs._replace(s=s).norm().sum()

    leaf = inputs.s.clone().requires_grad_()
    (grad,) = torch.autograd.grad(loss(leaf), leaf)
    torch.testing.assert_close(torch.func.grad(loss)(inputs.s), grad)
    slope = (grad * direction).sum()
    torch.testing.assert_close(torch.func.jvp(loss, (inputs.s,), (direction,))[1], slope)
    with forward_ad.dual_level():
        dual = loss(forward_ad.make_dual(inputs.s, direction))
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, slope)
    several = torch.stack([inputs.s, inputs.s.flip(1)])
    torch.testing.assert_close(torch.func.vmap(loss)(several), torch.stack([loss(s) for s in several]))


def test_transforms_of_the_native_backend_are_refused(native: str) -> None:
    inputs = make(Case("base"), SEED)
    with pytest.raises(RuntimeError, match="backend 'native' cannot run asymmetric_norm under"):
        torch.func.grad(lambda s: inputs._replace(s=s).norm(native).sum())(inputs.s)


class _Watched(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("through", ["dispatcher", "eager"])
def test_second_derivative_is_an_error(through: str, backend: str) -> None:
    inputs = make(Case("base"), SEED)
    leaf = inputs.s.clone().requires_grad_()
    if through == "dispatcher":
        with _Watched():
            norm = inputs._replace(s=leaf).norm(backend)
    else:
        norm = inputs._replace(s=leaf).norm(backend)
    (grad,) = torch.autograd.grad(norm.square().sum(), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="asymmetric_norm has no second derivative"):
        torch.autograd.grad(grad.square().sum(), leaf)


def test_second_derivative_of_the_reference() -> None:
    inputs = make(Case("base", valid="holes"), SEED)
    leaf = inputs.s.clone().requires_grad_()
    assert torch.autograd.gradgradcheck(
        lambda s: reference.asymmetric_norm(s, inputs.mask).norm.square(), (leaf,), fast_mode=True
    )


B, N, K = 2, 4, 3
GOOD: dict[str, Any] = {"s": torch.full((B, N, K), 0.3)}
BAD = [
    ("s", torch.ones(N, K), ValueError, "s must have shape [B, N, K], got (4, 3)"),
    ("s", torch.ones(B, N, 0), ValueError, "s must have at least one cluster"),
    ("s", torch.ones(B, N, K, dtype=torch.int64), TypeError, "s must have dtype float32"),
    ("s", torch.ones(B, N, K).to_sparse(), TypeError, "s must be a dense (strided) tensor"),
    ("s", [1.0], TypeError, "s must be a torch.Tensor, got list"),
    ("graph", torch.ones(2, 3), TypeError, "graph must be a RaggedGraph or None, got Tensor"),
    ("mask", torch.ones(B, N + 1), ValueError, "mask must have shape [B, N] = [2, 4], got (2, 5)"),
    ("mask", torch.ones(B, N, device="meta"), ValueError, "mask must be on the device of s, cpu, got meta"),
    ("mask", [1], TypeError, "mask must be a torch.Tensor, got list"),
    ("num_nodes", torch.tensor([5, 1]), ValueError, "num_nodes must lie between 0 and N = 4"),
    ("num_nodes", torch.tensor([-1, 1]), ValueError, "num_nodes must lie between 0 and N = 4"),
    ("num_nodes", torch.ones(B), TypeError, "num_nodes must have dtype int64"),
    ("num_nodes", torch.tensor([1]), ValueError, "num_nodes must have shape [B] = [2], got (1,)"),
    ("backend", "gpu", ValueError, "backend must be one of 'auto', 'native', 'triton', 'reference'"),
]


@pytest.mark.parametrize(
    ("name", "value", "kind", "message"), BAD, ids=[f"{i}-{bad[0]}" for i, bad in enumerate(BAD)]
)
def test_bad_argument(name: str, value: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        asymmetric_norm(**(GOOD | {name: value}))
    assert message in str(caught.value)


RAGGED_BAD = [
    ("s", torch.ones(5, K), ValueError, "s must have shape [N, K] = [4, K] to match the graph, got (5, 3)"),
    ("s", torch.ones(1, 4, K), ValueError, "s must have shape [N, K] = [4, K] to match the graph"),
    ("s", torch.ones(4, 0), ValueError, "s must have at least one cluster"),
    ("s", torch.ones(4, K, device="meta"), ValueError, "graph must be on the device of s, meta, got cpu"),
    (
        "mask",
        torch.ones(1, 4),
        ValueError,
        "mask must be None with a RaggedGraph, which knows its nodes, got",
    ),
    ("num_nodes", torch.tensor([4]), ValueError, "num_nodes must be None with a RaggedGraph"),
]


@pytest.mark.parametrize(
    ("name", "value", "kind", "message"),
    RAGGED_BAD,
    ids=[f"{i}-{bad[0]}" for i, bad in enumerate(RAGGED_BAD)],
)
def test_bad_argument_beside_a_ragged_graph(
    name: str, value: Any, kind: type[Exception], message: str
) -> None:
    graph = RaggedGraph.from_edge_index(torch.tensor([[0, 1], [1, 2]]), num_nodes=4)
    good: dict[str, Any] = {"s": torch.ones(4, K), "graph": graph}
    with pytest.raises(kind) as caught:
        asymmetric_norm(**(good | {name: value}))
    assert message in str(caught.value)


def test_both_mask_and_num_nodes() -> None:
    with pytest.raises(ValueError, match="mask and num_nodes say the same thing twice"):
        asymmetric_norm(**GOOD, mask=torch.ones(B, N), num_nodes=torch.ones(B, dtype=torch.int64))


MEMORY = """
import resource, sys
import torch
import hierpool

N, K, dtype = 2_000_000, 4, getattr(torch, sys.argv[1])
torch.set_num_threads(2)

def step(s):
    hierpool.asymmetric_norm(s.requires_grad_(), backend="native").backward()

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

step(torch.rand(1, 5000, K).to(dtype))
s = torch.empty(1, N, K, dtype=dtype).uniform_()
before = peak()
step(s)
print((peak() - before) / (s.numel() * s.element_size()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.usefixtures("native")
def test_no_temporary_of_the_size_of_s(dtype: str) -> None:
    result = subprocess.run([sys.executable, "-c", MEMORY, dtype], capture_output=True, text=True, check=True)
    assert float(result.stdout) < 1.3  # the gradient itself


def test_named_backend_that_cannot_run_says_why() -> None:
    meta = {"s": GOOD["s"].to("meta")}
    with pytest.raises(RuntimeError, match="backend 'native' cannot run asymmetric_norm on meta"):
        hierpool.asymmetric_norm(**meta, backend="native")
    assert hierpool.asymmetric_norm(**meta).shape == (B,)
