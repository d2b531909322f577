"""A page for each pooler: when to take it, its formula, its losses, its cost, and what it does to a graph."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from bench.ops import COSTS
from bench.report.poolers import use
from extension import advice, pictures
from hierpool import losses
from hierpool.nn import HARD_POOLERS, POOLERS, HardPooling, SoftPooling

Kind = type[SoftPooling] | type[HardPooling]


def ours() -> dict[str, Kind]:
    """The poolers of the package, by short name."""
    return {n: k for n, k in {**POOLERS, **HARD_POOLERS}.items() if k.__module__.startswith("hierpool.")}


def rst(text: str) -> str:
    """Code of Markdown as that of reStructuredText."""
    return re.sub(r"`([^`]+)`", r"``\1``", text)


def cost(name: str, kind: Kind) -> list[str]:
    """Lines on time and memory, of the operators that the pooler runs."""
    if name in advice.COSTS:
        return [f"{advice.COSTS[name]}, beside the sums of features and edges, N F and E.", ""]
    if not issubclass(kind, SoftPooling):
        return []
    rows = [(op, *COSTS[op]) for op in use(kind)[1]]
    lines = [
        ".. list-table::",
        "   :header-rows: 1",
        "",
        "   * - operator",
        "     - time",
        "     - memory",
        "     - makes",
    ]
    for op, time, memory, makes in rows:
        lines += [f"   * - ``{op}``", f"     - {time}", f"     - {memory}", f"     - {makes}"]
    return [*lines, ""]


def formulas(name: str) -> list[str]:
    """The summary of each loss, and its formula."""
    lines = []
    for loss in advice.LOSSES.get(name, ()):
        text = inspect.getdoc(getattr(losses, loss)) or ""
        summary, *rest = text.split("\n\n")
        lines += [f":func:`~hierpool.losses.{loss}`", *(f"   {line}" for line in summary.splitlines()), ""]
        if rest and rest[0].startswith(".. math::"):
            lines += [*(f"   {line}" for line in rest[0].splitlines()), ""]
    return lines


def page(name: str, kind: Kind, picture: str) -> str:
    """The page of a pooler."""
    title = f"{kind.__name__} (``{name}``)"
    lines = [f".. _pooler-{name}:", "", title, "=" * len(title), ""]
    if name in advice.WHEN:
        lines += [f"**When.** {rst(advice.WHEN[name])}", ""]
    lines += [f".. image:: {picture}", f"   :alt: A graph, pooled by {kind.__name__}", ""]
    if found := formulas(name):
        lines += ["Losses", "------", "", *found]
    if found := cost(name, kind):
        lines += ["Cost", "----", "", *found]
    where = kind.__module__ if kind.__module__.count(".") < 2 else "hierpool.nn"
    lines += [
        "Class",
        "-----",
        "",
        f".. currentmodule:: {where}",
        "",
        f".. autoclass:: {where}.{kind.__name__}",
        "   :noindex:",
        "",
    ]
    return "\n".join(lines)


def pages(folder: Path) -> dict[str, str]:
    """The pages of all poolers and their index; pictures are drawn into the folder, where there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    found, listing, rows = {}, [], []
    for name, kind in sorted(ours().items(), key=lambda item: order(item[1])):
        picture = folder / f"{name}.png"
        if not picture.exists():
            pictures.draw(name, picture)
        found[f"pooler/{name}.rst"] = page(name, kind, picture.name)
        listing.append(f"   {name}")
        rows += [f"   * - :doc:`{kind.__name__} <{name}>`", f"     - {rst(advice.WHEN.get(name, ''))}"]
        rows += [f"     - .. image:: {picture.name}", "          :width: 260", "          :alt:"]
    head = "Which pooler when"
    table = [".. list-table::", "   :widths: 20 50 30", "", *rows, ""]
    tree = [".. toctree::", "   :hidden:", "", *listing, ""]
    return found | {"pooler/index.rst": "\n".join([head, "=" * len(head), "", *table, *tree])}


def order(kind: Kind) -> tuple[bool, str]:
    """Poolers that learn clusters first, then by name."""
    return not issubclass(kind, SoftPooling), kind.__name__
