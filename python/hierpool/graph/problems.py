"""What can be wrong with the values that a graph is made of, in words."""

from __future__ import annotations

import torch
from torch import Tensor


def out_of_range(name: str, position: int, value: Tensor, num_nodes: int) -> ValueError:
    """A node number that is none."""
    return ValueError(f"{name}[{position}] is {int(value)}, but there are {num_nodes} nodes, numbered from 0")


def batch_out_of_range(node: int, value: Tensor, num_graphs: int) -> ValueError:
    """A graph number that is none."""
    return ValueError(f"batch[{node}] is {int(value)}, but there are {num_graphs} graphs, numbered from 0")


def crossing(row: int, col: int, ptr: Tensor, order: Tensor | None) -> ValueError:
    """An edge between two graphs; ends are numbered in graph order."""
    ends = torch.tensor([row, col], device=ptr.device)
    first, second = (torch.searchsorted(ptr, ends, right=True) - 1).tolist()
    i, j = (ends if order is None else order[ends]).tolist()
    return ValueError(
        f"an edge joins node {i} of graph {first} to node {j} of graph {second};"
        " the edges of a batch must stay within its graphs"
    )


def pointers(name: str, value: Tensor, what: str, count: int) -> ValueError:
    """First nodes or entries that do not ascend."""
    shown = ", ".join(map(str, value[:8].tolist())) + (", ..." if value.numel() > 8 else "")
    return ValueError(f"{name} must ascend from 0 to the number of {what}, {count}, got [{shown}]")


def not_coalesced() -> ValueError:
    """A promise that was not kept."""
    return ValueError(
        "edge_index was given with is_coalesced=True, but is not sorted by row and column without duplicates"
    )
