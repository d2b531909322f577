"""Numbers that constructors of layers and networks take, and what they say of other arguments."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import hierpool.models
import hierpool.nn
from hierpool import RaggedGraph, soft_pool, spmm
from tests.support.public import Sizes, settings

COUNTS = (
    "in_channels",
    "out_channels",
    "hidden_channels",
    "embedding_channels",
    "head_channels",
    "num_classes",
)
COUNTS = (
    *COUNTS,
    "num_features",
    "channels",
    "k",
    "max_nodes",
    "layers",
    "levels",
    "depth",
    "mp_units",
    "mlp_units",
)
NUMBERS = ("dropout", "temperature", "eps", "alpha", "ratio", "pool_ratios")
SEVERAL = ("channels", "mp_units", "mlp_units")
WITH = {"max_nodes": {"k": None, "ratio": 0.5}, "ratio": {"k": None, "max_nodes": 5}}
# Poolers that check it when they are called.
NOT_CHECKED = {(name, "dropout") for name in ("ASAPool", "ClusterPool", "EdgePool")}
NOT_CHECKED |= {("SlotBatchNorm", "eps"), ("MaskedBatchNorm", "eps")}
NOT_CHECKED |= {("PoolNet", "max_nodes")}  # of no use to a pooler that keeps nodes


def parameters_of(kind: type) -> set[str]:
    """The names of the parameters of a class, and of its base class if it passes them on."""
    found = inspect.signature(kind).parameters
    names = {*found}
    if any(p.kind is p.VAR_KEYWORD for p in found.values()):
        names |= parameters_of(kind.__bases__[0])
    return names


def arguments_of(kind: type) -> dict[str, Any]:
    given = {name: value for name, value in settings(Sizes()).items() if name in parameters_of(kind)}
    if kind is hierpool.nn.MLP:
        given["channels"] = [4, 3]
    if kind is hierpool.models.PoolNet:
        given["pooler"] = "topk"
    return given


def cases(names: tuple[str, ...]) -> list[Any]:
    found = {}
    for package in (hierpool.nn, hierpool.models):
        for kind in (getattr(package, name) for name in package.__all__):
            if not inspect.isclass(kind) or not issubclass(kind, nn.Module) or kind.__subclasses__():
                continue
            for name in parameters_of(kind) & {*names}:
                if (kind.__name__, name) not in NOT_CHECKED:
                    found[f"{kind.__name__}-{name}"] = pytest.param(kind, name)
    return [pytest.param(*found[key].values, id=key) for key in sorted(found)]


def is_named(kind: type, name: str, value: Any) -> bool:
    given = arguments_of(kind)
    options = {key: value for key, value in WITH.get(name, {}).items() if key in parameters_of(kind)}
    try:
        kind(**(given | options | {name: value}))
    except (TypeError, ValueError) as error:
        return name in str(error).replace(",", " ").split()
    return False


@pytest.mark.parametrize(("kind", "name"), cases(COUNTS))
def test_other_than_counts_are_refused_by_name(kind: type, name: str) -> None:
    wrong = [2.0, 2.5, "3", -1, True, [2.5], 1j]
    for value in wrong:
        assert is_named(kind, name, value), value


@pytest.mark.parametrize(("kind", "name"), cases(NUMBERS))
def test_other_than_numbers_are_refused_by_name(kind: type, name: str) -> None:
    for value in ("0.5", [0.5, "0.5"], 1j, -1.0):
        assert is_named(kind, name, value), value


@pytest.mark.parametrize(("kind", "name"), cases(COUNTS))
def test_integers_of_numpy_are_integers(kind: type, name: str) -> None:
    given = arguments_of(kind)
    options = {key: value for key, value in WITH.get(name, {}).items() if key in parameters_of(kind)}
    number: Any = [4, 3] if name in SEVERAL else 4 if name == "in_channels" else 2
    networks = []
    for value in (number, np.array(number).tolist() if name in SEVERAL else np.int64(number)):
        torch.manual_seed(0)
        wanted = list(map(np.int32, value)) if name in SEVERAL and networks else value
        networks.append(kind(**(given | options | {name: wanted})))
    one, other = (network.state_dict() for network in networks)
    torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert str(networks[0]) == str(networks[1])


def test_activations_of_another_type_are_named() -> None:
    with pytest.raises(TypeError, match="act must be the name of a function, a function or None, got float"):
        hierpool.nn.MLP([4, 3], act=0.5)  # type: ignore[arg-type]


def test_sizes_of_numpy() -> None:
    edges, x = torch.tensor([[0, 1], [1, 0]]), torch.randn(3, 2)
    graph = RaggedGraph.from_edge_index(edges, np.int64(3))  # type: ignore[arg-type]
    assert type(graph.num_nodes) is int
    assert torch.equal(spmm(graph, x), torch.stack([x[1], x[0], 0 * x[2]]))
    by_numpy, by_int = (soft_pool(x, graph, x, num_clusters=n).x for n in (np.int32(1), 1))
    assert torch.equal(by_numpy, by_int)
    with pytest.raises(TypeError, match="num_nodes must be an int, got float"):
        RaggedGraph.from_edge_index(edges, 3.0)  # type: ignore[arg-type]
