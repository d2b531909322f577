"""Cases of what each process makes of a whole that none of them has: drawn graphs, features, batches, fingerprints."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from hierpool import RaggedGraph, metrics
from hierpool.clustering.features import NodeInputs
from hierpool.clustering.sampling import sampled
from hierpool.clustering.shared import random_rows
from hierpool.data import load_large, stochastic_block_model
from hierpool.data.edge_list_parts import load_parts
from hierpool.data.fingerprints import fingerprint
from hierpool.data.synthetic import sharded_block_model
from hierpool.distributed import ShardedGraph
from hierpool.distributed.ranks import Ranks
from tests.support.sharded import raises

Group = dist.ProcessGroup


def entries(graph: ShardedGraph) -> Tensor:
    """Rows and columns of all processes, sorted, ``[2, E]``."""
    counts = graph.ranks.objects(graph.num_edges)
    row, col = (graph.ranks.gather(t, counts) for t in (graph.row + graph.low, graph.col))
    order = (row * graph.total_nodes + col).argsort()
    return torch.stack([row, col])[:, order]


def planted_graphs(group: Group) -> None:
    """Bit for bit those of one process, also where edges are drawn again in several rounds."""
    for options in (
        {"num_nodes": 500, "communities": 7, "mean_degree": 9.0, "mixing": 0.3, "seed": 4},
        {"num_nodes": 60, "communities": 6, "mean_degree": 9.0, "mixing": 0.0},  # all pairs in communities
        {"num_nodes": 40, "communities": 1, "mean_degree": 30.0, "mixing": 0.0, "seed": 2, "shuffle": False},
        {"num_nodes": 2, "communities": 2, "mean_degree": 1.0, "mixing": 1.0},
    ):
        whole, labels = stochastic_block_model(**options)
        graph, own = sharded_block_model(**options, group=group)
        assert graph.is_symmetric
        assert graph.value is None
        assert entries(graph).equal(whole.to_edge_index()[0]), options
        assert graph.gather(own).equal(labels)
    bad = options | {"mean_degree": 40.0}
    raises(ValueError, "there are only", lambda: sharded_block_model(**bad, group=group), 2)


def weighted(symmetric: bool = True) -> RaggedGraph:
    generator = torch.Generator().manual_seed(6)
    ends = torch.randint(90, (2, 400), generator=generator)
    weight = torch.rand(400, generator=generator)
    if symmetric:
        ends, weight = torch.cat([ends, ends.flip(0)], 1), weight.repeat(2)
    return RaggedGraph.from_edge_index(ends, 90, edge_weight=weight, symmetric=symmetric)


def fingerprints(group: Group) -> None:
    """Those of one process; other entries, weights, features or sizes have others."""
    whole = weighted()
    x = torch.randn(90, 5, generator=torch.Generator().manual_seed(1))
    graph = ShardedGraph.from_global(whole, src=None, group=group)
    own = graph.scatter(x, src=None)
    found = {fingerprint(whole, None), fingerprint(whole, x)}
    assert {fingerprint(graph, None), fingerprint(graph, own)} == found
    value = whole.value.clone()
    value[3] += 1e-3
    swapped = x.clone()
    swapped[[0, 1]] = x[[1, 0]]
    row, col = whole.row.long(), whole.col.long()
    moved = RaggedGraph.from_edge_index(
        torch.stack([row, torch.where(row == 5, (col + 1) % 90, col)]), 90, edge_weight=whole.value
    )
    others = {
        fingerprint(whole.with_value(value), x), fingerprint(whole.with_value(None), x), fingerprint(whole, swapped),
        fingerprint(whole, x[:, :4]), fingerprint(moved, x), fingerprint(moved, None),
    }  # fmt: skip
    assert len(others) == 6
    assert not others & found


def random_numbers(group: Group) -> None:
    """The numbers of one process, with ranges that begin in the middle of a block."""
    whole = RaggedGraph.from_edge_index(torch.zeros(2, 0, dtype=torch.int64), 40_001)
    graph = ShardedGraph.from_global(whole, src=None, group=group)
    expected = random_rows(whole, 3, 5)
    assert graph.gather(random_rows(graph, 3, 5)).equal(expected)
    assert abs(float(expected.mean())) < 0.02
    assert float(expected.std()) == pytest.approx(1, abs=0.02)
    assert not expected[: 1 << 14].equal(expected[1 << 14 : 2 << 14])


def batches_of_nodes(group: Group) -> None:
    """The subgraphs and the inputs of one process."""
    whole = weighted()
    graph = ShardedGraph.from_global(whole, src=None, group=group)
    x = torch.arange(90.0)[:, None]
    own = graph.scatter(x, src=None)
    given: tuple[Any, ...] = 20, 3, 1
    alone = list(sampled(whole, NodeInputs(x, x), *given))
    several = list(sampled(graph, NodeInputs(own, own), *given))
    assert len(alone) == len(several) == 5
    for (part, rows), (shard, own_rows) in zip(alone, several, strict=True):
        assert graph.ranks.gather(own_rows.features, shard.offsets.diff().tolist()).equal(rows.features)
        assert shard.total_nodes == part.num_nodes
        assert entries(shard).equal(part.to_edge_index()[0])
    (later, _), *_ = sampled(graph, NodeInputs(own, own), *given, start=4)
    assert entries(later).equal(entries(several[4][0]))


def mutual_information(group: Group) -> None:
    generator = torch.Generator().manual_seed(8)
    first, second = torch.randint(6, (2, 90), generator=generator)
    second = torch.where(torch.arange(90) < 60, first * 3, second)
    graph = ShardedGraph.from_global(weighted(), src=None, group=group)
    own, other = (graph.scatter(t, src=None) for t in (first, second))
    expected = metrics.normalized_mutual_information(first, second)
    assert metrics.normalized_mutual_information(own, other, graph=graph) == pytest.approx(
        expected, abs=1e-12
    )


def edge_lists(group: Group) -> None:
    """The graph, the ids and the notes of one process; files of other forms are left to it."""
    pytest.importorskip("numpy")
    ranks = Ranks(group)
    generator = torch.Generator().manual_seed(3)
    upper = torch.randint(60, (300, 2), generator=generator).tolist()
    shuffled = [(i, j) if place % 2 else (j, i) for place, (i, j) in enumerate(upper)]
    both = [*shuffled, *((j, i) for i, j in shuffled)]
    drawn = torch.rand(300, generator=generator).tolist()
    texts = {
        "one-way.txt": "# head\n" + "".join(f"{i} {j}\n" for i, j in shuffled),
        "both.csv": "source,target\n" + "".join(f"{3 * i + 7},{3 * j + 7}\n" for i, j in both),
        "weighted.txt": "".join(f"{i} {j} {w}\n" for (i, j), w in zip(shuffled, drawn, strict=True)),
        "ones.txt": "".join(f"{i}\t{j}\t1.0\n" for i, j in both),
        "short.txt": "5 6\n6 8\n",
        "names.txt": "a b\nb c\n",
        "gaps.txt": "0 1\n1 100000\n",
        "metis.txt": "4 4\n2 3\n1 4\n1 4\n2 3\n",
        "empty.txt": "# nothing\n",
    }
    with tempfile.TemporaryDirectory() as own:
        folder = Path(ranks.objects(own)[0])
        for name, text in texts.items() if ranks.rank == 0 else ():
            (folder / name).write_text(text)
        (folder / "zipped.gz").touch()
        dist.barrier(group=group)
        for name in ("one-way.txt", "both.csv", "weighted.txt", "ones.txt", "short.txt"):
            whole, part = load_large(str(folder / name)), load_parts(ranks, str(folder / name))
            assert part is not None
            assert (part.name, part.source, part.notes) == (whole.name, whole.source, whole.notes), name
            assert part.fingerprint == whole.fingerprint, name
            assert entries(part.graph).equal(whole.graph.to_edge_index()[0]), name
            assert (part.graph.value is None) == (whole.graph.value is None)
            if ranks.rank == 0:
                assert (part.node_ids is None) == (whole.node_ids is None)
                assert part.node_ids is None or part.node_ids.equal(whole.node_ids)
        for name in ("names.txt", "gaps.txt", "metis.txt", "empty.txt", "zipped.gz", "none.txt", "Cora"):
            assert load_parts(ranks, str(folder / name)) is None, name
        dist.barrier(group=group)
        if ranks.rank == 0:
            (folder / "short.txt").write_text("5 6 1\n6 8 -1\n")
        dist.barrier(group=group)
        raises(ValueError, "weight must be finite", lambda: load_parts(ranks, str(folder / "short.txt")), 2)
        dist.barrier(group=group)


CASES = {
    one.__name__: one
    for one in (
        planted_graphs,
        fingerprints,
        random_numbers,
        batches_of_nodes,
        mutual_information,
        edge_lists,
    )
}
