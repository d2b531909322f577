"""Arguments that all graphs of a padded batch share, against the installed PyTorch Geometric."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool.integrations.pyg.patching import NAMES
from tests.support.public import Example, arguments, examples, gradients, leaves_of, tensors
from tests.support.shared import SIZES

dense = pytest.importorskip(
    "torch_geometric.nn.dense", reason="PyTorch Geometric is not installed (hierpool[pyg])"
)

PEERS = [
    pytest.param(example, options, id=f"{example}{options or ''}")
    for example in examples()
    if not example.is_sparse and not example.options and (example.name in NAMES or example.name == "SAGEConv")
    for options in ({}, *([{"normalize": False}] if "normalize" in example.parameters else []))
]


def arguments_of(example: Example) -> Iterator[dict[str, Any]]:
    """Arguments of which each has several graphs, one graph, or no dimension of graphs.

    PyTorch Geometric counts what A has in padding, so A is 0 there and padding is the same in all graphs.
    """
    given = arguments(SIZES, False, torch.float64)
    mask = given["mask"][:1]
    given["adj"] = given["adj"] * mask[..., None] * mask[:, None]
    names = [name for name in ("x", "adj", "s") if name in example.parameters]
    of_mask = (
        "adj" if example.name == "SAGEConv" else "x"
    )  # the argument with the number of graphs of the mask
    for kinds in itertools.product(range(3), repeat=len(names)):
        found = {
            name: (given[name], given[name][:1], given[name][0])[kind]
            for name, kind in zip(names, kinds, strict=True)
        }
        count = found[of_mask].size(0) if found[of_mask].dim() == 3 else 1
        yield found | {"mask": None}
        yield found | {"mask": mask.expand(count, -1)}


def layers(example: Example) -> tuple[Any, Any]:
    """The function or layer here and there, with the same weights."""
    ours, theirs = example.make(SIZES), getattr(dense, example.name, None) or dense.DenseSAGEConv
    if example.is_layer:
        theirs = theirs(SIZES.f, 3).double()
        theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize(("example", "options"), PEERS)
def test_results_and_gradients(example: Example, options: dict[str, Any]) -> None:
    for given in arguments_of(example):
        found: list[list[Tensor]] = []
        for call in layers(example):
            leaves = leaves_of(given)
            results = tensors(call(**leaves, **options))
            found.append([*results, *gradients(results, [t for t in tensors(leaves) if t.requires_grad])])
        where = ", ".join(f"{name} {list(t.shape)}" for name, t in given.items() if t is not None)
        torch.testing.assert_close(*found, rtol=1e-9, atol=1e-11, msg=f"{where}: ".__add__)


@pytest.mark.parametrize(("example", "options"), PEERS)
def test_compiled_into_one_graph(example: Example, options: dict[str, Any]) -> None:
    call, given = example.make(SIZES), example.arguments(SIZES)
    torch._dynamo.reset()
    compiled = torch.compile(call, backend="aot_eager", fullgraph=True, dynamic=True)
    for part in ({"adj": given["adj"][0]}, {"adj": given["adj"][:1], "x": given["x"] * 2}):
        found: list[list[Tensor]] = []
        for function in (compiled, call):
            leaves = leaves_of(given | part)
            results = tensors(function(**leaves, **options))
            found.append([*results, *gradients(results, [t for t in tensors(leaves) if t.requires_grad])])
        torch.testing.assert_close(*found)


@pytest.mark.parametrize(("example", "options"), [one for one in PEERS if one.values[0].name in NAMES])
def test_masks_of_graphs_that_share_features(example: Example, options: dict[str, Any]) -> None:
    given = example.arguments(SIZES)
    one_x, several = given | {"x": given["x"][:1]}, given | {"x": given["x"][:1].expand(SIZES.b, -1, -1)}
    ours, theirs = layers(example)
    torch.testing.assert_close(tensors(ours(**one_x, **options)), tensors(ours(**several, **options)))
    with pytest.raises(RuntimeError, match="invalid for input of size"):
        theirs(**one_x, **options)
