"""Pages of the repository that lie outside of the folder of the site, and links to its files.

A page links to files, as it is read on a forge. In the site, a link to a page leads to that page, and one to another
file becomes its text.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent
# Pages outside of docs/, by their places in the site.
PAGES = {
    "project/contributing.md": ROOT / "CONTRIBUTING.md",
    "project/changelog.md": ROOT / "CHANGELOG.md",
    "project/examples.md": ROOT / "examples" / "README.md",
    "project/cpp.md": ROOT / "csrc" / "README.md",
    "project/triton.md": ROOT / "hierpool_kernels" / "README.md",
    "project/bench.md": ROOT / "bench" / "README.md",
    "project/clustering.md": ROOT / "bench" / "results" / "clustering" / "clustering.md",
}
_PLACES = {path: name for name, path in PAGES.items()}
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#:\s]+)(#[^)]*)?\)")
_BLOCK = re.compile(r"(```.*?```)", re.DOTALL)


def relink(text: str, origin: Path, place: Path) -> str:
    """The text of the file `origin`, with its links for the page `place` of the site; code stays as it is."""

    def link(match: re.Match[str]) -> str:
        image, label, target, anchor = match.groups()
        file = Path(os.path.normpath(origin.parent / target))
        there = DOCS / _PLACES[file] if file in _PLACES else file
        if file.is_dir() and (file / "README.md") in _PLACES:
            there = DOCS / _PLACES[file / "README.md"]
        inside = there.is_relative_to(DOCS) and (there.suffix == ".md" or image)
        if inside or image:
            return f"{image}[{label}]({os.path.relpath(there, place.parent)}{anchor or ''})"
        return label

    return "".join(part if part.startswith("```") else _LINK.sub(link, part) for part in _BLOCK.split(text))


def pages() -> dict[str, str]:
    """The pages of :data:`PAGES` that exist."""
    return {
        name: relink(path.read_text(encoding="utf-8"), path, DOCS / name)
        for name, path in PAGES.items()
        if path.exists()
    }


def on_source(app: Any, name: str, source: list[str]) -> None:
    """Change the links of a page of docs/."""
    path = Path(app.env.doc2path(name))
    if path.suffix == ".md" and path.parent == DOCS:
        text = relink(source[0], path, path)
        change = {"poolers.md": with_pages_of_poolers, "index.md": without_missing}.get(path.name)
        source[0] = change(text) if change else text


def without_missing(text: str) -> str:
    """The index without the patterns of pages that do not exist yet."""
    return re.sub(
        r"^[\w/-]+\*\n",
        lambda match: match[0] if [*DOCS.glob(f"{match[0].strip()}.md")] else "",
        text,
        flags=re.M,
    )


def with_pages_of_poolers(text: str) -> str:
    """The cheat sheet, whose rows link to the pages of the poolers."""
    return re.sub(
        r"^\| `(\w+)` \| `(\w+)` \|", r"| [`\1`](pooler/\1.rst) | [`\2`](pooler/\1.rst) |", text, flags=re.M
    )
