"""The values of the entries of a graph, as functions of the weights that they come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from hierpool._tracing import is_traced, is_transformed
from hierpool.contract import sum_by_index
from hierpool.graph import checks
from hierpool.graph.facts import normally

if TYPE_CHECKING:
    from hierpool.graph.ragged import RaggedGraph


class Own(NamedTuple):
    """Values that belong to the graph."""

    value: Tensor

    @property
    def is_learned(self) -> bool:
        """Whether the values need a gradient."""
        return self.value.requires_grad

    @property
    def sources(self) -> tuple[Tensor, ...]:
        """The tensors that the values are computed from."""
        return (self.value,)

    def values(self, structure: Tensor) -> Tensor:
        """The values; ``structure`` is a tensor on the device of the graph."""
        return self.value


class Given(NamedTuple):
    """Weights that a caller gave, one for each edge, or features, a row for each edge."""

    name: str  # of the argument
    weight: Tensor
    entry_of_edge: Tensor | None  # None: edge e is entry e
    num_entries: int

    @property
    def is_learned(self) -> bool:
        return self.weight.requires_grad

    @property
    def sources(self) -> tuple[Tensor, ...]:
        return (self.weight,)

    def values(self, structure: Tensor) -> Tensor:
        edges = self.num_entries if self.entry_of_edge is None else self.entry_of_edge.numel()
        check = checks.check_edge_attr if self.name == "edge_attr" else checks.check_weight
        return self.connected(check(self.name, self.weight, edges, "the graph", structure))

    def connected(self, weight: Tensor, known: Tensor | None = None) -> Tensor:
        """The values: weights that need a gradient are not copied, others are.

        Args:
            weight: the weights in a floating dtype.
            known: the values without autograd, if they are known.
        """
        entry, unrecorded = self.entry_of_edge, is_traced() or is_transformed()
        if entry is None:
            is_own = weight is not self.weight
            return weight if is_own or weight.requires_grad or unrecorded else weight.clone()
        if unrecorded:
            return sum_by_index(weight, entry, self.num_entries)
        if known is None:
            known = sum_by_index(weight.detach(), entry, self.num_entries)
        learned = weight.requires_grad and torch.is_grad_enabled()
        return _EntryValues.apply(weight, (known, entry)) if learned else known


class Moved(NamedTuple):
    """The values or features of a graph that need a gradient, on a device and in a dtype."""

    graph: RaggedGraph
    device: torch.device | str | None
    dtype: torch.dtype | None
    name: str = "value"  # of the attribute of the graph

    @property
    def is_learned(self) -> bool:
        return True

    @property
    def sources(self) -> tuple[Tensor, ...]:
        value = getattr(self.graph, self.name)
        return () if value is None else (value,)

    def values(self, structure: Tensor) -> Tensor:
        return self.sources[0].to(self.device, self.dtype)


class Joined(NamedTuple):
    """The values or features of several graphs, of which some need a gradient, one after the other."""

    graphs: tuple[RaggedGraph, ...]
    dtype: torch.dtype
    name: str = "value"  # of the attribute of the graphs

    @property
    def is_learned(self) -> bool:
        return True

    @property
    def sources(self) -> tuple[Tensor, ...]:
        found = [getattr(graph, self.name) for graph in self.graphs]
        return tuple([value for value in found if value is not None])

    def values(self, structure: Tensor) -> Tensor:
        return join(self.graphs, self.dtype, self.name)


Values = Own | Given | Moved | Joined
torch.serialization.add_safe_globals([Own, Given, Moved, Joined])  # for torch.load


def join(graphs: Sequence[RaggedGraph], dtype: torch.dtype, name: str = "value") -> Tensor:
    """The values or features of several graphs, one after the other."""
    if name == "value":
        return torch.cat([ones_or_values(graph, dtype) for graph in graphs])
    return torch.cat([getattr(graph, name) for graph in graphs])


def joined(graphs: Sequence[RaggedGraph], dtype: torch.dtype | None, name: str = "value") -> Values | None:
    """:func:`join` as a function of those of the graphs if they need a gradient; ``None`` without a dtype."""
    if dtype is None:
        return None
    if any(_is_learned(graph, name) for graph in graphs):
        return Joined(tuple(graphs), dtype, name)
    return Own(normally(join, graphs, dtype, name))


def moved(
    graph: RaggedGraph,
    name: str,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
    non_blocking: bool,
) -> tuple[Values | None, bool]:
    """The values or features of a graph on a device and in a dtype, and whether these are others."""
    value: Tensor | None = getattr(graph, name)
    if value is None:
        return None, False
    found = normally(lambda: value.to(device, dtype, non_blocking=non_blocking))
    values = Moved(graph, device, dtype, name) if _is_learned(graph, name) else Own(found)
    return values, found is not value


def _is_learned(graph: RaggedGraph, name: str) -> bool:
    values = graph._values if name == "value" else graph._attr
    return values is not None and values.is_learned


def ones_or_values(graph: RaggedGraph, dtype: torch.dtype) -> Tensor:
    """The values of a graph; ones in ``dtype`` if it has none."""
    value = graph.value
    return graph.rowptr.new_ones(graph.num_edges, dtype=dtype) if value is None else value


class _EntryValues(torch.autograd.Function):
    """The values of the entries; the gradient of an edge weight is that of the edge's entry."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, known: tuple[Tensor, Tensor]) -> Tensor:
        value, ctx.entry_of_edge = known  # not a saved tensor: the values serve any number of backwards
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.index_select(0, ctx.entry_of_edge), None
