"""The cheat sheet of poolers, ``docs/poolers.md``, from the poolers themselves."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from bench.ops import COSTS
from hierpool import RaggedGraph, backends, explain
from hierpool.nn import HARD_POOLERS, POOLERS, HardPooling, SoftPooling

PAGE = Path(__file__).parents[2] / "docs" / "poolers.md"
TEMPLATE = Path(__file__).parent / "templates" / "poolers.md"

# Building of graphs, the default assignment and the last step of losses, which are no pass over the nodes.
_BESIDE = {"graph_build", "linear_maps", "cut_terms"}
_NO_KERNEL = "does not have this operator"  # a reason of `hierpool.explain`


@contextmanager
def watched() -> Iterator[set[str]]:
    """The operators that a backend is chosen for."""
    found: set[str] = set()
    choose = backends.module

    def record(op: str, *arguments: Any, **options: Any) -> Any:
        found.add(op)
        return choose(op, *arguments, **options)

    backends.module = record  # type: ignore[assignment]
    try:
        yield found
    finally:
        backends.module = choose


def use(kind: type[SoftPooling]) -> tuple[list[str], list[str]]:
    """The losses of a pooler, and the operators that a dense and a sparse batch go through."""
    torch.manual_seed(0)
    x = torch.randn(6, 3)
    edges = torch.tensor([[0, 1, 1, 2, 3, 4, 4, 5], [1, 0, 2, 1, 4, 3, 5, 4]])
    graph = RaggedGraph.from_edge_index(edges, 6)
    pooler = kind(3, 2)
    with watched() as found:
        outputs = [pooler(x, graph), pooler(x[None], graph.to_dense())]
    return list(outputs[0].loss), sorted(found - _BESIDE, key=list(COSTS).index)


def source_of(kind: type[SoftPooling | HardPooling]) -> str:
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
    for op in (op for op in COSTS if op in used):
        time, memory, makes = COSTS[op]
        kernels = f"{has_kernels('native', op)} | {has_kernels('triton', op)}"
        rows.append(f"| `{op}` | {makes} | {time} | {memory} | {kernels} |")
    text = TEMPLATE.read_text(encoding="utf-8")
    return text.format(poolers="\n".join(poolers), operators="\n".join(rows), hard="\n".join(hard_poolers()))


def hard_poolers() -> Iterator[str]:
    """The rows of the table of poolers that keep or merge nodes."""
    yield from ("| name | class | supernodes | source |", "|---|---|---|---|")
    for name, kind in sorted(HARD_POOLERS.items(), key=lambda item: item[1].__name__):
        if kind.__module__.startswith("hierpool."):
            summary = (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ")
            summary = re.sub(r":\w+:(?=`)", "", summary.replace("``", "`"))
            yield f"| `{name}` | `{kind.__name__}` | {summary.rstrip('.')} | {source_of(kind)} |"


def code(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def has_kernels(backend: str, op: str) -> str:
    """Whether a backend has kernels of an operator, whatever is missing on this machine to run them."""
    reasons = [verdict.reason for verdict in explain() if (verdict.op, verdict.backend) == (op, backend)]
    return "no" if any(_NO_KERNEL in reason for reason in reasons) else "yes"


def command(check: bool) -> int:
    """``python -m bench poolers``: the exit status."""
    text = page()
    if check:
        same = PAGE.exists() and PAGE.read_text(encoding="utf-8") == text
        print(f"{PAGE.name} is {'what' if same else 'not what'} python -m bench poolers writes")
        return 0 if same else 1
    PAGE.write_text(text, encoding="utf-8")
    print(f"written: {PAGE}")
    return 0
