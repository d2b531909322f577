"""Checks of the tensors that a graph is made of. Metadata alone: values are checked where they are read anyway."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hierpool._tracing import seen
from hierpool.graph.csr import Edges

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_INDICES = (torch.int64, torch.int32)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def strided(name: str, value: Any) -> Tensor:
    """``value`` as an ordinary tensor in memory."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if hasattr(value, "as_tensor"):  # PyG's EdgeIndex and Index wrap a tensor
        value = value.as_tensor()
    if value.layout is not torch.strided:
        raise TypeError(f"{name} must be a dense (strided) tensor, got layout {value.layout}")
    return value


def check_index(name: str, value: Any, shape: str, dims: int = 1) -> Tensor:
    """``value``, a tensor of node or entry numbers with this many dimensions."""
    value = strided(name, value)
    if value.dtype not in _INDICES:
        raise TypeError(f"{name} must have dtype int64 or int32, got {_name(value.dtype)}")
    if value.dim() != dims:
        raise ValueError(f"{name} must have shape {shape}, got {tuple(value.shape)}")
    return value


def check_size(name: str, value: Any) -> int:
    """``value``, a number of nodes or graphs."""
    if isinstance(value, bool) or not isinstance(value, (int, torch.SymInt)):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
    if value < 0:
        raise ValueError(f"{name} must not be negative, got {value}")
    return value  # type: ignore[return-value]  # a SymInt is an int to whoever traces


def check_flag(name: str, value: Any, *choices: bool | None) -> None:
    """Raise ``TypeError`` unless ``value`` is one of ``choices``."""
    if not any(value is choice for choice in choices):
        raise TypeError(f"{name} must be {', '.join(map(str, choices[:-1]))} or {choices[-1]}, got {value!r}")


def check_device(name: str, value: Tensor, beside: str, other: Tensor) -> None:
    """Raise ``ValueError`` unless both are on one device."""
    if value.device != other.device:
        raise ValueError(f"{name} must be on the device of {beside}, {other.device}, got {value.device}")


def check_weight(name: str, value: Any, entries: int) -> Tensor:
    """``value`` as floating-point numbers, one for each of ``entries``; whole numbers become float32."""
    value = strided(name, value)
    if value.dim() != 1 or value.size(0) != entries:
        several = (
            "; features of edges are no weights, reduce them to one number each" if value.dim() > 1 else ""
        )
        raise ValueError(f"{name} must have shape [E] = [{entries}], got {tuple(value.shape)}{several}")
    return as_floating(name, value)


def as_floating(name: str, value: Tensor) -> Tensor:
    """``value`` if its dtype is floating; as float32 if it is bool or an integer that float32 holds exactly."""
    if value.dtype in FLOATS:
        return value
    if value.is_complex() or value.is_floating_point():
        raise TypeError(f"{name} must have a real dtype of at most 64 bits, got {_name(value.dtype)}")
    numbers = value.to(torch.float32)
    exact = value.dtype in (torch.bool, torch.int8, torch.uint8, torch.int16) or seen()
    if not exact and not torch.equal(numbers.double(), value.double()):
        raise ValueError(f"{name} has integers that float32 does not hold; pass it in float64")
    return numbers


def check_ptr(value: Any, beside: str, other: Tensor) -> Tensor:
    """``value`` as the first node of each graph and the number of nodes, int64 ``[B + 1]``."""
    value = check_index("ptr", value, "[B + 1]")
    if value.numel() == 0:
        raise ValueError("ptr must have shape [B + 1], got (0,); a batch of no graphs has ptr [0]")
    check_device("ptr", value, beside, other)
    return value.to(torch.int64)


def _count_nodes(edge_index: Tensor, num_nodes: Any, batch: Tensor | None, ptr: Tensor | None) -> int:
    if num_nodes is not None:
        num_nodes = check_size("num_nodes", num_nodes)
        if batch is not None and batch.numel() != num_nodes:
            raise ValueError(f"batch must have shape [num_nodes] = [{num_nodes}], got {tuple(batch.shape)}")
        return num_nodes
    if batch is not None:
        return batch.numel()
    if seen():
        raise ValueError("num_nodes must be given under torch.compile, where sizes cannot depend on values")
    if ptr is not None:
        return int(ptr[-1])
    return int(edge_index.max()) + 1 if edge_index.numel() else 0


def _count_graphs(num_graphs: Any, batch: Tensor | None, ptr: Tensor | None) -> int | None:
    if num_graphs is not None:
        num_graphs = check_size("num_graphs", num_graphs)
    if ptr is not None:
        if num_graphs is not None and ptr.numel() != num_graphs + 1:
            raise ValueError(
                f"ptr must have shape [num_graphs + 1] = [{num_graphs + 1}], got {tuple(ptr.shape)}"
            )
        return ptr.numel() - 1
    if batch is not None:
        return num_graphs
    if num_graphs not in (None, 1):
        raise ValueError(
            f"num_graphs is {num_graphs}, so batch or ptr must say which nodes belong to which graph"
        )
    return 1


def check_edges(
    edge_index: Any, num_nodes: Any, edge_weight: Any, batch: Any, ptr: Any, num_graphs: Any
) -> tuple[Edges, Tensor | None]:
    """The edges for :func:`hierpool.csr.build`, and their weights with autograd."""
    edge_index = check_index("edge_index", edge_index, "[2, E]", 2)
    if edge_index.size(0) != 2:
        raise ValueError(f"edge_index must have shape [2, E], got {tuple(edge_index.shape)}")
    weight = None
    if edge_weight is not None:
        weight = check_weight("edge_weight", edge_weight, edge_index.size(1))
        check_device("edge_weight", weight, "edge_index", edge_index)
    if batch is not None and ptr is not None:
        raise ValueError("batch and ptr say the same thing twice; give one of them")
    if batch is not None:
        batch = check_index("batch", batch, "[num_nodes]").to(torch.int64)
        check_device("batch", batch, "edge_index", edge_index)
    if ptr is not None:
        ptr = check_ptr(ptr, "edge_index", edge_index)
    n = _count_nodes(edge_index, num_nodes, batch, ptr)
    graphs = _count_graphs(num_graphs, batch, ptr)
    row, col = edge_index.unbind(0)
    detached = None if weight is None else weight.detach()
    return Edges(row, col, detached, batch, ptr, n, graphs), weight
