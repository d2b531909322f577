"""Batches without graphs, nodes, edges or features, of every public function and layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.public import Example, Sizes, examples, gradients, leaves_of, tensors

EMPTY = {
    "no-graphs": Sizes(b=0),
    "no-nodes": Sizes(n=0),
    "no-edges": Sizes(density=0),
    "no-features": Sizes(f=0),
}


def inputs_of(call: Any, given: dict[str, Any]) -> list[Tensor]:
    """The arguments and parameters that need a gradient."""
    leaves = [t for t in tensors(given) if t.requires_grad]
    return leaves + (list(call.parameters()) if isinstance(call, nn.Module) else [])


def is_perceptron(example: Example) -> bool:
    """Whether the constructor makes a perceptron of the features, which needs one feature at least."""
    return example.name in ("MLP", "DMoNPooling")


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors", "ignore:var.*degrees of freedom")
@pytest.mark.parametrize("case", EMPTY)
@pytest.mark.parametrize("example", examples(), ids=str)
def test_results_and_gradients_are_finite(example: Example, case: str) -> None:
    sizes = EMPTY[case]
    if case == "no-features" and is_perceptron(example):
        with pytest.raises(ValueError, match="channels must be at least two positive numbers, got"):
            example.make(sizes)
        return
    for masked in (False,) if example.is_sparse else (False, True):
        call = example.make(sizes)
        with torch.no_grad():
            call(**example.arguments(sizes, mask=masked))
        given = leaves_of(example.arguments(sizes, mask=masked))
        results, inputs = tensors(call(**given)), inputs_of(call, given)
        assert all(t.isfinite().all() for t in results)
        if case in ("no-graphs", "no-nodes"):  # losses
            assert all(t == 0 for t in results if t.dim() == 0)
        found = gradients(results, inputs)
        assert all(t.isfinite().all() for t in found)
        assert [t.shape for t in found] == [t.shape for t in inputs]


# Not of the network, whose layers are among the others.
COMPILED = [one for one in examples() if not one.options and one.name != "DiffPoolNet" and not one.is_hard]


@pytest.mark.filterwarnings("ignore:var.*degrees of freedom")
@pytest.mark.parametrize("example", COMPILED, ids=str)
def test_compiled_into_one_graph(example: Example) -> None:
    calls = [example.make(EMPTY[case]) for case in ("no-graphs", "no-nodes")]
    given = [leaves_of(example.arguments(EMPTY[case])) for case in ("no-graphs", "no-nodes")]

    def step(given: list[dict[str, Any]]) -> list[Tensor]:
        return [t for call, one in zip(calls, given, strict=True) for t in tensors(call(**one))]

    torch._dynamo.reset()
    inputs = [t for call, one in zip(calls, given, strict=True) for t in inputs_of(call, one)]
    expected, got = (
        (results, gradients(results, inputs))
        for results in (
            run(given) for run in (step, torch.compile(step, backend="aot_eager", fullgraph=True))
        )
    )
    torch.testing.assert_close(got, expected)
