"""Checks of the tensors that a graph is made of.

Functions named ``check_`` read shapes, dtypes and devices. Backends check values and return a
:class:`hierpool.contract.Problem`, which :func:`edge_error` and :func:`rows_error` turn into an exception.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from hierpool._tracing import is_traced
from hierpool.contract import Edges, Fault, Problem
from hierpool.graph.facts import normally

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_INDICES = (torch.int64, torch.int32)
_LARGEST = 2**32  # nodes of a matrix that can be built
# Nodes without edges, and graphs or clusters without nodes, that are taken without their number being stated.
UNSTATED = 2**24


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def strided(name: str, value: Any) -> Tensor:
    """``value`` as a plain strided tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if hasattr(value, "as_tensor"):  # PyG's EdgeIndex and Index wrap a tensor
        value = value.as_tensor()
    if value.layout is not torch.strided:
        raise TypeError(f"{name} must be a dense (strided) tensor, got layout {value.layout}")
    if value.is_nested:
        raise TypeError(f"{name} must be a dense (strided) tensor, got a nested tensor")
    return value


def check_index(name: str, value: Any, shape: str, dims: int = 1) -> Tensor:
    """``value`` if it is an integer tensor with ``dims`` dimensions."""
    value = strided(name, value)
    if value.dtype not in _INDICES:
        raise TypeError(f"{name} must have dtype int64 or int32, got {_name(value.dtype)}")
    if value.dim() != dims:
        raise ValueError(f"{name} must have shape {shape}, got {tuple(value.shape)}")
    return value


def check_size(name: str, value: Any) -> int:
    """``value`` if it is a count: an integer that is not negative, of NumPy or not."""
    if isinstance(value, Tensor) and torch.jit.is_tracing():  # type: ignore[attr-defined]
        raise RuntimeError(
            "torch.jit.trace cannot record a RaggedGraph, whose sizes are numbers; torch.export can"
        )
    if isinstance(value, bool) or not isinstance(value, (int, torch.SymInt, Integral)):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
    if not isinstance(value, (int, torch.SymInt)):
        value = int(value)
    if value < 0:
        raise ValueError(f"{name} must not be negative, got {value}")
    return value  # a SymInt serves as an int


def check_sizes(**values: Any) -> list[int]:
    """The arguments, each of which is checked by :func:`check_size`."""
    return [check_size(name, value) for name, value in values.items()]


def check_flag(name: str, value: Any, *choices: bool | None) -> None:
    """Raise ``TypeError`` unless ``value`` is one of ``choices``."""
    for choice in choices:
        if value is choice:
            return
    raise TypeError(f"{name} must be {', '.join(map(str, choices[:-1]))} or {choices[-1]}, got {value!r}")


def check_device(name: str, value: Tensor, beside: str, other: Tensor) -> None:
    """Raise ``ValueError`` unless both tensors are on the same device."""
    if value.device != other.device:
        raise ValueError(f"{name} must be on the device of {beside}, {other.device}, got {value.device}")


def check_weight(name: str, value: Any, entries: int, beside: str, other: Tensor) -> Tensor:
    """``value`` as floating-point weights, one for each entry, on the device of ``other``."""
    value = strided(name, value)
    if value.dim() != 1 or value.size(0) != entries:
        hint = "; several numbers for each edge are features, edge_attr" if value.dim() > 1 else ""
        raise ValueError(f"{name} must have shape [E] = [{entries}], got {tuple(value.shape)}{hint}")
    value = as_floating(name, value)
    check_device(name, value, beside, other)
    return value


def check_edge_attr(name: str, value: Any, entries: int, beside: str, other: Tensor) -> Tensor:
    """``value`` as floating-point features, a row for each entry, on the device of ``other``."""
    value = strided(name, value)
    if value.dim() != 2 or value.size(0) != entries:
        raise ValueError(f"{name} must have shape [E, R] = [{entries}, R], got {tuple(value.shape)}")
    value = as_floating(name, value)
    check_device(name, value, beside, other)
    return value


def check_real(name: str, value: Tensor) -> None:
    """Raise ``TypeError`` unless the dtype of ``value`` is one of :data:`FLOATS`, bool or an integer dtype."""
    dtype = value.dtype
    if dtype not in FLOATS and (dtype.is_floating_point or dtype.is_complex or value.is_quantized):
        floats = ", ".join(map(_name, FLOATS))
        raise TypeError(f"{name} must have a real dtype, {floats}, bool or integers, got {_name(dtype)}")


def as_floating(name: str, value: Tensor) -> Tensor:
    """``value`` in a floating dtype: its own, or float32 for bool and for integers that float32 represents exactly."""
    if value.dtype in FLOATS:
        return value
    check_real(name, value)
    converted = value.to(torch.float32)
    exact = value.dtype in (torch.bool, torch.int8, torch.uint8, torch.int16) or is_traced()
    if not exact and not torch.equal(converted.to(value.dtype), value):
        raise ValueError(f"{name} has integers that float32 cannot represent exactly; pass it as float64")
    return converted


def check_ptr(value: Any, beside: str, other: Tensor) -> Tensor:
    """A copy of ``value``, the first node of each graph and the number of nodes, as int64 ``[B + 1]``."""
    value = check_index("ptr", value, "[B + 1]")
    if value.numel() == 0:
        raise ValueError("ptr must have shape [B + 1], got (0,); for a batch without graphs pass [0]")
    check_device("ptr", value, beside, other)
    return value if is_traced() else normally(value.to, torch.int64, False, True)


def _count_nodes(edge_index: Tensor, num_nodes: Any, batch: Tensor | None, ptr: Tensor | None) -> int:
    if num_nodes is not None:
        num_nodes = check_size("num_nodes", num_nodes)
        if num_nodes > _LARGEST:
            raise ValueError(f"num_nodes must be at most 2^32, got {num_nodes}")
        if batch is not None and batch.numel() != num_nodes:
            raise ValueError(f"batch must have shape [num_nodes] = [{num_nodes}], got {tuple(batch.shape)}")
        return num_nodes
    if batch is not None:
        return batch.numel()
    if is_traced():
        raise ValueError("num_nodes must be given under torch.compile, where sizes cannot depend on values")
    return int(ptr[-1]) if ptr is not None else _count("edge_index", edge_index, "node", "num_nodes")


def _count(name: str, index: Tensor, what: str, size: str) -> int:
    """One more than the largest of ``index``.

    Raises:
        ValueError: so many would need much more memory than ``index``, as if the indices were names.
    """
    largest = int(index.max()) if index.numel() else -1
    if largest >= index.numel() + UNSTATED:
        raise ValueError(
            f"{name} has {what} {largest}, but only {index.numel()} elements; number each {what} from 0,"
            f" or give {size}"
        )
    return largest + 1


def _count_graphs(num_graphs: Any, batch: Tensor | None, ptr: Tensor | None) -> int:
    if num_graphs is not None:
        num_graphs = check_size("num_graphs", num_graphs)
    if ptr is not None:
        if num_graphs is not None and ptr.numel() != num_graphs + 1:
            raise ValueError(
                f"ptr must have shape [num_graphs + 1] = [{num_graphs + 1}], got {tuple(ptr.shape)}"
            )
        return ptr.numel() - 1
    if batch is not None and num_graphs is None:
        if is_traced():
            raise ValueError(
                "num_graphs (batch_size of functions and layers) must be given under torch.compile, where sizes cannot"
                " depend on values"
            )
        return _count("batch", batch, "graph", "num_graphs")
    if batch is not None:
        return num_graphs
    if num_graphs not in (None, 1):
        raise ValueError(f"num_graphs must be 1 without batch and ptr, got {num_graphs}")
    return 1


def check_elements(name: str, values: Sequence[Any], kind: type) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless there are elements, all of class ``kind``."""
    for value in values:
        if not isinstance(value, kind):
            raise TypeError(
                f"{name} must be a sequence of {kind.__name__}, got an element {type(value).__name__}"
            )
    if not values:
        raise ValueError(f"{name} must have at least one element")


def check_edges(
    edge_index: Any, num_nodes: Any, edge_weight: Any, batch: Any, ptr: Any, num_graphs: Any
) -> tuple[Edges, Tensor | None]:
    """The arguments of :meth:`RaggedGraph.from_edge_index` as :class:`Edges`, and the weights with autograd."""
    edge_index = check_index("edge_index", edge_index, "[2, E]", 2)
    if edge_index.size(0) != 2:
        raise ValueError(f"edge_index must have shape [2, E], got {tuple(edge_index.shape)}")
    weight = None
    if edge_weight is not None:
        weight = check_weight("edge_weight", edge_weight, edge_index.size(1), "edge_index", edge_index)
    if batch is not None and ptr is not None:
        raise ValueError("batch and ptr cannot both be given")
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


def check_rows(rowptr: Any, col: Any, value: Any, ptr: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Row pointers, columns and graph pointers of :meth:`RaggedGraph.from_csr`; without ``ptr``, those of one graph."""
    rowptr = check_index("rowptr", rowptr, "[N + 1]")
    col = check_index("col", col, "[E]")
    if rowptr.numel() == 0:
        raise ValueError("rowptr must have shape [N + 1], got (0,); for a matrix without rows pass [0]")
    if rowptr.dtype != col.dtype:
        raise TypeError(f"rowptr and col must have the same dtype, got {rowptr.dtype} and {col.dtype}")
    check_device("col", col, "rowptr", rowptr)
    if value is not None:
        check_weight("value", value, col.numel(), "rowptr", rowptr)
    if ptr is None:
        return rowptr, col, normally(lambda: torch.arange(2, device=col.device) * (rowptr.numel() - 1))
    return rowptr, col, check_ptr(ptr, "col", col)


def edge_error(
    problem: Problem, edges: Edges, names: tuple[str, str] = ("edge_index[0]", "edge_index[1]")
) -> ValueError:
    """The exception for bad values of edges, whose rows and columns are called ``names``."""
    fault, i, j = problem
    row, col, _, batch, ptr, num_nodes, _ = edges
    if fault == Fault.NOT_COALESCED:
        text = "edge_index was given with is_coalesced=True, but is not sorted by row and column without duplicates"
        return ValueError(text)
    if fault == Fault.PTR:
        return _pointer_error("ptr", ptr, "nodes", num_nodes)
    if fault == Fault.CROSSING:
        graph_of: Any = batch if ptr is None else torch.repeat_interleave(ptr.diff())
        first, second = graph_of[[i, j]].tolist()
        return ValueError(
            f"an edge joins node {i} of graph {first} to node {j} of graph {second};"
            " the edges of a batch must stay within its graphs"
        )
    ranges: dict[Fault, tuple[str, Any, int, str]] = {
        Fault.ROW_RANGE: (names[0], row, num_nodes, "nodes"),
        Fault.COL_RANGE: (names[1], col, num_nodes, "nodes"),
        Fault.BATCH_RANGE: ("batch", batch, j, "graphs"),
    }
    name, values, count, what = ranges[fault]
    return ValueError(f"{name}[{i}] is {int(values[i])}, but there are {count} {what}, numbered from 0")


def rows_error(problem: Problem, rowptr: Tensor, col: Tensor, ptr: Tensor) -> ValueError:
    """The exception for bad values of compressed rows."""
    if problem.fault == Fault.ROWPTR:
        return _pointer_error("rowptr", rowptr, "entries", col.numel())
    return edge_error(
        problem, Edges(rowptr, col, None, None, ptr, rowptr.numel() - 1, ptr.numel() - 1), ("rowptr", "col")
    )


def _pointer_error(name: str, value: Any, what: str, count: int) -> ValueError:
    shown = ", ".join(map(str, value[:8].tolist())) + (", ..." if value.numel() > 8 else "")
    return ValueError(f"{name} must ascend from 0 to the number of {what}, {count}, got [{shown}]")
