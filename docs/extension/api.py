"""The pages of the API, one for each package, from what the packages export."""

from __future__ import annotations

import importlib
import inspect

import hierpool

# Packages, and titles of their pages.
PACKAGES = {
    "hierpool": "Functions and graphs",
    "hierpool.nn": "Layers",
    "hierpool.losses": "Losses",
    "hierpool.models": "Networks",
    "hierpool.selection": "Selection of nodes",
    "hierpool.integrations.pyg": "PyTorch Geometric",
    "hierpool.integrations.tgp": "torch-geometric-pool",
    "hierpool.data": "Data",
    "hierpool.metrics": "Metrics of clusterings",
    "hierpool.training": "Training",
    "hierpool.clustering": "Clustering of one graph",
}
_KINDS = {"Classes": inspect.isclass, "Functions": inspect.isfunction}


def exported(package: str) -> dict[str, list[str]]:
    """The names of the classes and functions that a package exports, by kind."""
    module = importlib.import_module(package)
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == package]
    names = getattr(module, "__all__", None) or [name for name in own if not name.startswith("_")]
    if package != "hierpool":  # whose page has what several packages export
        names = [name for name in names if getattr(module, name) is not getattr(hierpool, name, None)]
    return {
        kind: [name for name in sorted(names) if test(getattr(module, name))] for kind, test in _KINDS.items()
    }


def members() -> set[str]:
    """The pages that autosummary writes for what the packages export."""
    return {
        f"api/of/{package}.{name}.rst"
        for package in PACKAGES
        for names in exported(package).values()
        for name in names
    }


def page(package: str, title: str) -> str:
    """The page of a package: its docstring, and tables of what it exports, each with a page of its own."""
    heading = f"{title}: ``{package}``"
    lines = [
        heading,
        "=" * len(heading),
        "",
        f".. automodule:: {package}",
        "   :no-members:",
        "",
        f".. currentmodule:: {package}",
        "",
    ]
    for kind, names in exported(package).items():
        if names:
            lines += [
                kind,
                "-" * len(kind),
                "",
                ".. autosummary::",
                "   :toctree: of",
                "   :nosignatures:",
                "",
            ]
            lines += [*(f"   {name}" for name in names), ""]
    return "\n".join(lines)


def pages() -> dict[str, str]:
    """All pages and their index."""
    found = {f"api/{package}.rst": page(package, title) for package, title in PACKAGES.items()}
    listing = "\n".join(f"   {package}" for package in PACKAGES)
    found["api/index.rst"] = f"API\n===\n\n.. toctree::\n   :maxdepth: 1\n\n{listing}\n"
    return found
