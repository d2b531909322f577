"""Cases that every process of a group runs; see :mod:`tests.support.worlds`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import hierpool
from bench.ops import exchange
from hierpool import RaggedGraph, losses, soft_pool, spmm
from hierpool.distributed import ShardedGraph, sum_gradients
from hierpool.nn import get_pooler
from tests.distributed import clusterings, commands, inputs, shares, trainings
from tests.support.sharded import (
    F,
    K,
    close,
    compare,
    draw,
    raises,
    sharded,
    sharded_results,
    whole_results,
)  # fmt: skip

Group = dist.ProcessGroup
f32, f64 = torch.float32, torch.float64


def drawn_graph(seed: int, group: Group) -> None:
    """In float64, and by turns in float32."""
    size, is_first = dist.get_world_size(group), dist.get_rank(group) == 0
    drawn = draw(seed, size)
    got = sharded_results(drawn, group)
    if is_first:  # all have the same
        compare(got, whole_results(drawn), None, torch.finfo(f64).eps)
    if (seed + size // 2) % 2:
        drawn = drawn.cast(f32)
        got = sharded_results(drawn, group)
        if is_first:
            compare(got, whole_results(drawn.cast(f64)), whole_results(drawn), torch.finfo(f32).eps)


def product(seed: int, group: Group) -> None:
    drawn, graph = sharded(seed, group)
    for transpose in (False, True):
        whole = drawn.graph
        leaves = [drawn.x.clone().requires_grad_()]
        own = [graph.scatter(drawn.x, src=None).requires_grad_()]
        shard = graph
        if whole.value is not None:
            leaves.append(whole.value.clone().requires_grad_())
            whole = whole.with_value(leaves[1], symmetric=whole.is_symmetric)
            own.append(graph.value.clone().requires_grad_())
            shard = graph.with_value(own[1], symmetric=graph.is_symmetric)
        expected = spmm(whole, leaves[0], transpose=transpose)
        got = spmm(shard, own[0], transpose=transpose)
        close(graph.gather(got), expected.detach())
        up = drawn.s[:, :F]
        grads = torch.autograd.grad((got * graph.scatter(up, src=None)).sum(), own)
        truth = torch.autograd.grad((expected * up).sum(), leaves)
        close(graph.gather(grads[0]), truth[0])
        if whole.value is not None:
            close(graph.total(grads[1].sum()), truth[1].sum())


class Net(nn.Module):
    """A layer on rows, a pooler, and a layer on pooled features."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.before = nn.Linear(F, 5)
        self.pool = get_pooler(name, in_channels=5, k=K)
        self.after = nn.Linear(5, 2)

    def forward(self, x: Tensor, graph: Any) -> Tensor:
        out = self.pool(self.before(x).tanh(), graph)
        loss: Tensor = self.after(out.x).square().sum() + sum(out.loss.values()) + out.adj.square().sum()
        return loss


def layer(name: str, group: Group) -> None:
    """Loss and gradients of all parameters, summed by hand and averaged by DDP."""
    for seed in (1, 2, 7):
        torch.manual_seed(seed)
        net = Net(name).double()
        drawn, graph = sharded(seed, group)
        expected = net(drawn.x, drawn.graph)
        truth = torch.autograd.grad(expected, [*net.parameters()], allow_unused=True, materialize_grads=True)
        one = copy.deepcopy(net)
        loss = one(graph.scatter(drawn.x, src=None), graph)
        loss.backward()
        close(loss.detach(), expected.detach())
        sum_gradients([*one.before.parameters(), *one.pool.parameters()], group)
        close([p.grad for p in one.parameters()], list(truth))
        drawn, graph = sharded(seed, group, gradients="mean")
        parallel = DistributedDataParallel(copy.deepcopy(net), process_group=group)
        parallel(graph.scatter(drawn.x, src=None), graph).backward()
        close([p.grad for p in parallel.parameters()], list(truth))


def functions(group: Group) -> None:
    """The functions in the style of PyG, and PyG's layer of DMoN."""
    for seed in (1, 2, 5):
        drawn, graph = sharded(seed, group)
        x, s = graph.scatter(drawn.x, src=None), graph.scatter(drawn.s, src=None)
        for normalize in ("pyg", "valid", None):
            whole = hierpool.diff_pool(drawn.x, drawn.graph, drawn.s, normalize=normalize)
            close(hierpool.diff_pool(x, graph, s, normalize=normalize)[:4], whole[:4])
        close(hierpool.mincut_pool(x, graph, s)[:4], hierpool.mincut_pool(drawn.x, drawn.graph, drawn.s)[:4])
        torch.manual_seed(seed)
        dmon = hierpool.DMoNPooling(F, K).double()
        close(dmon(x, graph)[1:], dmon(drawn.x, drawn.graph)[1:])
        sparse = hierpool.mincut_pool(x, graph, s, sparse_output=True).sparse
        close(sparse, hierpool.mincut_pool(drawn.x, drawn.graph, drawn.s, sparse_output=True).sparse)
        for loss in (losses.mincut_loss, losses.spectral_loss, losses.orthogonality_loss,
                     losses.cluster_loss, losses.link_pred_loss, losses.entropy_loss,
                     losses.just_balance_loss):  # fmt: skip
            close(loss(soft_pool(x, graph, s)), loss(soft_pool(drawn.x, drawn.graph, drawn.s)))


def relative_clusters(group: Group) -> None:
    """The number of clusters follows the nodes of all processes."""
    drawn, graph = sharded(4, group)
    for how in ("graph", "largest"):
        torch.manual_seed(1)
        pool = get_pooler("mincut", in_channels=F, ratio=0.3, max_nodes=60, ratio_of=how).double()
        whole = pool(drawn.x, drawn.graph)
        out = pool(graph.scatter(drawn.x, src=None), graph)
        close((out.x, out.adj, *out.loss.values()), (whole.x, whole.adj, *whole.loss.values()))
        close(out.so.out_mask, whole.so.out_mask)


def lifting(group: Group) -> None:
    """Pooled features that come back to the nodes; their gradient is that of all nodes."""
    drawn, graph = sharded(2, group)
    torch.manual_seed(3)
    pool = get_pooler("diff", in_channels=F, k=K).double()
    weight = drawn.s[:, :F]

    def step(x: Tensor, a: Any, w: Tensor) -> tuple[Tensor, Tensor]:
        x = x.clone().requires_grad_()
        out = pool(x, a)
        lifted = pool.lift(out.x.square(), out.so)
        return lifted, torch.autograd.grad((lifted * w).sum(), x)[0]

    whole = step(drawn.x, drawn.graph, weight)
    own = step(graph.scatter(drawn.x, src=None), graph, graph.scatter(weight, src=None))
    close([graph.gather(t) for t in own], [t.detach() for t in whole])


def disagreement(group: Group) -> None:
    """What differs in one process is an error in all."""
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    last = rank == size - 1 and size > 1
    drawn, graph = sharded(1, group)
    x, s = graph.scatter(drawn.x, src=None), graph.scatter(drawn.s, src=None)
    n = graph.num_nodes
    for text, given in {
        "the number of clusters must be the same in all processes, got 4 in process 0 and 3": (x, s[:, 1:]),
        "the number of features must be the same": (x[:, 1:], s),
        "dtype of s must be the same": (x, s.float()),
        "gradient of s must be the same": (x, s.clone().requires_grad_()),
    }.items():
        raises(
            ValueError, text, lambda given=given: soft_pool(*_with(graph, *(given if last else (x, s)))), size
        )
    wrong = torch.zeros(n + 1, K, dtype=f64)
    raises(
        ValueError,
        f"process {size - 1} of {size}: s must have a row for each",
        lambda: soft_pool(x, graph, wrong if last else s),
        size,
    )
    raises(ValueError, "dtype of x must be", lambda: spmm(graph, x.float() if last else x), size)
    raises(ValueError, "options must be", lambda: soft_pool(x, graph, s, entropy=not last), size)
    make = ShardedGraph.from_edge_index
    none = torch.empty(2, 0, dtype=torch.int64)
    raises(ValueError, "symmetric must be", lambda: make(none, 1, symmetric=last, group=group), size)
    one = torch.ones(0)
    raises(
        ValueError, "dtype of edge_weight",
        lambda: make(none, 1, edge_weight=one.double() if last else one, group=group), size,
    )  # fmt: skip
    for kind, text, edges, options in (
        (ValueError, "targets in edge_index must lie between 0 and", torch.tensor([[size - 1], [99]]), {}),
        (ValueError, "sources in edge_index must lie between", torch.tensor([[99], [0]]), {}),
        (TypeError, "edge_index must be an int64", none.double(), {}),
        (ValueError, "gradients must be the same", none, {"gradients": "mean"}),
        (ValueError, "num_nodes must be an integer", none, {"num_nodes": -1}),
    ):
        own = {"edge_index": none, "num_nodes": 1} | ({"edge_index": edges, **options} if last else {})
        raises(kind, text, lambda own=own: make(**own, group=group), size)
    soft_pool(x, graph, s)  # the group is as usable as before


def _with(graph: ShardedGraph, x: Tensor, s: Tensor) -> tuple[Any, ...]:
    return x, graph, s


def bad_arguments(group: Group) -> None:
    """Errors that a single process has, too."""
    drawn = draw(1, 1)
    n = drawn.graph.num_nodes
    size = dist.get_world_size(group)

    def expect(kind: type[Exception], text: str, **options: Any) -> None:
        given = {"graph": drawn.graph, "src": None, "group": group} | options
        raises(kind, text, lambda: ShardedGraph.from_global(**given), 2)

    expect(TypeError, "graph must be a RaggedGraph", graph=drawn.x)
    expect(ValueError, f"parts must lie between 0 and {size - 1}", parts=torch.full((n,), size))
    expect(ValueError, "parts must have shape", parts=torch.zeros(n + 1, dtype=torch.int64))
    expect(TypeError, "parts must be an int64 tensor", parts=torch.zeros(n))
    expect(ValueError, "src must lie between", src=size)
    expect(ValueError, "gradients must be 'sum' or 'mean'", gradients="max")
    _, graph = sharded(1, group)
    x, s = graph.scatter(drawn.x, src=None), graph.scatter(drawn.s, src=None)
    raises(TypeError, "ShardedGraph", lambda: hierpool.diff_pool(x, graph, s, link_loss="bce"), 2)
    raises(ValueError, "mask must be None", lambda: soft_pool(x, graph, s, mask=x[:, 0]), 2)
    for name in ("hosc", "acc"):
        pool = get_pooler(name, in_channels=F, k=K).double()
        raises(TypeError, "adj must not be a ShardedGraph", lambda pool=pool: pool(x, graph), 2)
    raises(TypeError, "ShardedGraph", lambda: get_pooler("topk", in_channels=F).double()(x, graph), 2)
    raises(ValueError, "rows, those of all processes", lambda: graph.scatter(s[:0], src=None), 2 if n else 1)


def repeatable(group: Group) -> None:
    """The same bits in every run and in every process."""
    for dtype in (f32, f64):
        drawn, _ = sharded(3, group)
        drawn = drawn.cast(dtype)
        one, two = (sharded_results(drawn, group) for _ in range(2))
        for kind in range(2):
            for name, value in one[kind].items():
                assert torch.equal(value, two[kind][name]), name
        copies: list[Any] = [None] * dist.get_world_size(group)
        dist.all_gather_object(copies, dict(one.fields), group=group)
        for other in copies:
            assert all(torch.equal(other[name], value) for name, value in one.fields.items())


def subgraph(group: Group) -> None:
    """Some of the nodes, without a new plan."""
    for seed in (1, 2, 3, 6):
        drawn, graph = sharded(seed, group)
        n = graph.total_nodes
        callers = graph.ranks.gather(graph.nodes, graph.offsets.diff().tolist())
        kept = torch.rand(n, generator=torch.Generator().manual_seed(seed)) < 0.6  # by the caller's index
        part = graph.induced(kept[callers])
        ends, value = drawn.graph.to_edge_index()
        inside = kept[ends].all(0)
        whole = RaggedGraph.from_edge_index(
            ends[:, inside], n, edge_weight=None if value is None else value[inside],
            batch=drawn.graph.batch, num_graphs=drawn.graph.num_graphs,
        )  # fmt: skip
        x = drawn.x * kept[:, None]
        y = spmm(part, x[part.nodes])
        close(y, spmm(whole, x)[part.nodes])
        assert part.total_nodes == int(kept.sum())
        sizes = drawn.graph.batch[kept].bincount(minlength=drawn.graph.num_graphs)
        assert part.graph_sizes.tolist() == sizes.tolist()


def dtensor(group: Group) -> None:
    """Rows of a DTensor that is sharded as torch.chunk does."""
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import Shard, distribute_tensor

    whole, _ = exchange.draw("planted", 1301, 6.0)
    graph = ShardedGraph.from_global(whole, src=None, group=group)
    mesh = DeviceMesh.from_group(group, "cpu")
    x, s = torch.randn(1301, F + K, generator=torch.Generator().manual_seed(1), dtype=f64).split([F, K], 1)
    rows = [distribute_tensor(t.contiguous(), mesh, [Shard(0)]) for t in (x, s)]
    assert [len(t.to_local()) for t in rows] == [graph.num_nodes] * 2
    close(soft_pool(rows[0], graph, rows[1]).x, soft_pool(x, whole, s).x)


def half(group: Group) -> None:
    """bfloat16 rows travel as they are; sums are float32."""
    drawn, graph = sharded(1, group)
    graph = graph.with_value(None)
    whole = drawn.graph.with_value(None)
    x, s = drawn.x.bfloat16(), drawn.s.bfloat16()
    own = [graph.scatter(t, src=None).requires_grad_() for t in (x, s)]
    leaves = [x.clone().requires_grad_(), s.clone().requires_grad_()]
    got, expected = soft_pool(own[0], graph, own[1]), soft_pool(leaves[0], whole, leaves[1])
    assert (got.x.dtype, got.s.dtype, got.adj.dtype) == (torch.bfloat16, torch.bfloat16, f32)
    torch.testing.assert_close(got.adj, expected.adj, rtol=1e-5, atol=1e-5)
    up = torch.autograd.grad(got.adj.square().sum() + got.x.sum(), own)
    truth = torch.autograd.grad(expected.adj.square().sum() + expected.x.sum(), leaves)
    close = torch.testing.assert_close
    close([graph.gather(t) for t in up], list(truth), rtol=3e-2, atol=3e-2)


def exchanged_bytes(group: Group) -> None:
    """The bytes that are counted are those of the formula, for every graph and partition."""
    size = dist.get_world_size(group)
    for name in exchange.GRAPHS:
        whole, labels = exchange.draw(name, 2048, 8.0)
        for partition in exchange.PARTITIONS:
            parts = exchange.parts_of(whole, labels, partition, size)
            for graph in (whole, RaggedGraph.from_csr(whole.rowptr, whole.col, symmetric=False)):
                shard = ShardedGraph.from_global(graph, parts=parts, src=None, group=group)
                sent, formula = exchange.count_step(shard, exchange.Step(8, 5, size))
                assert abs(sent - formula) <= 0.05 * formula, (name, partition, sent, formula)
                assert (size == 1) == (sent == 0)


CASES: dict[str, Callable[[Group], None]] = {
    **{f"drawn-{seed}": partial(drawn_graph, seed) for seed in range(60)},
    **{f"spmm-{seed}": partial(product, seed) for seed in range(1, 8)},
    **{f"layer-{name}": partial(layer, name) for name in ("diff", "mincut", "dmon", "jb")},
    **{f"clustering-{name}": case for name, case in clusterings.CASES.items()},
    **{one.__name__: one for one in (inputs.split_edges, inputs.files)},
    **{f"shares-{name}": case for name, case in shares.CASES.items()},
    **{f"command-{name}": case for name, case in commands.CASES.items()},
    **{f"training-{name}": case for name, case in trainings.CASES.items()},
    **{
        one.__name__: one
        for one in (
            functions, relative_clusters, lifting, disagreement, bad_arguments, repeatable, subgraph,
            dtensor, half, exchanged_bytes,
        )
    },
}  # fmt: skip

# The others run in groups of every size. Those that compute everything twice are slow.
SIZES_OF = {
    f"{kind}-{name}": (3,)
    for kind, module in (("command", commands), ("clustering", clusterings), ("training", trainings))
    for name in module.CASES
}
