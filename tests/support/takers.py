"""All public functions and layers that take a ragged graph, found in the modules, and how to call them."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

import hierpool
from hierpool import Assignment, RaggedGraph, metrics, models
from hierpool import nn as layers

F, K = 4, 3
GRAPHS = ("graph", "adj", "edge_index")  # names of the argument
_SIZES = {
    "in_channels": F, "channels": F, "k": K, "out_channels": K, "hidden_channels": 5, "num_classes": 2,
    "pooler": "graclus",
}  # fmt: skip


def _parameters(call: Any) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(call).parameters)


def _required(call: Any) -> set[str]:
    return {
        name for name, p in _parameters(call).items() if p.default is p.empty and p.kind is not p.VAR_KEYWORD
    }


def _takes_graph(call: Any) -> bool:
    return any(name in GRAPHS and "RaggedGraph" in str(p.annotation) for name, p in _parameters(call).items())


def _is_layer(kind: Any) -> bool:
    """Whether a class is a layer on a graph. A perceptron ignores its ``adj``."""
    return (
        isinstance(kind, type)
        and issubclass(kind, nn.Module)
        and kind is not layers.MLP
        and not (issubclass(kind, layers.HardPooling) and kind.__subclasses__())  # base classes
        and "adj" in _parameters(kind.forward)
    )


def takers() -> dict[str, Any]:
    """The functions and classes by name."""
    found: dict[str, Any] = {}
    for module in (hierpool, layers, metrics, models):
        for name in getattr(module, "__all__", vars(module)):
            one = getattr(module, name)
            if name.startswith("_") or not getattr(one, "__module__", "").startswith("hierpool"):
                continue
            if _is_layer(one) or (inspect.isfunction(one) and _takes_graph(one)):
                found[name] = one
    return found


class Taker:
    """A function or a layer with its other arguments."""

    def __init__(self, name: str, nodes: int, dtype: torch.dtype = torch.float64) -> None:
        torch.manual_seed(1)
        call = takers()[name]
        tensors = {
            "x": torch.randn(nodes, F, dtype=dtype, requires_grad=True),
            "s": torch.rand(nodes, K, dtype=dtype).softmax(-1).requires_grad_(),
            "labels": torch.arange(nodes) % K,
            "logits": torch.randn(nodes, K, dtype=dtype, requires_grad=True),
        }
        self.leaves: list[Tensor] = []
        if isinstance(call, type):
            sizes = {
                n: _SIZES[n] for n in _parameters(call) if n in ("k", "in_channels") or n in _required(call)
            }
            call = call(**sizes).to(dtype)
            self.leaves += call.parameters()
            parameters = _parameters(call.forward)
        else:
            parameters = _parameters(call)
        self.call = call
        self.arguments = {n: tensors[n] for n in parameters if n in tensors}
        self.arguments |= {"k": K} if "k" in parameters else {}
        self.arguments |= {"mask": None} if "mask" in parameters else {}
        self.clusters = torch.arange(nodes) % K if "assignment" in _required(call) else None
        self.merges = name != "kron"  # which takes nodes that are kept
        self.graph_name = next(n for n in GRAPHS if n in parameters)
        self.leaves += [t for t in self.arguments.values() if isinstance(t, Tensor) and t.requires_grad]

    def outputs(self, graph: RaggedGraph) -> list[Tensor]:
        """All tensors that it returns."""
        given: dict[str, Any] = {self.graph_name: graph}
        if self.clusters is not None:
            clusters, nodes = self.clusters, torch.arange(0, self.clusters.numel(), 2)
            given["assignment"] = (
                Assignment.from_clusters(clusters, graph)
                if self.merges
                else Assignment.from_kept(nodes, graph)
            )
        out = self.call(**self.arguments, **given)
        return list(_tensors((out.row, out.col, out.value) if isinstance(out, RaggedGraph) else out))

    def results(self, graph: RaggedGraph, *weights: Tensor) -> list[Tensor | None]:
        """All tensors that it returns, and the gradients of its inputs, parameters and ``weights``."""
        outputs = self.outputs(graph)
        scalars = [
            (t * torch.linspace(0.5, 1.5, t.numel(), dtype=t.dtype).view(t.shape)).sum()
            for t in outputs
            if t.requires_grad
        ]
        grads: list[Tensor | None] = []
        if scalars:
            leaves = [*self.leaves, *weights]
            grads = list(torch.autograd.grad(torch.stack(scalars).sum(), leaves, allow_unused=True))
        return [*[t.detach().clone() for t in outputs], *grads]


def _tensors(out: Any) -> Iterator[Tensor]:
    """The tensors in a result; those of a graph are not results of the call."""
    if isinstance(out, Tensor):
        yield out
    elif isinstance(out, Assignment):
        yield from () if out.weight is None else (out.weight,)
    elif isinstance(out, float):
        yield torch.tensor(out)
    elif isinstance(out, dict):
        yield from _tensors(tuple(out.values()))
    elif isinstance(out, tuple | list):
        for part in out:
            yield from _tensors(part)
    elif dataclasses.is_dataclass(out):
        yield from _tensors([getattr(out, field.name) for field in dataclasses.fields(out)])
