"""Argument checks. Metadata is checked on every call, before any kernel runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hierpool.graph import RaggedGraph

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
ADJ_DTYPES = (*FLOATS, torch.bool, torch.int8, torch.uint8)
_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def _names(dtypes: tuple[torch.dtype, ...]) -> str:
    return ", ".join(str(d).removeprefix("torch.") for d in dtypes)


def _shape(t: Tensor) -> str:
    return str(tuple(t.shape))


def check_tensor(name: str, value: Any, dtypes: tuple[torch.dtype, ...]) -> None:
    """Raise ``TypeError`` unless ``value`` is a strided tensor of one of ``dtypes``."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if value.layout is not torch.strided:
        raise TypeError(
            f"{name} must be a dense (strided) tensor, got layout {value.layout}; call {name}.to_dense() first"
        )
    if value.dtype not in dtypes:
        raise TypeError(
            f"{name} must have dtype {_names(dtypes)}, got {str(value.dtype).removeprefix('torch.')}"
        )


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> int:
    """The index of ``value`` among ``choices``; ``ValueError`` if it is none of them."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    return choices.index(value)


def check_flag(name: str, value: Any) -> None:
    """Raise ``TypeError`` unless ``value`` is a bool or ``None``."""
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"{name} must be True, False or None, got {value!r}")


def check_dense(x: Any, adj: Any, s: Any, mask: Any, num_nodes: Any) -> None:
    """Check types, shapes and devices of a padded dense batch."""
    check_tensor("x", x, FLOATS)
    check_tensor("adj", adj, ADJ_DTYPES)
    check_tensor("s", s, FLOATS)
    _check_assignment(s)
    (b, n, _), of_x, of_adj = s.shape, x.shape, adj.shape
    if len(of_x) != 3 or of_x[0] != b or of_x[1] != n:
        raise ValueError(f"x must have shape [B, N, F] = [{b}, {n}, F] to match s, got {_shape(x)}")
    if len(of_adj) not in (3, 4) or of_adj[0] != b or of_adj[-1] != n or of_adj[-2] != n:
        raise ValueError(
            f"adj must have shape [B, N, N] = [{b}, {n}, {n}] or [B, R, N, N] to match s, got {_shape(adj)}"
        )
    if len(of_adj) == 4 and of_adj[1] == 0:
        raise ValueError(f"adj must have at least one edge type in dimension 1, got shape {_shape(adj)}")
    _check_nodes(mask, num_nodes, b, n)
    _check_devices(s, x=x, adj=adj, mask=mask, num_nodes=num_nodes)


def check_link(s: Any, adj: Any, mask: Any, num_nodes: Any) -> None:
    """Check types, shapes and devices of an assignment and a padded adjacency without edge types."""
    check_tensor("s", s, FLOATS)
    check_tensor("adj", adj, ADJ_DTYPES)
    _check_assignment(s)
    b, n, _ = s.shape
    if adj.dim() != 3 or adj.size(0) != b or adj.size(1) != n or adj.size(2) != n:
        raise ValueError(f"adj must have shape [B, N, N] = [{b}, {n}, {n}] to match s, got {_shape(adj)}")
    _check_nodes(mask, num_nodes, b, n)
    _check_devices(s, adj=adj, mask=mask, num_nodes=num_nodes)


def check_link_ragged(s: Any, graph: RaggedGraph, **absent: Any) -> None:
    """Check type, shape and device of an assignment of a ragged graph's nodes, and what only padded batches have."""
    check_tensor("s", s, FLOATS)
    _check_ragged_assignment(s, graph)
    _check_absent("nodes and symmetry", **absent)


def check_assignment(s: Any, graph: Any, mask: Any, num_nodes: Any) -> None:
    """Check types, shapes and devices of an assignment alone, of a padded batch or of a ragged graph's nodes."""
    check_tensor("s", s, FLOATS)
    if graph is None:
        _check_assignment(s)
        _check_nodes(mask, num_nodes, s.size(0), s.size(1))
        _check_devices(s, mask=mask, num_nodes=num_nodes)
        return
    if not isinstance(graph, RaggedGraph):
        raise TypeError(f"graph must be a RaggedGraph or None, got {type(graph).__name__}")
    _check_ragged_assignment(s, graph, "graph")
    _check_absent("nodes", mask=mask, num_nodes=num_nodes)


def _check_absent(knows: str, **absent: Any) -> None:
    for name, value in absent.items():
        if value is not None:
            raise ValueError(
                f"{name} must be None with a RaggedGraph, which knows its {knows}, got {value!r:.40}"
            )


def _check_assignment(s: Tensor) -> None:
    if s.dim() != 3:
        raise ValueError(f"s must have shape [B, N, K], got {_shape(s)}")
    if s.size(2) == 0:
        raise ValueError(f"s must have at least one cluster in its last dimension, got shape {_shape(s)}")


def _check_nodes(mask: Any, num_nodes: Any, b: int, n: int) -> None:
    if mask is not None and num_nodes is not None:
        raise ValueError("mask and num_nodes say the same thing twice; give one of them")
    if mask is not None:
        if not isinstance(mask, Tensor):
            raise TypeError(f"mask must be a torch.Tensor, got {type(mask).__name__}")
        if mask.dim() != 2 or mask.size(0) != b or mask.size(1) != n:
            raise ValueError(f"mask must have shape [B, N] = [{b}, {n}], got {_shape(mask)}")
    if num_nodes is not None:
        check_tensor("num_nodes", num_nodes, _INTEGERS)
        if num_nodes.dim() != 1 or num_nodes.size(0) != b:
            raise ValueError(f"num_nodes must have shape [B] = [{b}], got {_shape(num_nodes)}")


def _check_devices(s: Tensor, **others: Any) -> None:
    device = s.device
    for name, value in others.items():
        if value is not None and value.device != device:
            raise ValueError(f"{name} must be on the device of s, {device}, got {value.device}")


def check_ragged(x: Any, graph: RaggedGraph, s: Any) -> None:
    """Check types, shapes and devices of a ragged batch."""
    check_tensor("x", x, FLOATS)
    check_tensor("s", s, FLOATS)
    _check_ragged_assignment(s, graph)
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
    _check_devices(s, **{name: graph})


def temperature_tensor(temperature: Any, given: bool, s: Tensor) -> Tensor | None:
    """The temperature as a 0-d tensor beside ``s``, or ``None`` where it is 1."""
    if isinstance(temperature, Tensor):
        check_tensor("temperature", temperature, FLOATS)
        if temperature.dim() != 0:
            raise ValueError(f"temperature must be a float or a 0-d tensor, got shape {_shape(temperature)}")
        if temperature.device != s.device:
            raise ValueError(f"temperature must be on the device of s, {s.device}, got {temperature.device}")
    elif isinstance(temperature, bool) or not isinstance(temperature, (int, float, torch.SymFloat)):
        raise TypeError(f"temperature must be a float or a 0-d tensor, got {type(temperature).__name__}")
    elif temperature == 1.0:
        return None
    elif not 0 < temperature < float("inf"):
        raise ValueError(f"temperature must be positive and finite, got {temperature}")
    if given:
        raise ValueError("temperature has no meaning with assignment='given'")
    if isinstance(temperature, Tensor):
        return temperature
    dtype = torch.float64 if s.dtype == torch.float64 else torch.float32
    return torch.full((), temperature, dtype=dtype, device=s.device)


def check_values(n: int, num_nodes: Tensor | None, temperature: Tensor | None) -> None:
    """Check values that are cheap to read, which is those on the CPU."""
    if num_nodes is not None and num_nodes.device.type == "cpu" and num_nodes.numel():
        low, high = (int(v) for v in torch.aminmax(num_nodes))
        if low < 0 or high > n:
            raise ValueError(f"num_nodes must lie between 0 and N = {n}, got values from {low} to {high}")
    if (
        temperature is not None
        and temperature.device.type == "cpu"
        and not 0 < float(temperature) < float("inf")
    ):
        raise ValueError(f"temperature must be positive and finite, got {float(temperature)}")
