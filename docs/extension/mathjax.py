"""MathJax in the site, so that formulas need no network."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_PARTS = (
    "MathJax.js", "LICENSE", "config", "extensions/TeX", "fonts", "jax/element", "jax/input/TeX",
    "jax/output/HTML-CSS",
)  # fmt: skip


def copy(app: Any, error: Exception | None) -> None:
    """Copy what the site needs of MathJax, which the package jupyter_server_mathjax holds."""
    if error is not None or app.builder.format != "html":
        return
    found = find_spec("jupyter_server_mathjax")
    if found is None or found.origin is None:
        raise ImportError("formulas need MathJax: pip install --no-deps jupyter_server_mathjax")
    source, target = Path(found.origin).parent / "static", Path(app.outdir) / "_static" / "mathjax"
    for part in _PARTS:
        (target / part).parent.mkdir(parents=True, exist_ok=True)
        if (source / part).is_dir():
            shutil.copytree(source / part, target / part, dirs_exist_ok=True)
        else:
            shutil.copy2(source / part, target / part)
    for path in (target / "config").glob("*.js"):  # a font of no letters, which browsers report as an error
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("url('about:blank')", "local('')"), encoding="utf-8")
