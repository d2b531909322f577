"""Peak memory of a step, forward and backward: nothing of N x N, of edges times clusters, or beyond a gradient.

All steps are measured by ``measure``, in processes of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import hierpool
from bench.harness.memory import peak_of
from hierpool import RaggedGraph
from hierpool.nn import MinCutPool, SAGEConv

FLOAT = 4  # bytes
Step = Callable[[], object]


def dense(dtype: str, n: int, holes: bool = False) -> tuple[Tensor, Tensor | None]:
    """A of one graph, made row by row, and a mask."""
    adj = torch.empty(1, n, n, dtype=getattr(torch, dtype))
    for row in adj[0]:
        row.random_(0, 2)
    return adj, torch.arange(n)[None] % 50 != 7 if holes else None


def scattered(n: int, degree: int, symmetric: bool, weighted: bool) -> RaggedGraph:
    """A graph with its transpose made."""
    edges = torch.randint(0, n, (2, n * degree // 2 if symmetric else n * degree))
    edges = torch.cat([edges, edges.flip(0)], 1) if symmetric else edges
    graph = RaggedGraph.from_edge_index(edges, n, edge_weight=torch.rand(edges.size(1)) if weighted else None)
    assert graph.is_symmetric == symmetric
    graph.transposed()
    return graph


def soft_pool(dtype: str, holes: bool, symmetric: bool | None, backend: str) -> Step:
    n = 6000
    adj, mask = dense(dtype, n, holes)
    x, s = (torch.randn(1, n, width, requires_grad=True) for width in (4, 8))

    def step() -> None:
        out = hierpool.soft_pool(x, adj, s, mask=mask, symmetric=symmetric, backend=backend)
        fields = (out.link_norm, out.total_entropy, out.adj.sum(), out.x.sum(), out.volume.sum())
        torch.autograd.grad(torch.stack(fields).sum(), (x, s))

    return step


def diff_pool(n: int, degree: int, k: int, symmetric: bool, backend: str) -> Step:
    graph = scattered(n, degree, symmetric, not symmetric)
    value = None if graph.value is None else graph.value.requires_grad_(not symmetric)
    graph = graph.with_value(value, symmetric=symmetric)
    leaves = [torch.randn(n, width, requires_grad=True) for width in (8, k)]

    def step() -> None:
        out = hierpool.diff_pool(leaves[0], graph, leaves[1], backend=backend)
        assert out.link_loss is not None
        assert out.ent_loss is not None
        loss = out.link_loss + out.ent_loss + out.x.sum() + out.adj.square().sum()
        torch.autograd.grad(loss, [*leaves, *([] if symmetric or value is None else [value])])

    return step


def link_bce(kind: str, holes: bool, backend: str) -> Step:
    n = 4000
    adj, mask = (scattered(n, 8, False, False), None) if kind == "csr" else dense(kind, n, holes)
    s = torch.rand(*((n,) if kind == "csr" else (1, n)), 8).softmax(-1).requires_grad_()
    return lambda: torch.autograd.grad(hierpool.link_bce(s, adj, mask=mask, backend=backend), s)


def total_variation(kind: str, learned: bool, backend: str) -> Step:
    leaves = []
    if kind == "csr":
        n, k = 20_000, 32
        graph = scattered(n, 50, False, True)
        assert graph.value is not None
        adj: Any = graph.with_value(graph.value.requires_grad_(learned), symmetric=False)
        adj.transposed()
        leaves += [adj.value] if learned else []
    else:
        n, k = 4000, 8
        adj, _ = dense(kind, n)
    s = torch.rand(*((n, k) if kind == "csr" else (1, n, k)), requires_grad=True)

    def step() -> None:
        out = hierpool.total_variation(s, adj, backend=backend)
        torch.autograd.grad(out.variation.sum(), [s, *leaves])

    return step


SHARED_GRAPHS, SHARED_NODES = 8, 1500


def shared(name: str, backend: str) -> Step:
    """One matrix for several graphs, each with a mask of its own."""
    b, n, f, k = SHARED_GRAPHS, SHARED_NODES, 4, 3
    adj = dense("float32", n)[0][0]
    x = torch.randn(b, n, f, requires_grad=True)
    s = torch.randn(b, n, k, requires_grad=True)
    mask = torch.arange(n) < torch.arange(n - b, n)[:, None]
    layers = {
        "DMoNPooling": hierpool.DMoNPooling(f, k),
        "SAGEConv": SAGEConv(f, k),
        "MinCutPool": MinCutPool(f, k),
    }
    functions: dict[str, Callable[[], Any]] = {
        "soft_pool": lambda: hierpool.soft_pool(x, adj, s, mask=mask, backend=backend)[1:6],
        "dense_diff_pool": lambda: hierpool.dense_diff_pool(x, adj, s, mask, backend=backend),
        "dense_mincut_pool": lambda: hierpool.dense_mincut_pool(x, adj, s, mask, backend=backend),
        "link_bce": lambda: [hierpool.link_bce(s.softmax(-1), adj, mask=mask, backend=backend)],
        "total_variation": lambda: [hierpool.total_variation(s, adj, mask=mask, backend=backend).variation],
        "walk_cut": lambda: hierpool.walk_cut(s, adj, mask=mask, backend=backend),
        "DMoNPooling": lambda: layers["DMoNPooling"](x, adj, mask),
        "SAGEConv": lambda: [layers["SAGEConv"](x, adj, mask)],
        "MinCutPool": lambda: [
            (out := layers["MinCutPool"](x, adj, mask=mask)).x,
            out.adj,
            *out.loss.values(),
        ],
    }
    run = functions[name]

    def step() -> None:
        total = torch.stack([t.sum() for t in run()]).sum()
        torch.autograd.grad(total, (x, s), allow_unused=True)

    return step


SHARED = (
    "soft_pool", "dense_diff_pool", "dense_mincut_pool", "link_bce", "total_variation", "walk_cut", "DMoNPooling",
    "SAGEConv", "MinCutPool",
)  # fmt: skip

NORM_ROWS = 2_000_000


def asymmetric_norm(dtype: str, backend: str) -> Step:
    s = torch.empty(1, NORM_ROWS, 4, dtype=getattr(torch, dtype)).uniform_().requires_grad_()
    return lambda: torch.autograd.grad(hierpool.asymmetric_norm(s, backend=backend), s)


def limit_of_diff_pool(n: int, degree: int, k: int, symmetric: bool) -> int:
    """S, A S and their gradient, and that of x; of weights their gradient, and copies in the order of the transpose.
    Beside them tiles, and the sums of segments."""
    edges = n * degree
    limit = FLOAT * (3 * n * k + n * 8) + (0 if symmetric else 16 * edges) + 3 * 2**19
    assert limit < min(FLOAT * edges * k, FLOAT * n * n) * (0.8 if n == 1000 else 0.25)
    return limit


# Of N x N float32 a quarter: the tensors of N x K and the tiles of 256 rows take a tenth. Of link_bce a twentieth:
# 3 MB, of which the five matrices of N x K take 0.6 MB. Of the variation over edges what is given and returned, and
# the gradient of the weights and a copy of these in the order of the transpose; edges times clusters are 128 MB. Of
# the norm the gradient itself.
STEPS: dict[str, tuple[Callable[[str], Step], float]] = {
    **{
        f"soft_pool-{dtype}-holes={holes}-{symmetric}": (
            partial(soft_pool, dtype, holes, symmetric), 6000 * 6000 * FLOAT / 4
        )
        for dtype, holes, symmetric in (
            ("float32", False, None), ("float32", True, True), ("uint8", True, None), ("uint8", False, True)
        )
    },
    **{
        f"link_bce-{kind}-holes={holes}": (partial(link_bce, kind, holes), 4000 * 4000 * FLOAT / 20)
        for kind, holes in (("float32", False), ("float32", True), ("uint8", False), ("csr", False))
    },
    **{
        f"total_variation-{kind}": (partial(total_variation, kind, False), 4000 * 4000 * FLOAT / 30)
        for kind in ("float32", "uint8")
    },
    **{
        f"total_variation-csr-learned={learned}": (
            partial(total_variation, "csr", learned),
            FLOAT * (2 * 20_000 * 32 + 3 * 1_000_000 * learned) + 2**20,
        )
        for learned in (False, True)
    },
    # A masked copy of the one matrix, where it is multiplied by torch; the matrices of all graphs are eight times that.
    **{
        f"shared-{name}": (partial(shared, name), 2.5 * SHARED_NODES**2 * FLOAT) for name in SHARED
    },
    **{
        f"asymmetric_norm-{dtype}": (partial(asymmetric_norm, dtype), 1.3 * NORM_ROWS * 4 * size)
        for dtype, size in (("float32", 4), ("bfloat16", 2))
    },
    **{
        f"diff_pool-{n}-{symmetric}": (
            partial(diff_pool, n, degree, k, symmetric),
            limit_of_diff_pool(n, degree, k, symmetric),
        )
        for n, degree, k in ((1000, 10, 100), (20_000, 50, 32))
        for symmetric in (True, False)
    },
}  # fmt: skip


def measure() -> None:
    """Print the peak of every step after the first, each in a process that has done nothing but import."""
    for name, (make, _) in STEPS.items():
        if os.fork() == 0:
            torch.set_num_threads(2)
            torch.manual_seed(0)
            step = make("native")
            step()
            print(name, peak_of(step), flush=True)
            os._exit(0)
        os.wait()


@pytest.fixture(scope="module")
def peaks() -> dict[str, int]:
    code = "from tests.ops.test_memory import measure; measure()"
    given_back = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed, to the system, at once
    environment = os.environ | given_back
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    found = dict(line.split() for line in result.stdout.splitlines())
    assert found.keys() == STEPS.keys(), result.stderr
    return {name: int(peak) for name, peak in found.items()}


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc, on Linux only")
@pytest.mark.parametrize("name", STEPS)
@pytest.mark.usefixtures("native")
def test_peak_memory_of_a_step(name: str, request: pytest.FixtureRequest) -> None:
    _, limit = STEPS[name]
    assert request.getfixturevalue("peaks")[name] < limit
