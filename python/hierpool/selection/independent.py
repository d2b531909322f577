"""Maximal independent sets."""

from __future__ import annotations

from types import ModuleType

from torch import Tensor

from hierpool.contract import ContractOptions, Links
from hierpool.graph import RaggedGraph
from hierpool.reference.scored_pool import Scored, Selected
from hierpool.selection import _shared


def mis(
    graph: RaggedGraph, priority: Tensor | None = None, *, hops: int = 1, seed: int = 0, backend: str = "auto"
) -> Tensor:
    r"""The first maximal ``hops``-independent set of nodes, and the member of the set that each node belongs to.

    Nodes are visited by descending priority. A node that is farther than ``hops`` edges from all members of the set
    becomes a member. So every node is within ``hops`` edges of a member; it belongs to the first of these. Edges are
    taken without direction. Among equal priorities, the order is that of a hash of ``seed`` and of the index of the
    node in its graph.

    The work is :math:`O(N \log N + E \cdot \mathrm{hops})`.

    Args:
        graph: a batch of graphs; its weights are ignored.
        priority: ``[N]``, in the caller's order of nodes; ``None``: all are equal.
        hops: at least 1.
        seed: selects the order among equal priorities.
        backend: ``"auto"`` or the name of a backend.

    Returns:
        int64 ``[N]``: the member of the set that each node belongs to, itself for members. In the caller's order.
        :meth:`hierpool.Assignment.from_heads` makes an assignment of it.

    Raises:
        TypeError: ``graph`` is not a :class:`hierpool.RaggedGraph`, ``priority`` is not a real tensor, or ``hops`` or
            ``seed`` is no int.
        ValueError: ``hops`` is less than 1, or ``priority`` has the wrong shape or device, or contains NaN.

    Source: Bacciu, Conte, Landolfi, "Generalizing Downsampling from Regular Data to Graphs", AAAI 2023
    (arXiv:2208.03523).
    """
    _shared.check_graph(graph)
    hops, seed = _shared.check_count("hops", hops), _shared.check_seed(seed)
    if priority is not None:
        priority = _shared.as_scores("priority", priority, graph.num_nodes, "node", graph.device)
        priority = graph.in_graph_order(priority)
    links = _shared.links(graph, graph.is_symmetric)
    head, valid = _shared.backend_of(graph.rowptr, backend).mis(links, graph.ptr, priority, hops, seed)
    if priority is not None and not valid:
        raise _shared.nan_error("priority", graph.in_callers_order(priority))
    return _shared.callers_nodes(graph, head)


def pool_of_mis(
    rows: Scored,
    graph: RaggedGraph,
    module: ModuleType,
    links: Links,
    value: Tensor | None,
    options: ContractOptions,
    *,
    priority: Tensor | None,
    greedy: bool,
    hops: int,
    seed: int,
) -> Selected:
    """The nodes of each member of :func:`mis` as a cluster, and the graph of these, by one call of a backend.

    Args:
        rows: of the nodes, in the order of the matrix.
        graph, hops, seed: see :func:`mis`.
        module: the backend.
        links: the entries of the graph.
        value: their weights, detached.
        options: how the graph is contracted.
        priority: in the order of the matrix; ``None``: the score.
        greedy: divide it by the number of walks of at most one edge that end in the node.
    """
    found: Selected = module.mis_pool(rows, links, value, graph.ptr, priority, greedy, hops, seed, options)
    if found.assigned is None:
        unknown = found.score if priority is None else priority
        raise _shared.nan_error("priority", graph.in_callers_order(unknown))
    return found
