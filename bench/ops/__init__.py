"""What is measured: workloads, providers and studies, one module per operator or family.

A module with workloads has a ``PART``, one of an operator that poolers call a ``COST``. The tables here are made from
the modules, the most wanted first.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from bench.harness.workload import Cost, Part, Provider, Study, Workload, named

# The time of a run on a GPU may be used up before the last.
_FIRST = ("soft_pool", "cut_pool", "spmm", "total_variation")
_NAMES = sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_"))
_MODULES = [import_module(f"bench.ops.{name}") for name in (*_FIRST, *(n for n in _NAMES if n not in _FIRST))]
_PARTS: list[Part] = [module.PART for module in _MODULES if hasattr(module, "PART")]
COSTS: dict[str, Cost] = {
    module.__name__.split(".")[-1]: module.COST for module in _MODULES if hasattr(module, "COST")
}
WORKLOADS: dict[str, Workload] = named(w for part in _PARTS for w in part.workloads)
PROVIDERS: dict[str, Provider] = named(p for part in _PARTS for p in part.providers)
STUDIES: dict[str, Study] = named(s for part in _PARTS for s in part.studies)


def workloads_on(device: str) -> dict[str, Workload]:
    """Workloads for a type of device, by name."""
    return {name: workload for name, workload in WORKLOADS.items() if workload.device == device}


def title_of(provider: str) -> str:
    """The provider's title; an older run may name one that is gone."""
    return PROVIDERS[provider].title if provider in PROVIDERS else provider
