"""Workloads x providers, declared in one place."""

from __future__ import annotations

from bench.providers import Provider, load_hierpool, load_pyg, load_pyg_compiled, load_tgp
from bench.workloads import Workload, dnd_like, from_data_root, mutag, one_graph

MODES: tuple[str, ...] = ("forward", "backward", "both")
BASELINE = "pyg"

_POOLING = "softmax, pooled x and adj, both losses, gradients to x and logits"

_WORKLOADS = (
    Workload("mutag", "MUTAG x 32", mutag(32)),
    Workload("enzymes", "ENZYMES x 32", from_data_root("ENZYMES", 32)),
    Workload("proteins", "PROTEINS x 20", from_data_root("PROTEINS", 20)),
    Workload("imdb-binary", "IMDB-BINARY x 32", from_data_root("IMDB-BINARY", 32)),
    Workload("dnd-like", "D&D-like x 20", dnd_like),
    Workload("dense-4096", "N4096 K256 F128 dense", one_graph(4096, 256, 128)),
    Workload(
        "dense-4096-directed",
        "N4096 K256 F128 dense, directed",
        one_graph(4096, 256, 128, symmetric=False),
        False,
    ),
    Workload("sparse-4096", "N4096 K256 F128, 0.5 % non-zeros", one_graph(4096, 256, 128, density=0.005)),
)

_PROVIDERS = (
    Provider("pyg", "PyG eager", _POOLING, load_pyg, fp32_norm=True),
    Provider("pyg-compiled", "PyG compiled", f"{_POOLING}; not the compilation", load_pyg_compiled, fp32_norm=True),
    Provider(
        "tgp", "tgp dense", f"{_POOLING}, by tgp's parts; not its MLP or post-processing", load_tgp, fp32_norm=True
    ),
    Provider(
        "hierpool-reference", "hierpool reference", f"{_POOLING}, in plain PyTorch", load_hierpool(None, "reference")
    ),
    Provider("hierpool", "hierpool", f"{_POOLING}; symmetry given", load_hierpool(True, "native"), symmetry=True),
    Provider(
        "hierpool-detected", "hierpool, detected", f"{_POOLING}; finding out whether A is symmetric included",
        load_hierpool(None, "native"),
    ),
    Provider(
        "hierpool-directed", "hierpool, directed", f"{_POOLING}; both products with A", load_hierpool(False, "native"),
        symmetry=False,
    ),
)  # fmt: skip

WORKLOADS: dict[str, Workload] = {w.name: w for w in _WORKLOADS}
PROVIDERS: dict[str, Provider] = {p.name: p for p in _PROVIDERS}


def title_of(provider: str) -> str:
    """The provider's title; an older run may name one that is gone."""
    return PROVIDERS[provider].title if provider in PROVIDERS else provider


def select(table: dict, names: list[str] | None, what: str) -> list:
    """The entries named, in the registry's order; ValueError naming the unknown ones and the known."""
    if names is None:
        return list(table.values())
    unknown = sorted(set(names) - set(table))
    if unknown:
        raise ValueError(f"unknown {what} {', '.join(unknown)}; known: {', '.join(table)}")
    return [entry for name, entry in table.items() if name in names]
