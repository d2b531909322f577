"""Argument checks. Metadata is checked on every call, before any kernel runs."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from hierpool._tracing import is_transformed
from hierpool.contract import Csr, Dense, Padded, Ragged
from hierpool.graph import RaggedGraph
from hierpool.ops._shared import as_one_batch, is_one_batch

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
ADJ_DTYPES = (*FLOATS, torch.bool, torch.int8, torch.uint8)
_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_STRIDED = torch.strided
MASK_DTYPES = (torch.bool, *_INTEGERS, *FLOATS)


def _names(dtypes: tuple[torch.dtype, ...]) -> str:
    return ", ".join(str(d).removeprefix("torch.") for d in dtypes)


def _shape(t: Tensor) -> str:
    return str(tuple(t.shape))


def check_tensor(name: str, value: Any, dtypes: tuple[torch.dtype, ...]) -> None:
    """Raise ``TypeError`` unless ``value`` is a strided tensor of one of ``dtypes``."""
    if (
        isinstance(value, Tensor)
        and value.dtype in dtypes
        and value.layout is _STRIDED
        and not value.is_nested
    ):
        return
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if value.is_nested:
        raise TypeError(
            f"{name} must be a dense (strided) tensor, got a nested tensor;"
            f" call torch.nested.to_padded_tensor({name}, 0.0) first"
        )
    if value.layout is not torch.strided:
        raise TypeError(
            f"{name} must be a dense (strided) tensor, got layout {value.layout}; call {name}.to_dense() first"
        )
    raise TypeError(f"{name} must have dtype {_names(dtypes)}, got {str(value.dtype).removeprefix('torch.')}")


def check_mask(mask: Any) -> None:
    """Raise ``TypeError`` unless ``mask`` is ``None`` or a dense tensor of a real dtype."""
    if mask is not None:
        check_tensor("mask", mask, MASK_DTYPES)


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> int:
    """The index of ``value`` in ``choices``; raises ``ValueError`` if it is not there."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    return choices.index(value)


def check_flag(name: str, value: Any) -> None:
    """Raise ``TypeError`` unless ``value`` is a bool or ``None``."""
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"{name} must be True, False or None, got {value!r}")


def check_dense(
    x: Any, adj: Any, s: Any, mask: Any, num_nodes: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Check types, shapes and devices of a padded dense batch, and return :func:`as_one_batch` of it."""
    check_tensor("x", x, FLOATS)
    check_tensor("adj", adj, ADJ_DTYPES)
    check_tensor("s", s, FLOATS)
    given = x, adj, mask
    x_shape, adj_shape, s_shape = x.shape, adj.shape, s.shape
    fits = len(x_shape) == len(s_shape) == 3 <= len(adj_shape) and x_shape[0] == adj_shape[0] == s_shape[0]
    if mask is not None:
        check_mask(mask)
        fits = fits and mask.shape == (s_shape[0], s_shape[1])
    if not fits:
        x, adj, s, mask = as_one_batch(x, adj, s, mask)
        x_shape, adj_shape, s_shape = x.shape, adj.shape, s.shape
    _check_assignment(s_shape)
    b, n, _ = s_shape
    if len(x_shape) != 3 or x_shape[0] != b or x_shape[1] != n:
        raise ValueError(f"x must have shape [B, N, F] = [{b}, {n}, F] to match s, got {_shape(given[0])}")
    if len(adj_shape) not in (3, 4) or adj_shape[0] != b or adj_shape[-1] != n or adj_shape[-2] != n:
        raise ValueError(
            f"adj must have shape [B, N, N] = [{b}, {n}, {n}] or [B, R, N, N] to match s,"
            f" got {_shape(given[1])}"
        )
    if len(adj_shape) == 4 and adj_shape[1] == 0:
        raise ValueError(f"adj must have at least one edge type in dimension 1, got shape {_shape(adj)}")
    if num_nodes is not None or not fits:
        _check_nodes(mask, num_nodes, b, n, given[2])
    _check_devices(s, x=x, adj=adj, mask=mask, num_nodes=num_nodes)
    return x, adj, s, mask


def check_link(s: Any, adj: Any, mask: Any, num_nodes: Any) -> tuple[Tensor, Tensor, Tensor | None]:
    """Check an assignment and a padded adjacency without edge types, and return :func:`as_one_batch` of them."""
    check_tensor("s", s, FLOATS)
    check_tensor("adj", adj, ADJ_DTYPES)
    check_mask(mask)
    given = adj, mask
    if not is_one_batch(s, adj, mask):
        _, adj, s, mask = as_one_batch(None, adj, s, mask)
    _check_assignment(s.shape)
    b, n, _ = s.shape
    if adj.dim() != 3 or adj.size(0) != b or adj.size(1) != n or adj.size(2) != n:
        raise ValueError(
            f"adj must have shape [B, N, N] = [{b}, {n}, {n}] to match s, got {_shape(given[0])}"
        )
    _check_nodes(mask, num_nodes, b, n, given[1])
    _check_devices(s, adj=adj, mask=mask, num_nodes=num_nodes)
    return s, adj, mask


def check_link_ragged(s: Any, graph: RaggedGraph, **absent: Any) -> None:
    """Check type, shape and device of an assignment of a ragged graph, and that ``absent`` are ``None``."""
    check_tensor("s", s, FLOATS)
    _check_ragged_assignment(s, graph)
    check_absent(**absent)


def check_assignment(s: Any, graph: Any, mask: Any, num_nodes: Any) -> tuple[Tensor, Tensor | None]:
    """Check an assignment without adjacency, padded or ragged, and its mask, and return both with one batch."""
    check_tensor("s", s, FLOATS)
    if graph is None:
        _check_assignment(s.shape)
        check_mask(mask)
        given = mask
        _, _, s, mask = as_one_batch(None, None, s, mask)
        _check_nodes(mask, num_nodes, s.size(0), s.size(1), given)
        _check_devices(s, mask=mask, num_nodes=num_nodes)
        return s, mask
    if not isinstance(graph, RaggedGraph):
        raise TypeError(f"graph must be a RaggedGraph or None, got {type(graph).__name__}")
    _check_ragged_assignment(s, graph, "graph")
    check_absent(mask=mask, num_nodes=num_nodes)
    return s, None


def check_absent(**absent: Any) -> None:
    """Raise ``ValueError`` unless arguments that a ragged graph already contains are ``None``."""
    for name, value in absent.items():
        if value is not None:
            raise ValueError(f"{name} must be None with a RaggedGraph, got {value!r:.40}")


def _check_assignment(shape: torch.Size) -> None:
    if len(shape) != 3:
        raise ValueError(f"s must have shape [B, N, K], got {tuple(shape)}")
    if shape[2] == 0:
        raise ValueError(f"s must have at least one cluster in its last dimension, got shape {tuple(shape)}")


def _check_nodes(mask: Any, num_nodes: Any, b: int, n: int, given: Any) -> None:
    """``given``: the mask before :func:`as_one_batch`."""
    if mask is not None and num_nodes is not None:
        raise ValueError("at most one of mask and num_nodes must be given, got both")
    if mask is not None and (mask.dim() != 2 or mask.size(0) != b or mask.size(1) != n):
        raise ValueError(f"mask must have shape [B, N] = [{b}, {n}], got {_shape(given)}")
    if num_nodes is not None:
        check_tensor("num_nodes", num_nodes, _INTEGERS)
        if num_nodes.dim() != 1 or num_nodes.size(0) != b:
            raise ValueError(f"num_nodes must have shape [B] = [{b}], got {_shape(num_nodes)}")


def _check_devices(s: Tensor, **others: Any) -> None:
    on_cpu = s.is_cpu  # takes less time than to compare devices
    for name, value in others.items():
        if value is not None and not (on_cpu and value.is_cpu) and value.device != s.device:
            raise ValueError(f"{name} must be on the device of s, {s.device}, got {value.device}")


def check_ragged(x: Any, graph: RaggedGraph, s: Any) -> None:
    """Check types, shapes and devices of a ragged batch."""
    check_tensor("x", x, FLOATS)
    check_tensor("s", s, FLOATS)
    _check_ragged_assignment(s, graph)
    if graph._attr is not None:
        raise ValueError(
            "adj must not have edge_attr with a dense assignment, as the pooled matrix has no features; leave it out"
            " with with_edge_attr(None), or pool by an Assignment"
        )
    n = graph.num_nodes
    if x.dim() != 2 or x.size(0) != n:
        raise ValueError(f"x must have shape [N, F] = [{n}, F] to match the graph, got {_shape(x)}")
    _check_devices(s, x=x)


def check_features(graph: Any, x: Any) -> None:
    """Check types, shape and device of a graph and features of its nodes."""
    if not isinstance(graph, RaggedGraph):
        raise TypeError(f"graph must be a RaggedGraph, got {type(graph).__name__}")
    check_tensor("x", x, FLOATS)
    if x.dim() != 2 or x.size(0) != graph.num_nodes:
        raise ValueError(f"x must have shape [N, F] = [{graph.num_nodes}, F], got {_shape(x)}")
    if x.device != graph.device:
        raise ValueError(f"x must be on the device of the graph, {graph.device}, got {x.device}")


def _check_ragged_assignment(s: Tensor, graph: RaggedGraph, name: str = "adj") -> None:
    n = graph.num_nodes
    if s.dim() != 2 or s.size(0) != n:
        raise ValueError(f"s must have shape [N, K] = [{n}, K] to match the graph, got {_shape(s)}")
    if s.size(1) == 0:
        raise ValueError(f"s must have at least one cluster in its last dimension, got shape {_shape(s)}")
    _check_devices(s, **{name: graph.rowptr})


def padded_rows(mask: Tensor | None, num_nodes: Tensor | None) -> Padded:
    """The valid nodes of a padded batch, in the dtypes that backends take."""
    if mask is not None and mask.dtype is not torch.bool:
        mask = mask != 0
    if num_nodes is not None:
        num_nodes = num_nodes.to(torch.int64)
    return Padded(mask, num_nodes)


def cluster_counts(num_clusters: Any, graphs: int, s: Tensor) -> Tensor | None:
    """The number of clusters of each graph, int64 ``[B]``; ``None``: the number of columns of ``s``."""
    if num_clusters is None:
        return None
    if not isinstance(num_clusters, Tensor):
        if isinstance(num_clusters, bool) or not isinstance(num_clusters, (int, torch.SymInt, Integral)):
            raise TypeError(f"num_clusters must be an int or an integer tensor, got {num_clusters!r:.40}")
        count: Any = num_clusters
        return torch.full((graphs,), count, dtype=torch.int64, device=s.device)
    check_tensor("num_clusters", num_clusters, _INTEGERS)
    if num_clusters.shape not in ((), (1,), (graphs,)):
        raise ValueError(f"num_clusters must have shape [B] = [{graphs}], got {_shape(num_clusters)}")
    _check_devices(s, num_clusters=num_clusters)
    return num_clusters.to(torch.int64).expand(graphs)


def needs_gradient(*tensors: Tensor | None) -> bool:
    """Whether one of ``tensors`` needs a gradient and autograd records it, or may have a tangent of forward mode."""
    if not torch.compiler.is_compiling() and is_transformed():  # a tensor does not tell
        return any(t is not None for t in tensors)
    if torch.is_grad_enabled():
        for t in tensors:
            if t is not None and t.requires_grad:
                return True
    return False


def temperature_tensor(temperature: Any, given: bool, s: Tensor) -> Tensor | None:
    """The temperature as a 0-d tensor on the device of ``s``, or ``None`` if it is 1.

    Under a compiler, a float is not compared with 1, which would compile once more.
    """
    if temperature is None:
        return None
    if isinstance(temperature, Tensor):
        check_tensor("temperature", temperature, FLOATS)
        if temperature.dim() != 0:
            raise ValueError(f"temperature must be a float or a 0-d tensor, got shape {_shape(temperature)}")
        if temperature.device != s.device:
            raise ValueError(f"temperature must be on the device of s, {s.device}, got {temperature.device}")
    elif isinstance(temperature, bool) or not isinstance(temperature, (int, float, torch.SymFloat)):
        raise TypeError(f"temperature must be a float or a 0-d tensor, got {type(temperature).__name__}")
    elif (given or not torch.compiler.is_compiling()) and temperature == 1.0:
        return None
    elif not 0 < temperature < float("inf"):
        raise ValueError(f"temperature must be positive and finite, got {temperature}")
    if given:
        raise ValueError(f"temperature must be 1 with assignment='given', got {temperature}")
    if isinstance(temperature, Tensor):
        return temperature
    return scalar_tensor(temperature, torch.float64 if s.dtype == torch.float64 else torch.float32, s.device)


def scalar_tensor(value: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A 0-d tensor. A compiler compiles a float that becomes a tensor once, not once for each value."""
    if torch.compiler.is_compiling():
        # Only arithmetic keeps a float symbolic: torch.full would bake the first value into the compiled code.
        return torch.ones((), dtype=dtype, device=device) * value
    return torch.full((), value, dtype=dtype, device=device)


def link_structure(
    s: Tensor,
    adj: Tensor | RaggedGraph,
    mask: Tensor | None,
    num_nodes: Tensor | None,
    *,
    transpose: bool = False,
    symmetric: bool | None = None,
) -> tuple[Dense | Csr, Padded | Ragged, Tensor]:
    """The checked adjacency and rows, and the assignment in the order of the matrix.

    ``transpose``: whether the gradient of the assignment needs the transpose of a sparse A that is not symmetric.
    """
    if not isinstance(adj, RaggedGraph):
        s, adj, mask = check_link(s, adj, mask, num_nodes)
        check_flag("symmetric", symmetric)
        return Dense(adj), padded_rows(mask, num_nodes), s
    check_link_ragged(s, adj, mask=mask, num_nodes=num_nodes, symmetric=symmetric)
    transpose = transpose and not adj.is_symmetric and needs_gradient(s)
    arrays = adj.transposed() if transpose else (None, None, None)
    return Csr(adj.value, adj.rowptr, adj.col, *arrays), Ragged(adj.ptr), adj.in_graph_order(s)


def check_rows(s: Tensor, rows: Padded | Ragged) -> None:
    """Raise ``ValueError`` if a number of nodes on the CPU is out of range."""
    if isinstance(rows, Padded) and rows.num_nodes is not None:
        check_values(s.size(1), rows.num_nodes, None)


def check_values(
    n: int,
    num_nodes: Tensor | None,
    temperature: Tensor | None,
    num_clusters: Tensor | None = None,
    k: int = 0,
) -> None:
    """Check the values of tensors on the CPU. Reading those of other devices would synchronise."""
    if num_nodes is not None:
        _check_range("num_nodes", num_nodes, 0, "N", n)
    if num_clusters is not None:
        _check_range("num_clusters", num_clusters, 1, "K", k)
    if (
        temperature is not None
        and temperature.device.type == "cpu"
        and not 0 < temperature.item() < float("inf")
    ):
        raise ValueError(f"temperature must be positive and finite, got {temperature.item()}")


def _check_range(name: str, counts: Tensor, least: int, symbol: str, most: int) -> None:
    if counts.device.type != "cpu" or not counts.numel():
        return
    low, high = (int(v) for v in torch.aminmax(counts))
    if low < least or high > most:
        raise ValueError(
            f"{name} must lie between {least} and {symbol} = {most}, got values from {low} to {high}"
        )


def valid_rows(mask: Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
    """The mask as bool ``[B, N]``. A mask ``[N]`` or ``[1, N]`` is that of every graph.

    Raises:
        TypeError: the mask is not a dense tensor of a real dtype.
        ValueError: the mask does not have the given shape.
    """
    check_mask(mask)
    return fitted_mask(mask, shape)


def fitted_mask(mask: Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
    """:func:`valid_rows` of a mask whose type is checked."""
    if mask is None:
        return None
    if mask.shape != shape:
        if len(shape) != 2 or mask.shape not in (shape[1:], (1, *shape[1:])):
            raise ValueError(f"mask must have shape {list(shape)} (graphs, nodes), got {list(mask.shape)}")
        mask = mask.expand(shape)
    return mask if mask.dtype == torch.bool else mask != 0


def as_batch(name: str, value: Any) -> Tensor:
    """A matrix as a batch of one, as in PyTorch Geometric's dense layers.

    Raises:
        TypeError: ``value`` is not a tensor, or is nested; the message uses ``name``.
    """
    if not isinstance(value, Tensor) or value.is_nested:
        check_tensor(name, value, ADJ_DTYPES)
    return value.unsqueeze(0) if value.dim() == 2 else value


def viewed_mask(mask: Tensor | None, b: int, n: int) -> Tensor | None:
    """A mask with the number of elements of ``[B, N]`` or ``[1, N]`` as bool of this shape, as in PyTorch Geometric.

    Raises:
        TypeError: the mask is not a dense tensor of a real dtype.
        ValueError: the mask has another number of elements.
    """
    if mask is None:
        return None
    check_mask(mask)
    if mask.shape != (b, n):
        if mask.numel() not in (b * n, n):
            raise ValueError(f"mask must be viewable as [B, N] = {[b, n]}, got shape {tuple(mask.shape)}")
        mask = mask.reshape(b if mask.numel() == b * n else 1, n)
    return mask if mask.dtype == torch.bool else mask != 0
