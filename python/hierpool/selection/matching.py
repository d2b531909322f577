"""Greedy matching of neighbouring nodes."""

from __future__ import annotations

from types import ModuleType

from torch import Tensor

from hierpool.contract import ContractOptions, Links
from hierpool.graph import RaggedGraph
from hierpool.reference.scored_pool import Selected
from hierpool.selection import _shared


def match(
    graph: RaggedGraph,
    score: Tensor | None = None,
    *,
    loops: bool = False,
    seed: int = 0,
    backend: str = "auto",
) -> Tensor:
    r"""Match neighbouring nodes in pairs, best pairs first.

    All pairs of neighbours are visited by descending score, and the nodes of a pair are matched if neither is matched
    yet. The score of nodes :math:`i` and :math:`j` is the larger one of those of the entries :math:`(i, j)` and
    :math:`(j, i)`. Among equal scores, the order is that of a hash of ``seed`` and of the indices of the two nodes in
    their graph.

    The work is :math:`O(E \log E)` in the worst case, and a few passes over the entries on most graphs.

    Args:
        graph: a batch of graphs, directed or not. Its weights are the scores unless ``score`` is given.
        score: score of each entry, ``[E]``, in the order of ``graph.row`` and ``graph.col``; an entry of -inf is never
            chosen.
        loops: whether a self-loop may match a node with itself. ``False``: self-loops are ignored.
        seed: selects the order among equal scores.
        backend: ``"auto"`` or the name of a backend.

    Returns:
        int64 ``[N]``: the node that each node is matched with; -1 for nodes without a match. In the caller's order of
        nodes. :meth:`hierpool.Assignment.from_matching` makes an assignment of it.

    Raises:
        TypeError: ``graph`` is not a :class:`hierpool.RaggedGraph`, ``score`` is not a real tensor, ``loops`` is no
            bool, or ``seed`` is no int.
        ValueError: ``score`` has the wrong shape or device, or contains NaN.

    Source: Preis, "Linear time 1/2-approximation algorithm for maximum weighted matching in general graphs", STACS
    1999, for matchings of locally best edges.
    """
    _shared.check_graph(graph)
    seed = _shared.check_seed(seed)
    if not isinstance(loops, bool):
        raise TypeError(f"loops must be True or False, got {loops!r}")
    is_symmetric = score is None and graph.is_symmetric
    score = graph.value if score is None else score
    if score is not None:
        score = _shared.as_scores("score", score, graph.num_edges, "entry of graph", graph.device)
    links = _shared.links(graph, is_symmetric)
    mate, valid = _shared.backend_of(graph.rowptr, backend).match(links, graph.ptr, score, loops, seed)
    if score is not None and not valid:
        raise _shared.nan_error("score", score)
    return _shared.callers_nodes(graph, mate)


def pool_of_pairs(
    x: Tensor,
    known: Tensor,
    shift: float,
    ptr: Tensor,
    seed: int,
    module: ModuleType,
    links: Links,
    value: Tensor | None,
    options: ContractOptions,
) -> Selected:
    """The pairs of :func:`match` with ``loops``, each a cluster as is every other node, and the graph of these, by one
    call of a backend.

    Args:
        x: of the nodes, in the order of the matrix.
        known: of the entries; scores are ``known + shift``.
        shift: see ``known``.
        ptr: first node of each graph.
        seed: see :func:`match`.
        module: the backend.
        links: the entries of the graph.
        value: their weights, detached.
        options: how the graph is contracted.
    """
    found: Selected = module.pair_pool(x, known, shift, links, value, ptr, seed, options)
    if found.assigned is None:
        assert found.of_entry is not None
        raise _shared.nan_error("score", found.of_entry)
    return found
