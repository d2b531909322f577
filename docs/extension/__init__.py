"""What is made for the site before Sphinx reads it: pages of poolers, of the API and of files outside of this folder.

The Markdown pages of the repository are the one source of their text. Everything that is made here lies in the folders
of `MADE`, which git ignores.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from extension import api, mathjax, poolers, repository

DOCS = Path(__file__).parents[1]
MADE = ("api", "pooler", "project")


def prepare(_: Any, __: Any) -> None:
    """Write the generated pages; files whose text is the same stay as they are, so that a build is incremental."""
    pages = {**api.pages(), **poolers.pages(DOCS / "pooler"), **repository.pages()}
    for path, text in pages.items():
        there = DOCS / path
        there.parent.mkdir(parents=True, exist_ok=True)
        if not there.exists() or there.read_text(encoding="utf-8") != text:
            there.write_text(text, encoding="utf-8")
    wanted = {*pages, *api.members()}
    for path in (path for folder in MADE for path in (DOCS / folder).rglob("*.*")):
        if path.suffix in (".md", ".rst") and str(path.relative_to(DOCS)) not in wanted:
            path.unlink()  # of an earlier build


def without_fields(_: Any, __: str, name: str, member: Any, skip: bool, ___: Any) -> bool | None:
    """Leave out the fields of a named tuple, which have no text of their own."""
    return True if (getattr(member, "__doc__", "") or "").startswith("Alias for field number") else None


def setup(app: Any) -> dict[str, Any]:
    """Sphinx calls this."""
    app.connect("config-inited", prepare)
    app.connect("source-read", repository.on_source)
    app.connect("autodoc-skip-member", without_fields)
    app.connect("build-finished", mathjax.copy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
