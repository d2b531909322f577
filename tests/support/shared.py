"""Arguments of a padded batch that all graphs share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch

from tests.support.public import Example, Sizes, gradients, leaves_of, tensors

SIZES = Sizes(b=3, n=5, f=4)
DIMS = {"x": 2, "adj": 2, "s": 2, "logits": 2, "assign_x": 2, "mask": 1}  # without the dimension of graphs


def each_shared(given: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The arguments with some of them, but not all, shared by all graphs, with and without a dimension of graphs.

    A function without an adjacency takes a shared mask alone.
    """
    names = [name for name in DIMS if given.get(name) is not None]
    sharable = names if "adj" in given else [name for name in names if name == "mask"]
    for count in range(1, min(len(sharable), len(names) - 1) + 1):
        for chosen in itertools.combinations(sharable, count):
            for has_graphs in (True, False):
                part = {name: given[name][:1] if has_graphs else given[name][0] for name in chosen}
                where = ", ".join(f"{name} {list(t.shape)}" for name, t in part.items())
                yield where, given | part


def expanded(given: dict[str, Any]) -> dict[str, Any]:
    """The same arguments with a copy for each graph."""

    def copies(name: str, t: Any) -> Any:
        dims = DIMS.get(name)
        return t if dims is None or t is None else t.expand(SIZES.b, *t.shape[t.dim() - dims :]).contiguous()

    return {name: copies(name, t) for name, t in given.items()}


def assert_shared_is_expanded(
    example: Example, call: Callable[..., Any], more: dict[str, Any] | None = None
) -> None:
    """Results and gradients are those of a copy for each graph."""
    given = example.arguments(SIZES) | (more or {})
    masked = [given] if given.get("mask") is None else [given, given | {"mask": None}]
    for where, part in (one for given in masked for one in each_shared(given)):
        leaves = leaves_of(part)
        inputs = [t for t in tensors(leaves) if t.requires_grad]
        found = []
        for arguments in (leaves, expanded(leaves)):
            results = tensors(call(**arguments))
            found.append((results, gradients(results, inputs)))
        torch.testing.assert_close(*found, rtol=1e-10, atol=1e-12, msg=f"{where}: ".__add__)
