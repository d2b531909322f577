"""Weights of any unit: from 1e-30 to 1e30, float32 gives what float64 gives, where squares and cubes have room.

Functions and layers are found by their signatures: those that take a graph, and the losses.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hierpool
from hierpool import Assignment, RaggedGraph, SoftPoolRecord, connect, losses, metrics
from hierpool.clustering.objective import OBJECTIVES
from hierpool.nn import HARD_POOLERS, HardPooling, HardPoolingOutput, PoolingOutput, SoftPooling, get_pooler
from tests.support.poolers import SIZES, F, K, make_batch

UNITS = (1e-30, 1e-18, 1e18, 1e30)
f32, f64 = torch.float32, torch.float64
GRAPHS = {"adj", "edge_index", "graph"}


def takes_a_graph(function: Callable[..., Any]) -> bool:
    return not GRAPHS.isdisjoint(inspect.signature(function).parameters)


FUNCTIONS = {
    f"{module.__name__}.{name}": function
    for module in (hierpool, connect, metrics)
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if not name.startswith("_") and takes_a_graph(function)
}
LAYERS = {
    name: layer
    for name, layer in inspect.getmembers(hierpool.nn, inspect.isclass)
    if issubclass(layer, nn.Module)
    and not issubclass(layer, HardPooling)
    and not inspect.isabstract(layer)
    and takes_a_graph(layer.forward)
}
LOSSES = dict(inspect.getmembers(losses, inspect.isfunction)) | {
    term.__name__: term for objective in OBJECTIVES.values() for term in objective.terms
}


def make(name: str) -> nn.Module:
    """A layer from F features to K features or clusters."""
    sizes = [
        p
        for p in inspect.signature(LAYERS[name]).parameters.values()
        if "channels" in p.name or p.name == "k"
    ]
    return LAYERS[name](F, *[K] * (len(sizes) - 1)) if len(sizes) > 1 else LAYERS[name]([F, K])


class Leaves:
    """The arguments of a call by their names, with weights in ``unit``; ``dense`` or not."""

    def __init__(self, unit: float, dense: bool, dtype: torch.dtype) -> None:
        batch = make_batch(f32)
        generator = torch.Generator().manual_seed(5)
        s = (3 * torch.randn(*batch.mask.shape, K, generator=generator)).softmax(-1) * batch.mask[..., None]

        def leaf(t: Tensor) -> Tensor:
            return t.to(dtype).requires_grad_()

        self.mask = batch.mask
        self.weights = leaf((batch.adj if dense else batch.edge_weight) * unit)
        self.x = leaf(batch.padded if dense else batch.x)
        self.s = leaf(s if dense else s[batch.mask])
        graph: Any = self.weights
        if not dense:
            graph = RaggedGraph.from_edge_index(
                batch.edge_index, len(batch.x), edge_weight=self.weights, batch=batch.batch
            )
        self.graph = graph
        self.named = dict.fromkeys(GRAPHS, graph) | {"x": self.x, "s": self.s, "k": K, "drop": None}
        self.named["logits"] = self.s
        if dense:
            self.named["mask"] = batch.mask
        else:
            self.named["assignment"] = Assignment.from_clusters(torch.arange(len(batch.x)) % K, graph)

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.x, self.s, self.weights))


def tensors_of(result: Any, name: str = "out") -> dict[str, Tensor]:
    """The tensors and numbers of a result, by name. Each number of a record has a unit of its own."""
    if isinstance(result, PoolingOutput):
        result = {"x": result.x, "adj": result.adj, "loss": result.loss}
    if isinstance(result, HardPoolingOutput):
        assert result.edge_weight is not None
        result = {"x": result.x, "weights": result.edge_weight}
    if isinstance(result, RaggedGraph):
        assert result.value is not None
        result = result.value
    if isinstance(result, Tensor):
        return {name: result if result.is_floating_point() else result.double()}
    if isinstance(result, Assignment):
        return tensors_of(result.weight, name)
    if isinstance(result, float):
        return {name: torch.tensor(result, dtype=f64)}
    if isinstance(result, SoftPoolRecord):
        names = [n for n in (*result._fields, "link", "adj_norm") if n not in ("vectors", "scalars")]
        names += ["size", "volume", "cut_degree", "total_degree", "entropy"]
        result = {n: getattr(result, n) for n in names}
    elif isinstance(result, (tuple, list)):
        result = dict(enumerate(result))
    if not isinstance(result, Mapping):
        return {}
    return {
        key: t for part, value in result.items() for key, t in tensors_of(value, f"{name}.{part}").items()
    }


def with_gradients(outputs: dict[str, Tensor], leaves: list[Tensor]) -> dict[str, Tensor]:
    """The outputs, and the gradients of a weighted sum of each."""
    found = {name: t.detach().double() for name, t in outputs.items()}
    for name, t in outputs.items():
        if not t.requires_grad:
            continue
        weights = torch.linspace(0.5, 1.5, t.numel(), dtype=t.dtype).view(t.shape)
        grads = torch.autograd.grad((t * weights).sum(), leaves, allow_unused=True, retain_graph=True)
        found |= {f"d {name} / d {i}": g.double() for i, g in enumerate(grads) if g is not None}
    return found


def assert_close(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert got.keys() == expected.keys()
    assert got
    for name, value in got.items():
        scale = float(expected[name].abs().max()) if value.numel() else 0.0
        torch.testing.assert_close(
            value, expected[name], rtol=0, atol=1e-4 * scale, msg=lambda m, n=name: f"{n}: {m}"
        )


def outcome(call: Callable[[Leaves], Any], leaves: Leaves) -> dict[str, Tensor]:
    return with_gradients(tensors_of(call(leaves)), list(leaves))


def check(call: Callable[[Leaves], Any], unit: float, dense: bool) -> None:
    """In float32 against float64, in the unit."""
    assert_close(*(outcome(call, Leaves(unit, dense, dtype)) for dtype in (f32, f64)))


def arguments(function: Callable[..., Any], leaves: Leaves) -> dict[str, Any]:
    """Those the function has no default for, the mask, and the graph."""
    parameters = inspect.signature(function).parameters
    if function is connect.postprocess_adj:
        return {"adj": leaves.graph, "remove_self_loops": True, "degree_norm": True, "edge_weight_norm": True}
    if function.__module__ == metrics.__name__:
        node = torch.arange(len(leaves.x))
        return {"graph": leaves.graph, "labels": node % K} | ({"k": K} if "k" in parameters else {})
    if function is hierpool.kron:
        kept = Assignment.from_kept(torch.arange(0, len(leaves.x), 2), leaves.graph)
        return {"graph": leaves.graph, "assignment": kept}
    wanted = [name for name, p in parameters.items() if p.default is p.empty or name in {"mask", "graph"}]
    return {name: leaves.named[name] for name in wanted if name in leaves.named}


def calls() -> list[tuple[str, str | None, bool]]:
    """The functions, their backends, and whether the adjacency is dense."""
    found: list[tuple[str, str | None, bool]] = []
    for name, function in FUNCTIONS.items():
        parameters = inspect.signature(function).parameters
        graphs = [str(p.annotation) for argument, p in parameters.items() if argument in GRAPHS]
        forms = [True] * ("adj" in parameters) + [False] * any("RaggedGraph" in one for one in graphs)
        choices = ("auto", "reference") if "backend" in parameters else (None,)
        found += [(name, backend, dense) for backend in choices for dense in forms]
    return found


@pytest.mark.parametrize(("name", "backend", "dense"), calls())
def test_functions(name: str, backend: str | None, dense: bool) -> None:
    function = FUNCTIONS[name]
    options = {} if backend is None else {"backend": backend}

    def call(leaves: Leaves) -> Any:
        out = function(**arguments(function, leaves), **options)
        # Gradients of a cube of weights leave the range of float32. Those of the loss do not.
        return [t.detach() for t in out] if function is hierpool.walk_cut else out

    for unit in UNITS:
        check(call, unit, dense)


def loss_of(name: str, leaves: Leaves) -> list[Tensor]:
    """The loss with every choice, for a graph of ``leaves``."""
    loss = LOSSES[name]
    options = {"mask": leaves.mask} if leaves.s.dim() == 3 else {}
    if name in ("ho_mincut_loss", "totvar_loss"):
        sums = hierpool.walk_cut if name == "ho_mincut_loss" else hierpool.total_variation
        return [loss(*sums(leaves.s, leaves.graph, **options))]
    record = hierpool.soft_pool(leaves.x, leaves.graph, leaves.s, gram=True, **options)
    if name == "asym_norm_loss":
        graph = None if leaves.s.dim() == 3 else leaves.graph
        return [loss(hierpool.asymmetric_norm(record.s, graph, **options), record.num_nodes, K)]
    if "reduction" not in inspect.signature(loss).parameters:
        return [loss(record)]
    divisors = (None, "valid", "numel" if name == "link_pred_loss" else "padded")
    return [loss(record, reduction=r, normalize=n) for r in losses.REDUCTIONS for n in divisors]


@pytest.mark.parametrize("dense", [True, False], ids=["dense", "sparse"])
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str, dense: bool) -> None:
    for unit in UNITS:
        check(lambda leaves: tuple(loss_of(name, leaves)), unit, dense)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("dense", [True, False], ids=["dense", "sparse"])
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str, dense: bool, compiled: bool) -> None:
    def run(dtype: torch.dtype, unit: float, call: Callable[..., Any], layer: nn.Module) -> dict[str, Tensor]:
        leaves = Leaves(unit, dense, dtype)
        options = {"mask": leaves.mask} if dense else {}
        out = tensors_of(call(leaves.x, leaves.graph, **options))
        return with_gradients(out, [leaves.x, leaves.weights, *layer.parameters()])

    layers = []
    for dtype in (f32, f64):
        torch.manual_seed(1)
        layers.append(make(name).to(dtype))
    call: Callable[..., Any] = layers[0]
    if compiled:
        torch._dynamo.reset()
        call = torch.compile(layers[0], fullgraph=True, backend="aot_eager")
    for unit in UNITS:
        assert_close(run(f32, unit, call, layers[0]), run(f64, unit, layers[1], layers[1]))


@pytest.mark.parametrize("name", HARD_POOLERS)
def test_poolers_that_keep_or_merge_nodes(name: str) -> None:
    # The scores of SAGPool and PANPool have the unit of the weights: large ones are all 1 after the activation.
    for unit in UNITS[:2] if name in ("sag", "pan") else UNITS:
        found = []
        # The softmax has a gradient of 0 to the bias, and without edges the sum of paths one of 0 to their weights.
        given: dict[str, dict[str, Any]] = {"ec": {"edge_score": "tanh"}, "pan": {"filter_size": None}}
        options = given.get(name, {})
        for dtype in (f32, f64):
            torch.manual_seed(1)
            pooler = get_pooler(name, in_channels=F, **options).to(dtype)
            leaves = Leaves(unit, False, dtype)
            out = tensors_of(pooler(leaves.x, leaves.graph))
            found.append(with_gradients(out, [leaves.x, leaves.weights, *pooler.parameters()]))
        assert_close(*found)


@pytest.mark.parametrize("dense", [True, False], ids=["dense", "sparse"])
@pytest.mark.parametrize("name", [name for name, layer in LAYERS.items() if issubclass(layer, SoftPooling)])
def test_graphs_of_a_batch_have_units_of_their_own(name: str, dense: bool) -> None:
    """Losses that are means over graphs, and normalised adjacencies, do not depend on the units."""
    pooler = make(name)
    found = []
    for units in (torch.tensor(UNITS)[: len(SIZES)], torch.ones(len(SIZES))):
        leaves = Leaves(1, dense, f32)
        of_entries = units[:, None, None] if dense else units[leaves.graph.graph_of_node()[leaves.graph.row]]
        weights = leaves.weights.detach() if dense else leaves.graph.value.detach()
        graph = weights * of_entries if dense else leaves.graph.with_value(weights * of_entries)
        out = pooler(leaves.x, graph, **({"mask": leaves.mask} if dense else {}))
        linear = name in ("DiffPool", "AsymCheegerCutPool", "SoftPooling")
        adj = connect.postprocess_adj(out.adj, edge_weight_norm=True)
        found.append(tensors_of({"x": out.x, "adj": adj} | ({} if linear else out.loss)))
    assert_close(*({part: t.detach().double() for part, t in one.items()} for one in found))
