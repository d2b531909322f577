"""The kernels on a CUDA device at sizes that only a device has room for, compared with float64 there."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import hierpool
from bench.harness.precision import BF16, FLOAT32, Tolerance
from bench.harness.workload import Request
from bench.ops import soft_pool_truth as in_parts
from bench.ops.batches import SparseBatch
from bench.ops.graphs import scattered, star
from hierpool import RaggedGraph
from tests.support.cases import Inputs

SEED = 3
f64, f32, bf16 = torch.float64, torch.float32, torch.bfloat16
HALF = BF16.tolerance


def assert_near(got: Tensor, true: Tensor, limit: float) -> None:
    """The norm of the error over that of the float64 ``true``; NaN fails."""
    error = float((got.double() - true).detach().norm() / true.detach().norm())
    assert error <= limit, f"relative error {error:.1e}, allowed {limit:.1e}"


def need_memory(n_bytes: float, device: torch.device) -> None:
    free, _ = torch.cuda.mem_get_info(device)
    if free < n_bytes:
        pytest.skip(f"needs {n_bytes / 1e9:.0f} GB of device memory, {free / 1e9:.0f} GB are free")


# ---- large shapes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "allowed"), [(f32, FLOAT32), (bf16, HALF)])
def test_large_dense_against_float64(dtype: torch.dtype, allowed: Tolerance, device: torch.device) -> None:
    gen = torch.Generator(device).manual_seed(SEED)
    b, n, k, f = 3, 1500, 256, 128
    x, s = (torch.randn(b, n, c, generator=gen, device=device).to(dtype) for c in (f, k))
    adj = torch.rand(b, n, n, generator=gen, device=device).to(dtype)
    num_nodes = torch.tensor([n, 1, 777], device=device)
    results = []
    for kind, backend in ((dtype, "triton"), (f64, "reference")):
        leaves = Inputs(x.to(kind), adj.to(kind), s.to(kind), num_nodes=num_nodes).leaves()
        record = leaves.pool(backend)
        up = torch.Generator(device).manual_seed(SEED)
        loss = sum(
            (field.double() * torch.randn(field.shape, generator=up, device=device, dtype=f64)).sum() / field.numel()
            for field in (record.x, record.adj, record.gram)
        ) + record.link_norm.double() + record.total_entropy.double()  # fmt: skip
        grads = torch.autograd.grad(loss, leaves[:3])
        results.append(([record.x, record.adj, record.link_norm, record.total_entropy], grads))
    (values, grads), (true_values, true_grads) = results
    for got, true, limit in (
        *((v, t, allowed.values) for v, t in zip(values, true_values, strict=True)),
        *((v, t, allowed.gradients) for v, t in zip(grads, true_grads, strict=True)),
    ):
        assert_near(got, true, limit)


@pytest.mark.parametrize(("dtype", "allowed"), [(f32, FLOAT32), (bf16, HALF)])
def test_large_sparse_against_float64(dtype: torch.dtype, allowed: Tolerance, device: torch.device) -> None:
    batch = scattered(200_000, 16, 64, 32, dtype)(Request(SEED, device))
    verdict = in_parts.verify(pool, batch, allowed)
    assert verdict.ok, verdict.failures


def pool(batch: SparseBatch) -> tuple[Tensor, ...]:
    graph = RaggedGraph.from_edge_index(
        batch.edge_index, batch.x.size(0), ptr=batch.ptr, symmetric=True, is_coalesced=True
    )
    return hierpool.diff_pool(batch.x, graph, batch.logits, backend="triton")[:4]


def test_a_row_of_many_entries(device: torch.device) -> None:
    """A hub has more entries than one program takes of a row."""
    batch = star(30_000, 20, 8)(Request(SEED))
    outputs = []
    for where, kind, backend in ((device, f32, "triton"), (device, f64, "reference")):
        graph = RaggedGraph.from_edge_index(batch.edge_index.to(where), batch.x.size(0))
        logits = batch.logits.detach().to(where, kind).requires_grad_()
        record = hierpool.soft_pool(batch.x.detach().to(where, kind), graph, logits, backend=backend)
        loss = record.adj.double().square().sum() / graph.num_nodes**2 + record.link_norm.double()
        outputs.append((record.adj, *torch.autograd.grad(loss, logits)))
    for got, true in zip(*outputs, strict=True):
        assert_near(got, true, 2e-5)


# ---- offsets beyond 32 bits -----------------------------------------------------------------------------------------


def test_sparse_with_more_than_2_to_the_31_elements_of_s(device: torch.device) -> None:
    need_memory(36e9, device)
    nodes, clusters = 34_000_000, 64
    assert nodes * clusters > 2**31
    batch = scattered(nodes, 2, clusters, 8, bf16)(Request(SEED, device))
    verdict = in_parts.verify(pool, batch, HALF)
    assert verdict.ok, verdict.failures


def test_dense_with_more_than_2_to_the_31_entries(device: torch.device) -> None:
    need_memory(12e9, device)
    n, k, f, rows = 46_400, 16, 8, 4096
    assert n * n > 2**31
    gen = torch.Generator(device).manual_seed(SEED)
    adj = torch.empty(1, n, n, dtype=torch.bool, device=device)
    for i in range(0, n, rows):
        adj[0, i : i + rows] = torch.rand(min(rows, n - i), n, generator=gen, device=device) < 0.01
    x, logits, of_x, of_adj = (
        torch.randn(shape, generator=gen, device=device)
        for shape in ((1, n, f), (1, n, k), (1, k, f), (1, k, k))
    )
    logits.requires_grad_()
    record = hierpool.soft_pool(x, adj, logits, symmetric=False, backend="triton")
    loss = (record.x * of_x).sum() + (record.adj * of_adj).sum()
    (got,) = torch.autograd.grad(loss, logits)
    s = logits.detach()[0].double().softmax(-1)
    m, mt = torch.zeros_like(s), torch.zeros_like(s)
    for i in range(0, n, rows):
        part = adj[0, i : i + rows].double()
        m[i : i + rows] = part @ s
        mt += part.T @ s[i : i + rows]
    ds = x[0].double() @ of_x[0].double().T + m @ of_adj[0].double().T + mt @ of_adj[0].double()
    expected = s * (ds - (s * ds).sum(-1, keepdim=True))
    for value, true in ((record.adj[0], s.T @ m), (got[0], expected)):
        assert_near(value, true, 2e-5)
