"""torch-geometric-pool without the compiled package that it imports, for tests of parity.

It needs four functions of torch-scatter, which is built from source in some ten minutes; here they are torch's own
``scatter_reduce``.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

_REDUCTIONS = {"sum": "sum", "add": "sum", "mul": "prod", "mean": "mean", "max": "amax", "min": "amin"}


def scatter(
    src: Tensor,
    index: Tensor,
    dim: int = -1,
    out: Tensor | None = None,
    dim_size: int | None = None,
    reduce: str = "sum",
) -> Tensor:
    """Elements of ``src`` reduced by the place that ``index`` gives them along ``dim``; empty places are 0."""
    if index.dim() != src.dim():
        shape = [1] * src.dim()
        shape[dim] = -1
        index = index.view(shape)
    index = index.expand_as(src)
    if out is None:
        if dim_size is None:
            dim_size = int(index.max()) + 1 if index.numel() else 0
        size = list(src.shape)
        size[dim] = dim_size
        out = torch.full(size, 1 if reduce == "mul" else 0, dtype=src.dtype, device=src.device)
        return out.scatter_reduce(dim, index, src, _REDUCTIONS[reduce], include_self=reduce == "mul")
    return out.scatter_reduce_(dim, index, src, _REDUCTIONS[reduce])


def torch_scatter() -> ModuleType:
    """The four functions of torch-scatter that torch-geometric-pool calls."""
    module: Any = ModuleType("torch_scatter")
    module.__version__ = "2.1.2"
    module.scatter = scatter

    def of(reduce: str) -> Any:
        def function(src: Tensor, index: Tensor, dim: int = -1, **options: Any) -> Any:
            reduced = scatter(src, index, dim, reduce=reduce, **options)
            return (reduced, None) if reduce in ("max", "min") else reduced

        return function

    for reduce in ("add", "mul", "max", "min"):
        setattr(module, f"scatter_{reduce}", of(reduce))
    return module


def import_tgp(name: str) -> Any:
    """A module of torch-geometric-pool; the test is skipped where it is not installed."""
    pytest.importorskip(
        "torch_geometric", reason="torch_geometric (extra: pyg) is not installed"
    )  # without it
    if "torch_scatter" not in sys.modules and importlib.util.find_spec("torch_scatter") is None:
        sys.modules["torch_scatter"] = torch_scatter()
    return pytest.importorskip(name, reason="torch-geometric-pool is not installed")
