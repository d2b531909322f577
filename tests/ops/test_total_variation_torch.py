"""The total variation over edges among PyTorch's own machinery, bad arguments, and memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from hierpool import RaggedGraph, reference, total_variation
from tests.support.cases import Case, over
from tests.support.link import LinkInputs, make
from tests.support.running import KINDS
from tests.support.variation import call

SEED = 9
f64, f32, bf16 = torch.float64, torch.float32, torch.bfloat16
operator = torch.ops.hierpool.total_variation.default
operator_backward = torch.ops.hierpool.total_variation_backward.default
both = pytest.mark.parametrize("backend", KINDS, indirect=True)
SAMPLES = ("directed", "num_nodes", "holes", "no-graphs", "no-nodes", "sliced")
RAGGED = Case("ragged", b=3, n=12, valid="num_nodes", directed=True)


def dense_arguments(inputs: LinkInputs) -> tuple[Any, ...]:
    return (*inputs[:2], None, None, None, inputs.mask, inputs.num_nodes, None, None, None)


def ragged_arguments(weighted: bool, requires_grad: bool) -> tuple[Any, ...]:
    s, graph = make(RAGGED, SEED, f32).ragged()
    assert graph.value is not None
    value = graph.value.detach().requires_grad_(requires_grad) if weighted else None
    graph = graph.with_value(value, symmetric=False)
    s = s.detach().requires_grad_(requires_grad)
    return s, value, graph.rowptr, graph.col, graph.ptr, None, None, *graph.transposed()


@both
@pytest.mark.parametrize("grad", [True, False])
@over(SEED, *SAMPLES)
def test_opcheck_padded(case: Case, grad: bool, backend: str) -> None:
    inputs = make(case, SEED, f32)
    torch.library.opcheck(operator, (*dense_arguments(inputs.leaves() if grad else inputs), backend))
    for needs in ((True, True), (True, False), (False, True)):
        plain = (torch.full(inputs.s.shape[:1], 0.3), *dense_arguments(inputs), *needs, backend)
        torch.library.opcheck(operator_backward, plain)


@both
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_opcheck_ragged(weighted: bool, grad: bool, backend: str) -> None:
    torch.library.opcheck(operator, (*ragged_arguments(weighted, grad), backend))
    for need_s in (True, False):
        plain = (torch.full((3,), 0.3), *ragged_arguments(weighted, False), need_s, weighted, backend)
        torch.library.opcheck(operator_backward, plain)


@over(SEED, "base", "directed-holes", "num_nodes", "one-cluster", "n33-k31-f32")
def test_gradcheck(case: Case, backend: str) -> None:
    inputs = make(case, SEED).leaves()

    def function(s: Tensor, adj: Tensor) -> Tensor:
        return call(inputs._replace(s=s, adj=adj), backend).variation

    assert torch.autograd.gradcheck(function, (inputs.s, inputs.adj), fast_mode=True)


def test_gradcheck_ragged(backend: str) -> None:
    s, graph = make(RAGGED, SEED).ragged()
    assert graph.value is not None

    def function(s: Tensor, value: Tensor) -> Tensor:
        return total_variation(s, graph.with_value(value, symmetric=False), backend=backend).variation

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
        out = total_variation(s.softmax(-1), adj, mask=mask, num_nodes=num_nodes, backend=backend)
        return (out.variation / out.entries.clamp(min=1)).sum()

    compiled = torch.compile(step, backend="aot_eager", fullgraph=True, dynamic=True)
    for b, n, k in ((2, 9, 4), (3, 12, 7), (2, 100, 3)):
        leaves = make(Case("drawn", b=b, n=n, k=k, valid=valid, directed=True), SEED, f32).leaves()
        got, expected = (torch.autograd.grad(f(*leaves), leaves[:2]) for f in (compiled, step))
        torch.testing.assert_close(got, expected)


@both
@pytest.mark.usefixtures("dynamo")
def test_compile_with_a_ragged_graph(backend: str) -> None:
    """Where duplicates are summed into the first of them: the others are 0, and no entries."""

    def step(logits: Tensor, edge_index: Tensor, weight: Tensor, batch: Tensor) -> Tensor:
        graph = RaggedGraph.from_edge_index(edge_index, edge_weight=weight, batch=batch, num_graphs=2)
        out = total_variation(logits.softmax(-1), graph, backend=backend)
        return (out.variation / out.entries).sum()

    draw = torch.Generator().manual_seed(SEED)
    edge_index = torch.randint(0, 4, (2, 20), generator=draw) + torch.tensor([0, 4]).repeat(10)
    weight = torch.rand(20, generator=draw).requires_grad_()
    batch = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1])
    logits = torch.randn(9, 3, generator=draw).requires_grad_()
    compiled = torch.compile(step, backend="aot_eager", fullgraph=True)
    arguments = (logits, edge_index, weight, batch)
    torch.testing.assert_close(compiled(*arguments), step(*arguments))
    got, expected = (torch.autograd.grad(f(*arguments), (logits, weight)) for f in (compiled, step))
    torch.testing.assert_close(got, expected)


def test_transforms_are_right() -> None:
    """They run on the reference, also where the native backend would have been taken."""
    inputs = make(Case("transforms", valid="holes", directed=True), SEED)
    direction = torch.randn(inputs.s.shape, generator=torch.Generator().manual_seed(SEED), dtype=f64)

    def variation(s: Tensor) -> Tensor:
        return call(inputs._replace(s=s)).variation.sum()

    leaf = inputs.s.clone().requires_grad_()
    (grad,) = torch.autograd.grad(variation(leaf), leaf)
    torch.testing.assert_close(torch.func.grad(variation)(inputs.s), grad)
    slope = (grad * direction).sum()
    torch.testing.assert_close(torch.func.jvp(variation, (inputs.s,), (direction,))[1], slope)
    with forward_ad.dual_level():
        dual = variation(forward_ad.make_dual(inputs.s, direction))
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, slope)
    several = torch.stack([inputs.s, 0.5 * inputs.s])
    expected = torch.stack([variation(s) for s in several])
    torch.testing.assert_close(torch.func.vmap(variation)(several), expected)


def test_transforms_of_the_native_backend_are_refused(native: str) -> None:
    inputs = make(Case("base"), SEED)
    with pytest.raises(RuntimeError, match="backend 'native' cannot run total_variation under"):
        torch.func.grad(lambda s: call(inputs._replace(s=s), native).variation.sum())(inputs.s)


def test_second_derivative_is_an_error(backend: str) -> None:
    leaves = make(Case("base"), SEED).leaves()
    (grad,) = torch.autograd.grad(call(leaves, backend).variation.sum(), leaves.adj, create_graph=True)
    with pytest.raises(RuntimeError, match="total_variation has no second derivative"):
        torch.autograd.grad(grad.square().sum(), leaves.s)


def test_second_derivative_of_the_reference() -> None:
    inputs = make(Case("base", valid="holes"), SEED).leaves()
    assert torch.autograd.gradgradcheck(
        lambda s, adj: reference.total_variation(s, adj, inputs.mask)[0], inputs[:2], fast_mode=True
    )
    s, graph = make(RAGGED, SEED).ragged()
    leaves = (s.requires_grad_(), graph.value.clone().requires_grad_())  # type: ignore[union-attr]
    assert torch.autograd.gradgradcheck(
        lambda s, value: reference.total_variation_csr(s, graph.rowptr, graph.col, value, graph.ptr)[0],
        leaves,
        fast_mode=True,
    )


def test_the_transpose_is_made_only_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    s, graph = make(RAGGED, SEED, f32).ragged()
    assert graph.value is not None
    value = graph.value.detach().requires_grad_()
    learned = graph.with_value(value, symmetric=False)
    for one in (graph, learned):
        monkeypatch.setattr(one, "transposed", lambda: pytest.fail("the transpose was asked for"))
    total_variation(s, graph)
    with torch.no_grad():
        total_variation(s.clone().requires_grad_(), learned)
    total_variation(s, learned).variation.sum().backward()
    assert value.grad is not None


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
        total_variation(**(GOOD | {name: value}))
    assert message in str(caught.value)


RAGGED_BAD = [
    ("s", torch.ones(5, K), ValueError, "s must have shape [N, K] = [4, K] to match the graph, got (5, 3)"),
    ("s", torch.ones(1, 4, K), ValueError, "s must have shape [N, K] = [4, K] to match the graph"),
    ("s", torch.ones(4, 0), ValueError, "s must have at least one cluster"),
    ("s", torch.ones(4, K, device="meta"), ValueError, "adj must be on the device of s, meta, got cpu"),
    ("mask", torch.ones(1, 4), ValueError, "mask must be None with a RaggedGraph"),
    ("num_nodes", torch.tensor([4]), ValueError, "num_nodes must be None with a RaggedGraph"),
]


@pytest.mark.parametrize(("name", "value", "kind", "message"), RAGGED_BAD, ids=str)
def test_bad_argument_beside_a_ragged_graph(
    name: str, value: Any, kind: type[Exception], message: str
) -> None:
    graph = RaggedGraph.from_edge_index(torch.tensor([[0, 1], [1, 2]]), num_nodes=4)
    good: dict[str, Any] = {"s": torch.ones(4, K), "adj": graph}
    with pytest.raises(kind) as caught:
        total_variation(**(good | {name: value}))
    assert message in str(caught.value)


def test_both_mask_and_num_nodes() -> None:
    with pytest.raises(ValueError, match="mask and num_nodes say the same thing twice"):
        total_variation(**GOOD, mask=torch.ones(B, N), num_nodes=torch.ones(B, dtype=torch.int64))


def test_named_backend_that_cannot_run_says_why() -> None:
    meta = {name: value.to("meta") for name, value in GOOD.items()}
    with pytest.raises(RuntimeError, match="backend 'native' cannot run total_variation on meta"):
        total_variation(**meta, backend="native")
    assert [tuple(t.shape) for t in total_variation(**meta)] == [(B,), (B,)]


def test_autocast_leaves_the_sums_alone(backend: str) -> None:
    inputs = make(Case("autocast", n=12), SEED, f32)
    expected = call(inputs, backend)
    with torch.autocast("cpu", bf16):
        assert torch.equal(call(inputs, backend).variation, expected.variation)


MEMORY = """
import sys
import torch
import hierpool
from bench.memory import peak_of

kind, learned, backend = sys.argv[1], sys.argv[2] == "learned", sys.argv[3]
torch.set_num_threads(2)
draw = torch.Generator().manual_seed(0)
if kind == "csr":
    n, k = 20_000, 32
    edges = torch.randint(0, n, (2, 50 * n), generator=draw)
    weight = torch.rand(edges.size(1), generator=draw)
    adj = hierpool.RaggedGraph.from_edge_index(edges, n, edge_weight=weight)
    adj = adj.with_value(adj.value.requires_grad_(learned), symmetric=False)
    adj.transposed()
    s = torch.rand(n, k, generator=draw, requires_grad=True)
else:
    n, k = 4000, 8
    adj = (torch.rand(1, n, n, generator=draw) < 0.1).to(getattr(torch, kind))
    s = torch.rand(1, n, k, generator=draw, requires_grad=True)

def step():
    hierpool.total_variation(s, adj, backend=backend).variation.sum().backward()
    s.grad = None

step()
print(peak_of(step))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc, on Linux only")
@pytest.mark.parametrize(
    ("kind", "learned", "limit"),
    [
        # Of N x N float32 a thirtieth. Of edges times clusters, 128 MB: what is given and returned, and the gradient
        # of the weights; and a copy of these in the order of the transpose.
        ("float32", "", 4000 * 4000 * 4 // 30),
        ("uint8", "", 4000 * 4000 * 4 // 30),
        ("csr", "", 4 * 2 * 20_000 * 32 + 2**20),
        ("csr", "learned", 4 * 2 * 20_000 * 32 + 4 * 3 * 1_000_000 + 2**20),
    ],
)
def test_no_temporary_of_n_by_n_or_edges_by_clusters(
    kind: str, learned: str, limit: int, native: str
) -> None:
    result = subprocess.run(
        [sys.executable, "-c", MEMORY, kind, learned, native], capture_output=True, text=True, check=True
    )
    assert int(result.stdout) < limit
