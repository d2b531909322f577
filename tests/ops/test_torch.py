"""The public functions among PyTorch's machinery: compilers that build the graph inside, export, workers, layers."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters
from torch.utils.data import DataLoader, Dataset

import hierpool
from hierpool import RaggedGraph, SoftPoolRecord, reference
from tests.support.cases import Case, Inputs, Recipe, find, over
from tests.support.running import best, both, run
from tests.support.sparse import Ragged, ragged

SEED = 9
f32, bf16 = torch.float32, torch.bfloat16


def assert_compiled_once(step: Callable[..., Tensor], calls: list[tuple[Any, ...]]) -> None:
    """Values and gradients of all floating arguments are those of eager mode, from one captured graph."""
    compiled = torch.compile(step, backend="aot_eager", fullgraph=True, dynamic=True)
    for arguments in calls:
        leaves = [t for t in arguments if isinstance(t, Tensor) and t.requires_grad]
        got, expected = compiled(*arguments), step(*arguments)
        torch.testing.assert_close(got, expected)
        torch.testing.assert_close(torch.autograd.grad(got, leaves), torch.autograd.grad(expected, leaves))
    assert counters["stats"]["unique_graphs"] == 1


def loss_of(record: SoftPoolRecord) -> Tensor:
    return record.x.square().sum() + record.adj.square().mean() + record.link_norm + record.total_entropy


def padded(b: int, n: int, k: int, f: int, padding: str = "mask") -> Inputs:
    return (
        Case("drawn", b=b, n=n, k=k, f=f, valid=padding, directed=True, density=0.3).make(SEED, f32).leaves()
    )


PADDED_SIZES = [(2, 9, 4, 5), (3, 12, 7, 6), (2, 60, 3, 8)]


def edges(sizes: tuple[int, ...], weighted: bool = True, degree: float = 3) -> tuple[Any, ...]:
    """x, edge_index, s, edge_weight, batch and its size; float32 leaves."""
    generator = torch.Generator().manual_seed(SEED)
    first = torch.tensor([0, *sizes]).cumsum(0).tolist()
    ends = torch.cat(
        [
            start + torch.randint(0, max(n, 1), (2, int(degree * n)), generator=generator)
            for start, n in zip(first, sizes, strict=False)
        ],
        1,
    )
    x, s = (torch.randn(sum(sizes), width, generator=generator, requires_grad=True) for width in (5, 4))
    weight = torch.rand(ends.size(1), generator=generator, requires_grad=True) if weighted else None
    batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return x, ends, s, weight, batch, len(sizes)


SIZES = [(5, 3), (12, 9, 4), (33, 2, 0, 7, 16), (60, 5)]
DEGREES = [3, 0.5, 4, 2]  # also fewer edges than nodes


@best
@pytest.mark.parametrize("weighted", [True, False], ids=["weighted", "ones"])
@pytest.mark.usefixtures("dynamo")
def test_functions_of_a_graph_that_is_built_inside(weighted: bool, backend: str) -> None:
    """Where duplicates are summed into the first of them: the others are 0, and no entries."""

    def step(x: Tensor, ends: Tensor, s: Tensor, weight: Tensor | None, batch: Tensor, b: int) -> Tensor:
        graph = RaggedGraph.from_edge_index(ends, x.size(0), edge_weight=weight, batch=batch, num_graphs=b)
        assigned = s.softmax(-1)
        variation = hierpool.total_variation(assigned, graph, backend=backend)
        distances = hierpool.edge_distances(graph, x, backend=backend)
        return torch.stack(
            [
                loss_of(hierpool.soft_pool(x, graph, s, backend=backend)),
                hierpool.link_bce(assigned, graph, backend=backend),
                (variation.variation / variation.entries.clamp(min=1)).sum(),
                hierpool.asymmetric_norm(assigned, graph, backend=backend).sum(),
                hierpool.spmm(graph, x, backend=backend).square().sum(),
                hierpool.spmm(graph, x, transpose=True, backend=backend).square().sum(),
                (distances if graph.value is None else graph.value * distances).sum(),
            ]
        ).sum()

    pairs = zip(SIZES, DEGREES, strict=True)
    assert_compiled_once(step, [edges(sizes, weighted, degree) for sizes, degree in pairs])


@best
@pytest.mark.parametrize("padding", ["mask", "num_nodes"])
@pytest.mark.usefixtures("dynamo")
def test_functions_of_a_padded_batch(padding: str, backend: str) -> None:
    def step(x: Tensor, adj: Tensor, s: Tensor, mask: Tensor | None, num_nodes: Tensor | None) -> Tensor:
        rows: dict[str, Any] = {"mask": mask, "num_nodes": num_nodes, "backend": backend}
        assigned = s.softmax(-1)
        variation = hierpool.total_variation(assigned, adj, **rows)
        return torch.stack(
            [
                loss_of(hierpool.soft_pool(x, adj, s, **rows)),
                hierpool.link_bce(assigned, adj, **rows),
                (variation.variation / variation.entries.clamp(min=1)).sum(),
                hierpool.asymmetric_norm(assigned, **rows).sum(),
            ]
        ).sum()

    assert_compiled_once(step, [padded(*size, padding)[:5] for size in PADDED_SIZES])


@best
@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "directed"])
@pytest.mark.usefixtures("dynamo")
def test_ready_graphs(symmetric: bool, backend: str) -> None:
    """The graph was built before, as by a loader."""

    def step(x: Tensor, rowptr: Tensor, col: Tensor, value: Tensor, ptr: Tensor, s: Tensor) -> Tensor:
        graph = RaggedGraph(rowptr, col, value, ptr, None, symmetric)
        return loss_of(hierpool.soft_pool(x, graph, s, backend=backend))

    calls = []
    for sizes in SIZES:
        x, ends, s, _, batch, b = edges(sizes)
        ends = torch.cat([ends, ends.flip(0)], 1) if symmetric else ends
        graph = RaggedGraph.from_edge_index(ends, x.size(0), batch=batch, num_graphs=b)
        value = torch.ones(graph.num_edges) if graph.value is None else graph.value
        calls.append((x, graph.rowptr, graph.col, value.requires_grad_(), graph.ptr, s))
    assert_compiled_once(step, calls)


@pytest.mark.usefixtures("dynamo")
def test_the_drop_in(native: str) -> None:
    def step(x: Tensor, adj: Tensor, s: Tensor, mask: Tensor | None) -> Tensor:
        out, out_adj, link_loss, entropy = hierpool.dense_diff_pool(x, adj, s, mask, backend=native)
        return out.square().sum() + out_adj.square().mean() + link_loss + entropy

    assert_compiled_once(step, [padded(*size)[:4] for size in PADDED_SIZES])


@pytest.mark.usefixtures("dynamo")
def test_diff_pool(native: str) -> None:
    def step(x: Tensor, ends: Tensor, s: Tensor, weight: Tensor, batch: Tensor, b: int) -> Tensor:
        out = hierpool.diff_pool(x, ends, s, weight, batch, batch_size=b, sparse_output=True, backend=native)
        assert out.link_loss is not None
        assert out.ent_loss is not None
        assert out.sparse is not None
        losses = out.link_loss + out.ent_loss + out.sparse.edge_weight.square().sum()
        return out.x.square().sum() + out.adj.square().mean() + losses

    assert_compiled_once(step, [edges(sizes) for sizes in SIZES])


@pytest.mark.usefixtures("dynamo")
def test_a_temperature_that_changes(native: str) -> None:
    inputs = padded(*PADDED_SIZES[0])

    def step(s: Tensor, temperature: Tensor) -> Tensor:
        return loss_of(inputs._replace(s=s).pool(native, temperature=temperature))

    values = [torch.tensor(value, requires_grad=True) for value in (0.5, 0.7, 2.0)]
    assert_compiled_once(step, [(inputs.s, temperature) for temperature in values])


@pytest.mark.usefixtures("dynamo")
def test_the_reference_compiles() -> None:
    inputs = padded(3, 12, 4, 5)

    def step(s: Tensor, mask: Tensor | None) -> Tensor:
        return reference.asymmetric_norm(s, mask).norm.sum()

    assert_compiled_once(step, [(inputs.s, inputs.mask)])


@pytest.mark.usefixtures("dynamo")
def test_inductor(
    native: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))
    leaves = padded(*PADDED_SIZES[1], "holes")

    def step(x: Tensor, adj: Tensor, s: Tensor) -> Tensor:
        record = leaves._replace(x=x.relu(), adj=adj, s=2 * s).pool(native)
        return record.x.sum() + record.link_norm

    compiled = torch.compile(step, fullgraph=True)
    got = torch.autograd.grad(compiled(*leaves[:3]), leaves[:3])
    torch.testing.assert_close(got, torch.autograd.grad(step(*leaves[:3]), leaves[:3]))


class Pooling(torch.nn.Module):
    """A small module for export, with the graphs as arrays."""

    def __init__(self, sparse: bool) -> None:
        super().__init__()
        self.assignment = torch.nn.Linear(5, 4)
        self.sparse = sparse
        self.eval().requires_grad_(not sparse)

    def forward(self, x: Tensor, one: Tensor, other: Tensor, ptr: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        s = self.assignment(x)
        if self.sparse:
            record = hierpool.soft_pool(x, RaggedGraph(one, other, None, ptr, None, False), s)
        else:
            record = hierpool.soft_pool(x, one, s, mask=other)
        return record.x, record.adj, record.link_norm


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "non-strict"])
@pytest.mark.parametrize("sparse", [True, False], ids=["csr", "dense"])
def test_export(sparse: bool, strict: bool) -> None:
    module = Pooling(sparse)

    def example(sizes: tuple[int, ...]) -> tuple[Tensor, ...]:
        if not sparse:
            inputs = padded(len(sizes), max(sizes), 4, 5)
            assert inputs.mask is not None
            return inputs.x.detach(), inputs.adj.detach(), inputs.mask, torch.ones(1)
        x, ends, _, _, batch, b = edges(sizes)
        graph = RaggedGraph.from_edge_index(ends.unique(dim=1), x.size(0), batch=batch, num_graphs=b)
        return x.detach(), graph.rowptr, graph.col, graph.ptr

    auto = torch.export.Dim.AUTO
    shapes: dict[str, Any] = {name: {0: auto} for name in ("x", "one", "other", "ptr")}
    if not sparse:
        shapes = {"x": {0: auto, 1: auto}, "one": dict.fromkeys(range(3), auto), "other": {0: auto, 1: auto}}
        shapes["ptr"] = None
    first, *others = SIZES[1:]
    exported = torch.export.export(module, example(first), dynamic_shapes=shapes, strict=strict).module()
    for sizes in others:
        torch.testing.assert_close(*(f(*example(sizes)) for f in (exported, module)))


@both
@over(SEED, "directed-holes", *ragged("directed-holes"))
def test_logits_of_an_autocast_layer(case: Recipe, backend: str) -> None:
    inputs = case.make(SEED, f32)
    linear = torch.nn.Linear(5, 4)
    with torch.autocast("cpu", bf16):
        record = inputs._replace(s=linear(inputs.x)).pool(backend)
        loss_of(record).backward()
        assigned = linear(inputs.x).softmax(-1)
        graph = inputs.graph if isinstance(inputs, Ragged) else inputs.adj
        losses = torch.stack(
            [
                hierpool.link_bce(assigned, graph, backend=backend),
                hierpool.total_variation(assigned, graph, backend=backend).variation.sum(),
            ]
        )
    assert (record.s.dtype, record.x.dtype, record.adj.dtype) == (bf16, f32, f32)
    assert losses.dtype == f32
    losses.sum().backward()
    assert linear.weight.grad is not None
    assert linear.weight.grad.isfinite().all()


class Pooled(Dataset[Tensor]):
    """Pools in the worker."""

    def __init__(self, backend: str) -> None:
        self.backend = backend

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Tensor:
        cases = (find("n513-directed-sparse"), *ragged("n513-directed-sparse"))
        results = [run(case.make(index, f32), self.backend)[:2] for case in cases]
        return torch.cat(
            [t.flatten() for record, grads in results for t in (record.scalars, grads.s)]
        ).detach()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_forked_worker(native: str) -> None:
    """The parent has used its threads before it forks."""
    torch.set_num_threads(2)
    expected = [Pooled(native)[i] for i in range(2)]
    loader = DataLoader(
        Pooled(native), batch_size=None, num_workers=1, multiprocessing_context="fork", timeout=60
    )
    assert all(torch.equal(one, other) for one, other in zip(loader, expected, strict=True))
