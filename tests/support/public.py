"""All public functions and layers, with arguments made from the names of their parameters.

What a package lists in ``__all__`` is found here without being named again. A new parameter that is required needs an
entry in :func:`arguments` or :data:`SETTINGS`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

import hierpool
import hierpool.models
from hierpool import Assignment, RaggedGraph
from hierpool.nn import HardPooling, SelectOutput, SoftPooling

PACKAGES = (hierpool, hierpool.nn, hierpool.models)
K = 3


@dataclass(frozen=True)
class Sizes:
    """Numbers of graphs, of nodes of each graph, and of features, and the share of pairs of nodes with an edge."""

    b: int = 2
    n: int = 5
    f: int = 4
    density: float = 0.6


def settings(sizes: Sizes) -> dict[str, Any]:
    """Arguments of constructors by name."""
    return {
        "in_channels": sizes.f, "channels": [sizes.f], "num_features": sizes.f, "hidden_channels": 6,
        "out_channels": 3, "num_classes": 2, "k": K,
    }  # fmt: skip


# More ways to make a layer, and what is special about it.
VARIANTS: dict[type[nn.Module], tuple[dict[str, Any], ...]] = {
    SoftPooling: ({"act": "relu", "degree_norm": True, "temperature": 0.7}, {"sparse_output": True}),
    hierpool.nn.DiffPool: ({"link_loss": "bce"}, {"convention": "paper"}),
    hierpool.nn.MLP: ({"act": "relu"},),
    hierpool.nn.SAGEConv: ({"normalize": True, "aggregation": "sum"},),
    hierpool.nn.SAGEStack: ({"norm": "slot"}, {"aggregation": "sum", "norm": None}),
}


def arguments(sizes: Sizes, is_sparse: bool, dtype: torch.dtype, seed: int = 1) -> dict[str, Any]:
    """Arguments of calls by name, of a padded batch with a mask with holes, or of a ragged batch."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype)

    b, n, f = sizes.b, sizes.n, sizes.f
    adj = torch.rand(b, n, n, generator=draw, dtype=torch.float64).to(dtype)
    adj = adj * (torch.rand(b, n, n, generator=draw) < sizes.density)
    nodes = (b * n,) if is_sparse else (b, n)
    found = {"x": normal(*nodes, f), "s": normal(*nodes, K)}
    if not is_sparse:
        mask = torch.rand(b, n, generator=draw) < 0.8
        mask[:, :1] = True
        so = SelectOutput(found["s"].softmax(-1))
        return found | {"adj": adj, "mask": mask, "so": so, "h": normal(b, n, 3)}
    graph, row, col = adj.nonzero().T
    edges = torch.stack([graph * n + row, graph * n + col])
    batch = torch.arange(b).repeat_interleave(n)
    weight = adj[graph, row, col]
    ragged = RaggedGraph.from_edge_index(edges, b * n, edge_weight=weight, batch=batch, num_graphs=b)
    of_edges = {"edge_index": edges, "edge_weight": weight, "batch": batch, "batch_size": b}
    so = SelectOutput(found["s"].softmax(-1), ragged)
    assignment = Assignment.from_clusters(torch.arange(b * n) % max(n, 1) % K, ragged)
    return found | of_edges | {"adj": ragged, "graph": ragged, "so": so, "assignment": assignment}


@dataclass(frozen=True)
class Example:
    """A public function or layer, called with a padded or with a ragged batch."""

    name: str
    target: Any
    is_sparse: bool
    options: dict[str, Any] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        options = "".join(f"-{key}={value}" for key, value in self.options.items())
        return f"{self.name}{options}-{'sparse' if self.is_sparse else 'dense'}"

    @property
    def is_layer(self) -> bool:
        return inspect.isclass(self.target)

    @property
    def is_pooler(self) -> bool:
        return self.is_layer and issubclass(self.target, SoftPooling | HardPooling)

    @property
    def is_hard(self) -> bool:
        """A pooler that keeps or merges nodes, or a network of it: sizes of its results depend on values."""
        hard = HardPooling | hierpool.models.GraphUNet
        return self.is_layer and (issubclass(self.target, hard) or "pooler" in self.options)

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """The parameters of a call."""
        call = self.target.forward if self.is_layer else self.target
        found = dict(inspect.signature(call).parameters)
        found.pop("self", None)
        return found

    @property
    def required(self) -> set[str]:
        """The names of the parameters without a default."""
        return {key for key, p in self.parameters.items() if p.default is inspect.Parameter.empty}

    def make(self, sizes: Sizes = Sizes(), dtype: torch.dtype = torch.float64) -> Callable[..., Any]:
        """The function, or a layer with random weights."""
        if not self.is_layer:
            return self.target  # type: ignore[no-any-return]
        torch.manual_seed(3)
        known = settings(sizes)
        if self.target is hierpool.nn.MLP:
            known["channels"] = [sizes.f, K]
        if self.is_pooler and not self.is_hard:
            known["in_channels"] = max(sizes.f, 1)
        wanted = inspect.signature(self.target).parameters
        given = {name: value for name, value in known.items() if name in wanted}
        return self.target(**(given | self.options)).to(dtype)  # type: ignore[no-any-return]

    def arguments(
        self, sizes: Sizes = Sizes(), dtype: torch.dtype = torch.float64, *, mask: bool = True
    ) -> dict[str, Any]:
        """The arguments of a call: those that are required, and those of the batch that have a default."""
        known = arguments(sizes, self.is_sparse, dtype)
        if self.is_sparse and "edge_index" in self.parameters:
            known.pop("adj")
        if self.is_sparse and self.is_pooler:
            known["adj"] = known["edge_index"]
        if self.target is hierpool.nn.MLP:  # which does not read it
            known.pop("adj")
        if not mask or self.is_sparse:
            known["mask"] = None
        if self.is_pooler:
            known.pop("so")
            if sizes.f == 0 and not self.is_hard:  # of which no perceptron makes logits
                known["logits"] = known["s"]
        if "assignment" not in self.required:  # of another kind
            known.pop("assignment", None)
        if self.name == "sparse_lift":
            known["x"] = torch.randn(known["assignment"].num_clusters, sizes.f, dtype=dtype)
        if self.name == "lift":
            known["x"] = torch.randn(sizes.b, K, sizes.f, dtype=dtype)
        if self.name in ("link_bce", "total_variation", "asymmetric_norm", "walk_cut"):
            known["s"] = known["s"].softmax(-1)
        return {name: known[name] for name in self.parameters if name in known}


def _takes_graph(parameters: dict[str, inspect.Parameter]) -> bool:
    if {"graph", "edge_index", "so", "assignment"} & {*parameters}:
        return True
    return "adj" in parameters and "RaggedGraph" in str(parameters["adj"].annotation)


def _public() -> Iterator[tuple[str, Any]]:
    """Functions of tensors of nodes, and layers."""
    seen: set[int] = set()
    for package in PACKAGES:
        for name in package.__all__:
            target = getattr(package, name)
            is_layer = inspect.isclass(target) and issubclass(target, nn.Module)
            if id(target) in seen or not (is_layer or inspect.isfunction(target)):
                continue
            seen.add(id(target))
            yield name, target


def examples(*, layers: bool = True, functions: bool = True) -> list[Example]:
    """All examples."""
    found = []
    for name, target in _public():
        plain = Example(name, target, False)
        if not {"x", "s"} & {*plain.parameters}:
            continue  # of no tensors of nodes
        if not (layers if plain.is_layer else functions):
            continue
        if plain.is_layer and issubclass(target, HardPooling):
            if not target.__subclasses__():  # not a base class
                found.append(Example(name, target, True))
            continue
        if target is hierpool.models.PoolNet:
            found += [Example(name, target, True, {"pooler": pooler}) for pooler in ("topk", "graclus")]
            continue
        required = plain.required
        variants = [{}]
        for kind, more in VARIANTS.items():
            if plain.is_layer and issubclass(target, kind):
                variants += more
        for options in variants:
            if not required & {"graph", "edge_index", "assignment"}:
                found.append(Example(name, target, False, options))
            if _takes_graph(plain.parameters) and options.get("norm") != "slot":
                found.append(Example(name, target, True, options))
    return found


def named(out: Any, name: str = "") -> dict[str, Tensor]:
    """The floating tensors of a result, by name."""
    if isinstance(out, Tensor):
        return {name: out} if out.is_floating_point() else {}
    if isinstance(out, RaggedGraph):
        return {}
    if is_dataclass(out):
        out = {one.name: getattr(out, one.name) for one in fields(out) if not one.name.startswith("_")}
    if isinstance(out, tuple | list):
        out = dict(zip(getattr(out, "_fields", range(len(out))), out, strict=True))
    if not isinstance(out, dict):
        return {}
    return {n: t for key, value in out.items() for n, t in named(value, f"{name}.{key}").items()}


def tensors(out: Any) -> list[Tensor]:
    """All tensors of a result, in order."""
    if isinstance(out, Tensor):
        return [out]
    if isinstance(out, dict):
        return [t for value in out.values() for t in tensors(value)]
    if isinstance(out, hierpool.nn.PoolingOutput):
        return [out.x, out.adj, out.so.s, *out.loss.values(), *tensors((out.edge_weight, out.batch))]
    if is_dataclass(out) and not isinstance(out, RaggedGraph):
        return [t for one in fields(out) for t in tensors(getattr(out, one.name))]
    if isinstance(out, tuple | list):
        return [t for value in out for t in tensors(value)]
    return []


def leaves_of(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments, of which the floating tensors need a gradient."""
    return {
        name: value.detach().clone().requires_grad_()
        if isinstance(value, Tensor) and value.is_floating_point()
        else value
        for name, value in given.items()
    }


def gradients(results: list[Tensor], inputs: list[Tensor], seed: int = 2) -> list[Tensor]:
    """Gradients of the results, weighted at random; zeros where there is none."""
    draw = torch.Generator().manual_seed(seed)
    found = [t for t in results if t.requires_grad]
    if not found or not inputs:
        return [torch.zeros_like(t) for t in inputs]
    weights = [torch.randn(t.shape, generator=draw, dtype=torch.float64).to(t.dtype) for t in found]
    return list(torch.autograd.grad(found, inputs, weights, allow_unused=True, materialize_grads=True))
