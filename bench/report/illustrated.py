"""Pages with a plot that are made from the newest results of a comparison."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bench.harness.results import Results


class Illustrated(NamedTuple):
    """A page, and how it is made."""

    name: str  # of the command of `python -m bench` that measures
    path: Path  # below the root, as that of the plot
    plot: Path
    text: Callable[[Results], str]
    draw: Callable[[Results, Path], None]


def write_or_check(page: Illustrated, run: Results | None, check: bool, root: Path) -> int:
    """Write the page and its plot, or check that they hold the results: the exit status.

    Raises:
        ValueError: there are no results.
    """
    if run is None:
        raise ValueError(f"no complete results yet: python -m bench {page.name}")
    path, text = root / page.path, page.text(run)
    if check:
        same = path.is_file() and path.read_text(encoding="utf-8") == text and (root / page.plot).is_file()
        print(f"{path.name} {'holds' if same else 'does not hold'} the newest results")
        return 0 if same else 1
    path.write_text(text, encoding="utf-8")
    page.draw(run, root / page.plot)
    print(f"wrote {page.path} and {page.plot}")
    return 0
