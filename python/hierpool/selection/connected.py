"""Connected components."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.graph import RaggedGraph
from hierpool.selection import _shared


def components(graph: RaggedGraph, usable: Tensor | None = None, *, backend: str = "auto") -> Tensor:
    """The connected component of each node.

    Args:
        graph: a batch of graphs; its weights are ignored. Edges are taken without direction.
        usable: bool ``[E]``, in the order of ``graph.row`` and ``graph.col``: the entries that join their nodes.
            ``None``: all.
        backend: ``"auto"`` or the name of a backend.

    Returns:
        int64 ``[N]``, in the caller's order of nodes: for each node, the node of its component that is first in the
        matrix. :meth:`hierpool.Assignment.from_heads` makes an assignment of it.

    Raises:
        TypeError: ``graph`` is not a :class:`hierpool.RaggedGraph`, or ``usable`` is not a bool tensor.
        ValueError: ``usable`` has the wrong shape or device.
    """
    _shared.check_graph(graph)
    if usable is not None:
        if not isinstance(usable, Tensor) or usable.dtype is not torch.bool:
            given = usable.dtype if isinstance(usable, Tensor) else type(usable).__name__
            raise TypeError(f"usable must be a bool tensor, got {given}")
        if usable.shape != (graph.num_edges,):
            raise ValueError(f"usable must have shape [{graph.num_edges}], got {list(usable.shape)}")
        if usable.device != graph.device:
            raise ValueError(f"usable must be on {graph.device}, got {usable.device}")
        usable = usable.contiguous()
    module = _shared.backend_of(graph.rowptr, backend)
    return _shared.callers_nodes(graph, module.components(graph.rowptr, graph.col, usable))
