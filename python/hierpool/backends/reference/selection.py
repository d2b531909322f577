"""Selection of nodes and pairs in plain PyTorch, on any device."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool._hashes import mix_pair, node_hash, unsigned_order
from hierpool.backends.reference._multilevel import multilevel_clusters as multilevel_clusters
from hierpool.backends.reference._spectral import spectral_sign as spectral_sign
from hierpool.backends.reference.graph_assign import by_heads, by_kept
from hierpool.backends.reference.graph_contract import contract
from hierpool.contract import Assigned, Clusters, ContractOptions, Links, ranges_of
from hierpool.reference.scored_pool import Scored, Selected, scores_of


def match(links: Links, ptr: Tensor, score: Tensor | None, loops: bool, seed: int) -> tuple[Tensor, bool]:
    """The node that each node is matched with, or -1; whether no score is NaN. Waits for the device in each round."""
    if score is not None and bool(score.isnan().any()):
        return ptr, False
    row, col, source = _both_directions(links)
    if score is not None:
        score = score[source]
    n = links.rowptr.numel() - 1
    usable = torch.ones_like(row, dtype=torch.bool) if score is None else score > -torch.inf
    usable = usable if loops else usable & (row != col)
    row, col = row[usable], col[usable]
    rank = _ranks(row, col, n, ptr, None if score is None else score[usable], seed)
    mate = torch.full((n,), -1, device=row.device)
    while row.numel():
        best = torch.full((n,), torch.iinfo(torch.int64).max, device=row.device)
        best = best.scatter_reduce(0, row, rank, "amin")
        chosen = (rank == best[row]) & (rank == best[col])
        mate[row[chosen]] = col[chosen]
        free = (mate[row] < 0) & (mate[col] < 0)
        row, col, rank = row[free], col[free], rank[free]
    return mate, True


def mis(
    links: Links, ptr: Tensor, priority: Tensor | None, hops: int, seed: int, greedy: bool = False
) -> tuple[Tensor, bool]:
    """The first node of the set within ``hops`` edges of each node, if nodes are visited by descending priority, equal
    ones in the order of their hashes; and whether no priority is NaN. Waits for the device in every round.

    ``greedy``: the priority is divided by the number of walks of at most one edge that end in the node.
    """
    if greedy and priority is not None:
        ending = links.rowptr if links.rowptr_t is None else links.rowptr_t
        priority = priority / (ending.diff().to(priority.dtype) + 1)
    row, col, _ = _both_directions(links)
    n = links.rowptr.numel() - 1
    order = unsigned_order(node_hash(ptr, ranges_of(ptr, n), seed)).argsort()
    if priority is not None:
        order = order[priority[order].argsort(descending=True, stable=True)]
        if bool(priority.isnan().any()):
            return order, False
    place = torch.empty_like(order).index_copy(0, order, torch.arange(n, device=order.device))
    unset = torch.full_like(place, n)

    def nearest(of: Tensor) -> Tensor:
        """The smallest of ``of`` within ``hops`` edges of each node."""
        for _ in range(hops):
            of = of.scatter_reduce(0, row, of[col], "amin")
        return of

    members = torch.zeros_like(place, dtype=torch.bool)
    live = torch.ones_like(members)
    while bool(live.any()):
        # A live node that is the first live one of its surroundings is a member.
        members |= live & (nearest(torch.where(live, place, unset)) == place)
        live = nearest(torch.where(members, place, unset)) == n
    return order[nearest(torch.where(members, place, unset))] if n else place, True


def mis_pool(
    rows: Scored,
    links: Links,
    value: Tensor | None,
    ptr: Tensor,
    priority: Tensor | None,
    greedy: bool,
    hops: int,
    seed: int,
    options: ContractOptions,
) -> Selected:
    """The clusters of the nodes that have one head in :func:`mis`, and their graph.

    Args:
        rows: of the nodes, in float32 or float64, with their scores.
        links, ptr, greedy, hops, seed: see :func:`mis`.
        value: of the entries of ``links``, detached; ``None``: 1.
        priority: by which nodes are visited; ``None``: the score.
        options: how the graph is contracted.
    """
    score = _scores(rows)
    head, valid = mis(links, ptr, score if priority is None else priority, hops, seed, greedy)
    return _pooled(score, by_heads(head, ptr, None, False) if valid else None, links, value, options)


def topk_pool(
    rows: Scored,
    links: Links,
    value: Tensor | None,
    ptr: Tensor,
    over: int,
    under: int,
    most: int,
    options: ContractOptions,
) -> Selected:
    """The nodes that :func:`topk` keeps by their scores, each a cluster, and their graph; see :func:`mis_pool`."""
    score = _scores(rows)
    kept, _, valid = topk(score, ptr, None, over, under, most)
    found = by_kept(kept, ptr, None, score.numel()) if valid else None
    return _pooled(score, None if found is None else found[0], links, value, options)


def pair_pool(
    x: Tensor,
    known: Tensor,
    shift: float,
    links: Links,
    value: Tensor | None,
    ptr: Tensor,
    seed: int,
    options: ContractOptions,
) -> Selected:
    """The clusters of the pairs that :func:`match` finds by the scores ``known + shift``, and their graph.

    Args:
        x: rows of the nodes.
        known: of the entries of ``links``, in float32 or float64.
        shift: added to them.
        links, ptr, seed: see :func:`match`. An entry on the diagonal matches its node with itself.
        value, options: see :func:`mis_pool`.

    Returns:
        ``score`` is that of the pair of each node, if ``y`` was computed with it.
    """
    score = known + shift
    mate, valid = match(links, ptr, score, True, seed)
    found = by_heads(mate, ptr, None, True) if valid else None
    selected = _pooled(score, found, links, value, options)
    return selected._replace(of_entry=score, mate=mate.to(links.col.dtype))


def _scores(rows: Scored) -> Tensor:
    x, weight, bias, activation, is_unit, _ = rows
    with torch.no_grad():
        return scores_of(x, weight, bias, activation, is_unit)


def _pooled(
    score: Tensor, assigned: Assigned | None, links: Links, value: Tensor | None, options: ContractOptions
) -> Selected:
    if assigned is None:
        return Selected(score, None, None, None)
    clusters = Clusters(*(t.to(links.col.dtype) for t in assigned.clusters))
    matrix = contract(links.rowptr, links.col, value, clusters, assigned.cluster_ptr, options)
    return Selected(score, None, assigned, matrix)


def topk(
    score: Tensor, ptr: Tensor, order: Tensor | None, over: int, under: int, most: int
) -> tuple[Tensor, Tensor, bool]:
    """The first ``min(most, ceil(n * over / under))`` nodes of each graph by descending score.

    Args:
        score: of each of the caller's nodes, float32 or float64 ``[N]``.
        ptr: first row of each graph, int64 ``[B + 1]``.
        order: the caller's node of each row; ``None``: the same.
        over, under, most: how many of the ``n`` nodes of a graph.

    Returns:
        The caller's nodes, graph by graph, the first of each graph, and whether no score is NaN.
    """
    counts = (-(-ptr.diff() * over // under)).clamp(max=most)
    kept = _first_rows(score if order is None else score[order], ptr, counts)
    first = torch.cat([ptr[:1], counts.cumsum(0)])
    return kept if order is None else order[kept], first, not bool(score.isnan().any())


def _first_rows(score: Tensor, ptr: Tensor, counts: Tensor) -> Tensor:
    """The first ``counts[b]`` rows of each graph by descending score."""
    graph = ranges_of(ptr, score.numel())
    order = score.argsort(descending=True, stable=True)
    order = order[graph[order].argsort(stable=True)]
    place = torch.arange(score.numel(), device=score.device) - ptr[graph]
    return order[place < counts[graph]]


def components(rowptr: Tensor, col: Tensor, usable: Tensor | None) -> Tensor:
    """The first node of the connected component of each node. Waits for the device in every round."""
    n = rowptr.numel() - 1
    row, col = ranges_of(rowptr, col.numel()).long(), col.long()
    if usable is not None:
        row, col = row[usable], col[usable]
    first = torch.arange(n, device=row.device)
    while row.numel():
        one, other = first[row], first[col]
        apart = one != other
        row, col, one, other = row[apart], col[apart], one[apart], other[apart]
        # Every first node but the smallest of its component joins a smaller one, and all nodes follow.
        first = first.scatter_reduce(0, torch.maximum(one, other), torch.minimum(one, other), "amin")
        while not torch.equal(first, following := first[first]):
            first = following
    return first


def propagate(rowptr: Tensor, col: Tensor, label: Tensor, hops: int) -> Tensor:
    """The label of each node after some rounds in which labels spread from the columns of rows without one, or -1."""
    row, col = ranges_of(rowptr, col.numel()).long(), col.long()
    n = int(label.max()) + 1 if label.numel() else 1  # labels
    for _ in range(min(hops, label.numel())):
        spreads = (label[row] < 0) & (label[col] >= 0)
        row_now = row[spreads]
        if not row_now.numel():
            break
        pair, count = torch.unique(row_now * n + label[col[spreads]], return_counts=True)
        most = torch.zeros_like(label).scatter_reduce(0, pair // n, count, "amax")
        best = pair[count == most[pair // n]]
        label = label.scatter(0, best // n, n).scatter_reduce(0, best // n, best % n, "amin")
        open_row = label[row] < 0
        row, col = row[open_row], col[open_row]
    return label


def topk_in_batch(score: Tensor, batch: Tensor, over: int, under: int, most: int) -> tuple[Tensor, bool]:
    """:func:`topk` with ``min(most, ceil(n * over / under))`` nodes of each graph, and whether no score is NaN."""
    sizes = torch.bincount(batch)
    order = batch.argsort(stable=True)
    ptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    kept = _first_rows(score[order], ptr, (-(-sizes * over // under)).clamp(max=most))
    return order[kept], not bool(score.isnan().any())


def _both_directions(links: Links) -> tuple[Tensor, Tensor, Tensor]:
    """Row, column and entry of A of all entries of A, and of its transpose if it is given."""
    rowptr, col, rowptr_t, col_t, source = links
    rows, cols = ranges_of(rowptr, col.numel()).long(), col.long()
    entry = torch.arange(col.numel(), device=col.device)
    if rowptr_t is None or col_t is None or source is None:
        return rows, cols, entry
    rows_t = ranges_of(rowptr_t, col.numel()).long()
    return torch.cat([rows, rows_t]), torch.cat([cols, col_t.long()]), torch.cat([entry, source.long()])


def _ranks(row: Tensor, col: Tensor, n: int, ptr: Tensor, score: Tensor | None, seed: int) -> Tensor:
    """The place of each entry in the order of matching, equal for all entries of one pair."""
    hashed = node_hash(ptr, ranges_of(ptr, n), seed)
    low, high = torch.minimum(row, col), torch.maximum(row, col)
    pair, number = torch.unique(low * max(n, 1) + high, return_inverse=True)
    first, second = pair // max(n, 1), pair % max(n, 1)
    order = unsigned_order(mix_pair(hashed[first] + hashed[second])).argsort(stable=True)
    if score is not None:
        best = score.new_full(pair.shape, -torch.inf).scatter_reduce(0, number, score, "amax")
        order = order[best[order].argsort(descending=True, stable=True)]
    places = torch.arange(pair.numel(), device=row.device)
    return torch.empty_like(places).index_copy(0, order, places)[number]
