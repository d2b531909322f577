"""Ragged batches among PyTorch's own machinery: opcheck, gradcheck, compile, export, autocast, transforms, workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters
from torch.autograd import forward_ad
from torch.utils.data import DataLoader, Dataset

import hierpool
from hierpool import RaggedGraph, SoftPoolRecord, reference
from tests.support.cases import Recipe, over
from tests.support.running import INTERPRETED, KINDS, run
from tests.support.sparse import Ragged, RaggedCase, ragged

SEED = 9
f64, f32, bf16 = torch.float64, torch.float32, torch.bfloat16
operator = torch.ops.hierpool.soft_pool_csr.default
operator_backward = torch.ops.hierpool.soft_pool_csr_backward.default
# Nothing here depends on the instruction set; one that every machine has stands for all.
both = pytest.mark.parametrize("backend", KINDS, indirect=True)


def operator_arguments(
    inputs: Ragged, backend: str, temperature: Tensor | None, save: bool, mean: bool = False
) -> tuple[Any, ...]:
    graph = inputs.graph
    transpose = (None, None, None) if graph.is_symmetric or not save else graph.transposed()
    return (
        inputs.s, inputs.x, inputs.adj, graph.rowptr, graph.col, graph.ptr, *transpose, temperature,
        inputs.given, graph.is_symmetric, True, True, True, mean, save, backend,
    )  # fmt: skip


SAMPLES = ragged(
    "directed", "base-unweighted", "directed-holes-int64", "directed-holes-unweighted", "middle-empty", "given",
    "no-graphs", "no-nodes", "no-edges",
)  # fmt: skip


@both
@pytest.mark.parametrize(("save", "mean"), [(True, False), (False, True)], ids=["save-sum", "no-save-mean"])
@over(SEED, *SAMPLES)
def test_opcheck_of_the_forward(case: RaggedCase, save: bool, mean: bool, backend: str) -> None:
    inputs = case.make(SEED, f32)
    temperature = None if inputs.given else torch.tensor(0.7, requires_grad=save)
    inputs = inputs.leaves() if save else inputs
    torch.library.opcheck(operator, operator_arguments(inputs, backend, temperature, save, mean))


@both
@over(SEED, *SAMPLES)
def test_opcheck_of_the_backward(case: RaggedCase, backend: str) -> None:
    inputs = case.make(SEED, f32)
    arguments = operator_arguments(inputs, backend, None, True)
    values = operator(*arguments)
    draw = torch.Generator().manual_seed(SEED)
    upstream = [torch.randn(t.shape, generator=draw) for t in values[:8]]
    saved = (values[0], values[3], *values[7:])
    rest = (*saved, *arguments[1:9], None, inputs.given, inputs.graph.is_symmetric, False)
    weighted = inputs.adj is not None
    torch.library.opcheck(operator_backward, (*upstream, *rest, True, True, weighted, backend))
    torch.library.opcheck(operator_backward, (*[None] * 7, upstream[7], *rest, True, False, False, backend))
    torch.library.opcheck(operator_backward, (*[None] * 8, *rest, False, True, weighted, backend))


@both
@over(
    SEED,
    *ragged(
        *("directed", "middle-empty"),
        *(() if INTERPRETED else ("base", "base-unweighted", "num_nodes-shuffled")),
    ),
)
def test_gradcheck(case: RaggedCase, backend: str) -> None:
    inputs = case.make(SEED).leaves()
    temperature = torch.tensor(0.7, dtype=f64, requires_grad=True)
    graph = inputs.graph

    def function(
        x: Tensor, s: Tensor, temperature: Tensor, value: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        moved = graph if value is None else graph.with_value(value, symmetric=False)
        record = hierpool.soft_pool(x, moved, s, temperature=temperature, backend=backend)
        return tuple(field for field in record if field is not None)

    weights = () if inputs.adj is None else (inputs.adj,)
    arguments = (inputs.x, inputs.s, temperature, *weights)
    assert torch.autograd.gradcheck(function, arguments, fast_mode=True)


@pytest.fixture
def dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    with torch._dynamo.config.patch(error_on_recompile=True):
        yield
    torch._dynamo.reset()


def graphs() -> int:
    """How many graphs were captured since the test began."""
    return counters["stats"]["unique_graphs"]


SIZES = [(5, 3), (12, 9, 4), (33, 2, 0, 7, 16), (60 if INTERPRETED else 600, 5)]
DEGREES = [3, 0.5, 4, 2]  # also fewer edges than nodes


def draw(
    sizes: tuple[int, ...], weighted: bool = True, degree: float = 3
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor]:
    """x, edge_index, s, edge_weight and batch, float32 leaves."""
    generator = torch.Generator().manual_seed(SEED)
    first = torch.tensor([0, *sizes]).cumsum(0).tolist()
    edges = torch.cat(
        [
            start + torch.randint(0, max(n, 1), (2, int(degree * n)), generator=generator)
            for start, n in zip(first, sizes, strict=False)
        ],
        1,
    )
    x, s = (torch.randn(sum(sizes), width, generator=generator, requires_grad=True) for width in (5, 4))
    weight = torch.rand(edges.size(1), generator=generator, requires_grad=True) if weighted else None
    batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return x, edges, s, weight, batch


def loss_of(record: SoftPoolRecord) -> Tensor:
    return record.x.square().sum() + record.adj.square().mean() + record.link_norm + record.total_entropy


def grads_of(loss: Tensor, *leaves: Tensor | None) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, [t for t in leaves if t is not None])


def assert_compiled_once(step: Any, calls: list[tuple[Any, ...]], leaves: tuple[int, ...]) -> None:
    """Values and gradients of the arguments ``leaves`` are those of eager mode, from one captured graph."""
    compiled = torch.compile(step, backend="aot_eager", fullgraph=True, dynamic=True)
    for arguments in calls:
        wanted = [arguments[i] for i in leaves]
        got, expected = compiled(*arguments), step(*arguments)
        torch.testing.assert_close(got, expected)
        torch.testing.assert_close(grads_of(got, *wanted), grads_of(expected, *wanted))
    assert graphs() == 1


@both
@pytest.mark.parametrize("weighted", [True, False], ids=["weighted", "ones"])
@pytest.mark.usefixtures("dynamo")
def test_compile_from_edges_is_one_graph_for_all_sizes(weighted: bool, backend: str) -> None:
    """Numbers of nodes, edges and graphs change, and the graph is built inside."""

    def step(x: Tensor, edges: Tensor, s: Tensor, weight: Tensor | None, batch: Tensor, b: int) -> Tensor:
        graph = RaggedGraph.from_edge_index(edges, x.size(0), edge_weight=weight, batch=batch, num_graphs=b)
        return loss_of(hierpool.soft_pool(x, graph, s, backend=backend))

    calls = [
        (*draw(sizes, weighted, degree), len(sizes)) for sizes, degree in zip(SIZES, DEGREES, strict=True)
    ]
    assert_compiled_once(step, calls, (0, 2, 3))


@both
@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "directed"])
@pytest.mark.usefixtures("dynamo")
def test_compile_of_ready_graphs_is_one_graph_for_all_sizes(symmetric: bool, backend: str) -> None:
    """The graph was built before, as by a loader."""

    def step(x: Tensor, rowptr: Tensor, col: Tensor, value: Tensor, ptr: Tensor, s: Tensor) -> Tensor:
        graph = RaggedGraph(rowptr, col, value, ptr, None, symmetric)
        return loss_of(hierpool.soft_pool(x, graph, s, backend=backend))

    calls = []
    for sizes in SIZES:
        x, edges, s, _, batch = draw(sizes)
        edges = torch.cat([edges, edges.flip(0)], 1) if symmetric else edges
        graph = RaggedGraph.from_edge_index(edges, x.size(0), batch=batch, num_graphs=len(sizes))
        value = torch.ones(graph.num_edges) if graph.value is None else graph.value
        calls.append((x, graph.rowptr, graph.col, value.requires_grad_(), graph.ptr, s))
    assert_compiled_once(step, calls, (0, 3, 5))


@both
@pytest.mark.usefixtures("dynamo")
def test_compile_of_diff_pool(backend: str) -> None:
    def step(x: Tensor, edges: Tensor, s: Tensor, weight: Tensor, batch: Tensor, b: int) -> Tensor:
        out = hierpool.diff_pool(
            x, edges, s, weight, batch, batch_size=b, sparse_output=True, backend=backend
        )
        assert out.link_loss is not None
        assert out.ent_loss is not None
        assert out.sparse is not None
        losses = out.link_loss + out.ent_loss + out.sparse.edge_weight.square().sum()
        return out.x.square().sum() + out.adj.square().mean() + losses

    assert_compiled_once(step, [(*draw(sizes), len(sizes)) for sizes in SIZES], (0, 2, 3))


class Pooling(torch.nn.Module):
    """A small module for export."""

    def __init__(self, backend: str) -> None:
        super().__init__()
        self.assignment = torch.nn.Linear(5, 4)
        self.backend = backend

    def forward(self, x: Tensor, rowptr: Tensor, col: Tensor, ptr: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        graph = RaggedGraph(rowptr, col, None, ptr, None, False)
        record = hierpool.soft_pool(x, graph, self.assignment(x), backend=self.backend)
        return record.x, record.adj, record.link_norm


@both
@pytest.mark.parametrize("strict", [True, False], ids=["strict", "non-strict"])
def test_export(strict: bool, backend: str) -> None:
    module = Pooling(backend).eval().requires_grad_(False)

    def example(sizes: tuple[int, ...]) -> tuple[Tensor, ...]:
        x, edges, _, _, batch = draw(sizes)
        graph = RaggedGraph.from_edge_index(
            edges.unique(dim=1), x.size(0), batch=batch, num_graphs=len(sizes)
        )
        return x.detach(), graph.rowptr, graph.col, graph.ptr

    dims = [torch.export.Dim.AUTO] * 4
    shapes = {name: {0: dim} for name, dim in zip(("x", "rowptr", "col", "ptr"), dims, strict=True)}
    exported = torch.export.export(module, example(SIZES[1]), dynamic_shapes=shapes, strict=strict).module()
    for sizes in SIZES[1:]:
        got, expected = (f(*example(sizes)) for f in (exported, module))
        torch.testing.assert_close(got, expected)


@both
@pytest.mark.parametrize("weights", [f32, bf16], ids=str)
@over(SEED, "directed-holes", "n17-k17-f15", *ragged("directed-holes", "directed-holes-unweighted"))
def test_autocast_rounds_nothing_inside(case: Recipe, weights: torch.dtype, backend: str) -> None:
    """Without anybody watching, too, the operator's sums are in the dtype that it documents."""
    inputs = case.make(SEED, f32, adj=weights)
    expected, expected_grads, upstream = run(inputs, backend)
    with torch.autocast("cpu", bf16):
        record, grads, _ = run(inputs, backend, upstream)
    for name, one, other in zip(record._fields, record, expected, strict=True):
        assert one.dtype == other.dtype, name
        assert torch.equal(one, other), name
    assert all(torch.equal(one, other) for one, other in zip(grads, expected_grads, strict=True))


@both
def test_autocast_of_the_cross_entropy(backend: str) -> None:
    (case,) = ragged("directed-holes")
    inputs = case.make(SEED, f32)
    s = inputs.s.softmax(-1)
    for adj, assigned in ((inputs.graph, s), (inputs.padded.adj, inputs.padded.s.softmax(-1))):
        expected = hierpool.link_bce(assigned, adj, backend=backend)
        with torch.autocast("cpu", bf16):
            assert torch.equal(hierpool.link_bce(assigned, adj, backend=backend), expected)


@both
def test_logits_of_an_autocast_layer(backend: str) -> None:
    (case,) = ragged("directed-holes")
    inputs = case.make(SEED, f32)
    linear = torch.nn.Linear(5, 4)
    with torch.autocast("cpu", bf16):
        record = inputs._replace(s=linear(inputs.x)).pool(backend)
        loss_of(record).backward()
    assert (record.s.dtype, record.x.dtype, record.adj.dtype) == (bf16, f32, f32)
    assert linear.weight.grad is not None
    assert linear.weight.grad.isfinite().all()


def fields(inputs: Ragged, backend: str) -> tuple[Tensor, Tensor, Tensor]:
    record = inputs.pool(backend)
    return record.x, record.adj, record.link_norm


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("name", ["x", "adj", "s"])
@over(SEED, *ragged("directed-holes", "directed-holes-shuffled"))
def test_vmap_is_right(case: RaggedCase, name: str, backend: str) -> None:
    inputs = case.make(SEED)
    shape = (3, *getattr(inputs, name).shape)
    drawn = torch.rand(shape, generator=torch.Generator().manual_seed(SEED), dtype=f64)
    got = torch.func.vmap(lambda value: fields(inputs._replace(**{name: value}), backend))(drawn)
    each = [fields(inputs._replace(**{name: value}), backend) for value in drawn]
    torch.testing.assert_close(got, tuple(torch.stack(field) for field in zip(*each, strict=True)))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_batched_upstream_gradients(native: str) -> None:
    (case,) = ragged("directed-holes")
    leaves = case.make(SEED).leaves()
    size = leaves.pool(native).size
    units = torch.eye(size.numel(), dtype=f64).reshape(-1, *size.shape)
    (got,) = torch.autograd.grad(size, leaves.s, units, is_grads_batched=True, retain_graph=True)
    expected = [torch.autograd.grad(size, leaves.s, unit, retain_graph=True)[0] for unit in units]
    torch.testing.assert_close(got, torch.stack(expected))


@over(SEED, *ragged("directed-holes", "num_nodes-shuffled"))
def test_function_transforms_are_right(case: RaggedCase) -> None:
    """They go through plain PyTorch, also where the native backend would have been taken."""
    inputs = case.make(SEED)
    direction = torch.randn(inputs.s.shape, generator=torch.Generator().manual_seed(SEED), dtype=f64)
    _, grads, _ = run(inputs, "reference", [None] * 7 + [torch.ones((), dtype=f64)])
    expected = (grads.s * direction).sum()

    def norm(s: Tensor) -> Tensor:
        return inputs._replace(s=s).pool().link_norm

    gradient = torch.func.grad(norm)
    torch.testing.assert_close(gradient(inputs.s), grads.s)
    torch.testing.assert_close(torch.func.jvp(norm, (inputs.s,), (direction,))[1], expected)
    with forward_ad.dual_level():
        dual = norm(forward_ad.make_dual(inputs.s, direction))
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, expected)
    graph, leaf = inputs.graph, inputs.graph.in_graph_order(inputs.s).clone().requires_grad_()
    features = graph.in_graph_order(inputs.x)
    plain = reference.soft_pool_csr(leaf, features, inputs.adj, graph.rowptr, graph.col, graph.ptr)
    (first,) = torch.autograd.grad(plain.link_norm, leaf, create_graph=True)
    (second,) = torch.autograd.grad((first * graph.in_graph_order(direction)).sum(), leaf)
    twice = torch.func.jvp(gradient, (inputs.s,), (direction,))[1]
    torch.testing.assert_close(twice, graph.in_callers_order(second))
    several = torch.stack([inputs.s, 2 * inputs.s])
    torch.testing.assert_close(
        torch.func.vmap(gradient)(several), torch.stack([gradient(s) for s in several])
    )


def test_transforms_of_the_native_backend_are_refused(native: str) -> None:
    (case,) = ragged("base")
    inputs = case.make(SEED)

    def norm(s: Tensor) -> Tensor:
        return inputs._replace(s=s).pool(native).link_norm

    expected = "backend 'native' cannot run soft_pool_csr under"
    with pytest.raises(RuntimeError, match=expected):
        torch.func.grad(norm)(inputs.s)
    with pytest.raises(RuntimeError, match=expected):
        torch.func.vmap(norm)(inputs.s[None])
    with pytest.raises(RuntimeError, match=expected):
        torch.func.jvp(norm, (inputs.s,), (inputs.s,))


@pytest.mark.parametrize("changed", ["x", "s", "value"])
def test_a_changed_input_is_noticed_in_the_backward(changed: str, native: str) -> None:
    (case,) = ragged("directed")
    leaves = case.make(SEED).leaves()
    x, value = leaves.x * 1, leaves.adj * 1
    record = leaves._replace(x=x, adj=value).pool(native)
    {"x": x, "s": record.s, "value": value}[changed].detach().add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss_of(record).backward()


class Pooled(Dataset[Tensor]):
    """Pools in the worker."""

    def __init__(self, backend: str) -> None:
        self.backend = backend

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Tensor:
        (case,) = ragged("n513-directed-sparse")
        record, grads, _ = run(case.make(index, f32), self.backend)
        return torch.cat([record.scalars.flatten(), grads.s.flatten()]).detach()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_forked_worker(native: str) -> None:
    """The parent has used its threads before it forks."""
    torch.set_num_threads(2)
    expected = [Pooled(native)[i] for i in range(2)]
    loader = DataLoader(
        Pooled(native), batch_size=None, num_workers=1, multiprocessing_context="fork", timeout=60
    )
    assert all(torch.equal(one, other) for one, other in zip(loader, expected, strict=True))
