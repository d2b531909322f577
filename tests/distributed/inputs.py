"""Cases of graphs that come in parts: edges that are split by source, and files."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from hierpool import RaggedGraph, spmm
from hierpool.data import load_sharded
from hierpool.distributed import ShardedGraph
from tests.support.sharded import F, close, raises, sharded

Group = dist.ProcessGroup
f64 = torch.float64


def split_edges(group: Group) -> None:
    """Edges that are split by source, with duplicates, several graphs and a process without nodes."""
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    generator = torch.Generator().manual_seed(size)
    counts = [0 if r == 1 else 4 + r for r in range(size)]
    n, first = sum(counts), sum(counts[:rank])
    batch = (torch.arange(n) >= 3).long()
    ends = torch.randint(n, (2, 60), generator=generator)
    ends = ends[:, batch[ends[0]] == batch[ends[1]]]
    for symmetric in (False, True):
        edges = torch.cat([ends, ends.flip(0)], 1) if symmetric else ends
        for weight in (None, torch.arange(edges.size(1)).double() % (edges.size(1) // (1 + symmetric)) + 1):
            whole = RaggedGraph.from_edge_index(edges, n, edge_weight=weight, batch=batch)
            mine = (edges[0] >= first) & (edges[0] < first + counts[rank])
            graph = ShardedGraph.from_edge_index(
                edges[:, mine], counts[rank], batch=batch[first : first + counts[rank]],
                edge_weight=None if weight is None else weight[mine], group=group,
            )  # fmt: skip
            assert graph.is_symmetric == whole.is_symmetric == symmetric
            assert graph.total_edges == whole.num_edges
            assert graph.graph_sizes.tolist() == whole.ptr.diff().tolist()
            x = torch.randn(n, F, generator=generator, dtype=f64)
            close(graph.gather(spmm(graph, graph.scatter(x, src=None))), spmm(whole, x))
            close(graph.gather(graph.degree), whole.degree.to(graph.degree.dtype))
    crossing = torch.tensor([[0], [3]])
    raises(
        ValueError, "must not join two graphs",
        lambda: ShardedGraph.from_edge_index(
            crossing[:, : 1 if rank == 0 else 0], counts[rank], batch=batch[first : first + counts[rank]], group=group
        ), 2,
    )  # fmt: skip
    raises(
        ValueError, "batch must ascend",
        lambda: ShardedGraph.from_edge_index(
            crossing[:, :0], counts[rank], batch=batch[first : first + counts[rank]].flip(0) - rank, group=group
        ), 2,
    )  # fmt: skip


def files(group: Group) -> None:
    """Every form of a file in parts, and files that are cut short."""
    np = pytest.importorskip("numpy")
    rank = dist.get_rank(group)
    with tempfile.TemporaryDirectory() as own:
        folder = Path(sharded(1, group)[1].ranks.objects(own)[0])
        generator = torch.Generator().manual_seed(7)
        for n, e in ((40, 300), (3, 2)):
            ends = torch.randint(n, (2, e), generator=generator)
            ends[:, -1] = n - 1
            weight = torch.randint(1, 9, (e,), generator=generator).double()
            if rank == 0:
                np.save(folder / "edges.npy", ends.numpy())
                lines = [f"{i} {j}\n" for i, j in ends.t().tolist()]
                (folder / "edges.txt").write_text("# comment\n" + "".join(lines))
                lines = [f"{i},{j},{w}" for (i, j), w in zip(ends.t().tolist(), weight.tolist(), strict=True)]
                (folder / "edges.csv").write_text("source,target,weight\n" + "\n".join(lines))
                whole = RaggedGraph.from_edge_index(ends, n, edge_weight=weight)
                arrays = {
                    "format": b"csr", "shape": np.array([n, n]), "data": whole.value.numpy(),
                    "indices": whole.col.numpy(), "indptr": whole.rowptr.numpy(),
                }  # fmt: skip
                np.savez(folder / "matrix.npz", **arrays)
                np.savez_compressed(folder / "small.npz", **arrays)
            dist.barrier(group=group)
            for name in ("edges.npy", "edges.txt", "edges.csv", "matrix.npz", "small.npz"):
                for both in (False, True):
                    given = torch.cat([ends, ends.flip(0)], 1) if both else ends
                    weights = None if name in ("edges.npy", "edges.txt") else weight.float().repeat(1 + both)
                    expected = RaggedGraph.from_edge_index(given, n, edge_weight=weights)
                    graph = load_sharded(folder / name, both_directions=both, group=group)
                    assert graph.total_edges == expected.num_edges, name
                    x = torch.randn(n, F, generator=generator)
                    torch.testing.assert_close(
                        graph.gather(spmm(graph, graph.scatter(x, src=None))), spmm(expected, x), msg=name
                    )
            dist.barrier(group=group)
        if rank == 0:
            for name in ("edges.npy", "matrix.npz"):
                content = (folder / name).read_bytes()
                (folder / name).write_bytes(content[: len(content) - 20])
            (folder / "edges.csv").write_text("0,1,1\n1,2")
        dist.barrier(group=group)
        for name, text in {
            "edges.npy": "cut short",
            "matrix.npz": "cut short",
            "edges.csv": "expected 3 columns",
        }.items():
            raises(ValueError, text, lambda name=name: load_sharded(folder / name, group=group), 2)
        raises(OSError, "No such file", lambda: load_sharded(folder / "none.txt", group=group), 2)
        raises(
            ValueError,
            "num_nodes must be at least 3",
            lambda: load_sharded(folder / "edges.txt", num_nodes=2, group=group),
            2,
        )
        dist.barrier(group=group)
