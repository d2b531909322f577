"""The cheat sheet of poolers, ``docs/poolers.md``, from the poolers themselves."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from hierpool import RaggedGraph, backends
from hierpool.nn import POOLERS, SoftPooling

PAGE = Path(__file__).parents[1] / "docs" / "poolers.md"

# Of one forward or backward over a batch of E stored entries (N^2 of a dense graph), N nodes, F features, K clusters.
COSTS = {
    "soft_pool": ("E K + N K (K + F)", "N K", "S, SᵀX, SᵀAS, SᵀS, sizes, volumes, entropy, link loss"),
    "spmm": ("E K", "N K", "A S, three times for walks of three edges"),
    "total_variation": ("E K", "N K", "L1 distances over the edges"),
    "asymmetric_norm": ("N K", "N K", "distances from a quantile of every cluster"),
}
# Building of graphs and the default assignment, which are no work of a pooler's.
_BESIDE = {"csr", "linear_maps"}

TEXT = """\
# Poolers

Every pooler takes the same inputs and returns the same outputs; what differs is the loss. This page is made from the
code by `python -m bench poolers`.

{poolers}

Names in the first column are those that `hierpool.nn.get_pooler` and torch-geometric-pool take; with `_u`, tgp's
unbatched variants. Losses are keys of `PoolingOutput.loss`, with the defaults of the class.

## Inputs, of all of them

| | |
|---|---|
| padded batches | `x [B, N, F]`, `adj [B, N, N]`, or `[B, R, N, N]` with several edge types, `mask [B, N]` |
| sparse batches | `x [N, F]`, `edge_index [2, E]`, `edge_weight [E]`, `batch [N]` in any order, or `ptr [B + 1]` |
| graphs made before | `RaggedGraph`, `torch.sparse` matrices, `Data` and `Batch` of PyTorch Geometric |
| assignment | a linear map or a perceptron of the features, a network of yours, logits, or a fixed `S` (`so=`) |
| number of clusters | `k`, or `ratio` of `max_nodes` |
| behind the losses | `remove_self_loops`, `degree_norm`, `edge_weight_norm`, `sparse_output`, `lift` |
| dtypes | float32, float64, bfloat16, float16; adjacency also bool and int8 |

`torch.compile(fullgraph=True)`, `torch.export`, autocast and gradients to edge weights work for all of them.

## What they run

Time and memory of one pass, up to a constant; memory is beside inputs and outputs. E is the number of stored entries,
N² of a padded graph.

{operators}

On CPU tensors the first of C++ and plain PyTorch that is there runs, on CUDA tensors the first of Triton and plain
PyTorch; `python -m hierpool info` says which, and why. The drop-ins `dense_mincut_pool`, `DMoNPooling` and
`mincut_pool` are one call of C++ each way, from the logits (of `DMoNPooling`, from the features) to the losses.

[How to add one](add-a-pooler.md) · [from PyTorch Geometric or torch-geometric-pool](switching.md)
"""


@contextmanager
def watched() -> Iterator[set[str]]:
    """The operators that a backend is chosen for."""
    found: set[str] = set()
    select = backends.select

    def record(op: str, *arguments: Any, **options: Any) -> Any:
        found.add(op)
        return select(op, *arguments, **options)

    backends.select = record  # type: ignore[assignment]
    try:
        yield found
    finally:
        backends.select = select


def use(kind: type[SoftPooling]) -> tuple[list[str], list[str]]:
    """The losses of a pooler, and the operators that a dense and a sparse batch go through."""
    torch.manual_seed(0)
    x = torch.randn(6, 3)
    edges = torch.tensor([[0, 1, 1, 2, 3, 4, 4, 5], [1, 0, 2, 1, 4, 3, 5, 4]])
    graph = RaggedGraph.from_edge_index(edges, 6)
    pooler = kind(3, 2)
    with watched() as found:
        outputs = [pooler(x, graph), pooler(x[None], graph.to_dense())]
    names = {re.sub("_(dense|csr)$", "", op) for op in found} - _BESIDE
    return list(outputs[0].loss), sorted(names, key=list(COSTS).index)


def source_of(kind: type[SoftPooling]) -> str:
    """The citation in a docstring."""
    return re.sub(r"\s+", " ", inspect.getdoc(kind).split("Source: ")[1]).strip().rstrip(".")  # type: ignore[union-attr]


def page() -> str:
    """The whole page."""
    poolers = ["| name | class | losses | operators | source |", "|---|---|---|---|---|"]
    used: list[str] = []
    for name, kind in sorted(POOLERS.items(), key=lambda item: item[1].__name__):
        if not kind.__module__.startswith("hierpool."):
            continue
        losses, operators = use(kind)
        used += [op for op in operators if op not in used]
        cells = (f"`{name}`", f"`{kind.__name__}`", code(losses), code(operators), source_of(kind))
        poolers.append("| " + " | ".join(cells) + " |")
    rows = ["| operator | makes | time | memory | C++ | Triton |", "|---|---|---|---|---|---|"]
    for op in COSTS:
        time, memory, makes = COSTS[op]
        rows.append(
            f"| `{op}` | {makes} | {time} | {memory} | {filled('native', op)} | {filled('triton', op)} |"
        )
    assert set(used) == set(COSTS), f"COSTS has {sorted(COSTS)}, but poolers use {sorted(used)}"
    return TEXT.format(poolers="\n".join(poolers), operators="\n".join(rows))


def code(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def filled(backend: str, op: str) -> str:
    """Whether a backend has kernels of an operator, of its dense and its sparse form if it has two."""
    forms = [one for one in backends.OPS if re.sub("_(dense|csr)$", "", one) == op]
    there = all(find_spec(f"hierpool.ops.{backend}.{form}") for form in forms)
    return "yes" if there else "no"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--check", action="store_true", help="only check that the page is what it should be")


def main(args: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    text = page()
    if args.check:
        same = PAGE.exists() and PAGE.read_text(encoding="utf-8") == text
        print(f"{PAGE.name} is {'what' if same else 'not what'} python -m bench poolers writes")
        return 0 if same else 1
    PAGE.write_text(text, encoding="utf-8")
    print(f"written: {PAGE}")
    return 0
