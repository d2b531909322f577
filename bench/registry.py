"""Workloads x providers, and the studies, declared in one place."""

from __future__ import annotations

from bench.kinds import Workload
from bench.providers import Provider, load_hierpool, load_pyg, load_pyg_compiled, load_tgp
from bench.sparse import of_dense, one_huge_many_tiny, random_graph, star, with_linear
from bench.sparse_providers import (
    load_hierpool_sparse,
    load_pyg_converted,
    load_tgp_unbatched,
    load_torch_sparse,
)
from bench.studies import Study, graph_build, linearity, thread_use
from bench.workloads import dnd_like, from_data_root, mutag, one_graph

MODES: tuple[str, ...] = ("forward", "backward", "both")

_POOLING = "softmax, pooled x and adj, both losses, gradients to x and logits"

_REAL = {
    "enzymes": ("ENZYMES x 32", from_data_root("ENZYMES", 32)),
    "proteins": ("PROTEINS x 20", from_data_root("PROTEINS", 20)),
    "imdb-binary": ("IMDB-BINARY x 32", from_data_root("IMDB-BINARY", 32)),
    "dnd-like": ("D&D-like x 20", dnd_like),
}
_MILLION = "N 1 000 000, E 10 000 000, K 64, F 64"

_WORKLOADS = (
    Workload("mutag", "MUTAG x 32", mutag(32)),
    *(Workload(name, title, build) for name, (title, build) in _REAL.items()),
    Workload("dense-4096", "N4096 K256 F128 dense", one_graph(4096, 256, 128)),
    Workload(
        "dense-4096-directed",
        "N4096 K256 F128 dense, directed",
        one_graph(4096, 256, 128, symmetric=False),
        False,
    ),
    Workload("sparse-4096", "N4096 K256 F128, 0.5 % non-zeros", one_graph(4096, 256, 128, density=0.005)),
    *(
        Workload(f"{name}-edges", f"{title}, sparse", of_dense(build), kind="sparse")
        for name, (title, build) in _REAL.items()
    ),
    *(
        Workload(f"{name}-linear", f"{title}, sparse, with a linear layer", with_linear(of_dense(build)),
                 kind="sparse-linear")
        for name, (title, build) in _REAL.items()
    ),
    Workload("million", _MILLION, random_graph(1_000_000, 10_000_000), kind="large"),
    Workload("million-directed", f"{_MILLION}, directed", random_graph(1_000_000, 10_000_000, symmetric=False), False,
             kind="large"),
)  # fmt: skip

_STUDIES = (
    Study("million-graph", "Graph from edge_index, N 1 000 000, E 10 000 000",
          "edges in random order, whether A is symmetric found out", graph_build(1_000_000, 10_000_000)),
    Study("linearity", "Time against E, N = E / 10, K 64, F 64", f"{_POOLING}; forward + backward, graph given",
          linearity((100_000, 300_000, 1_000_000, 3_000_000, 10_000_000))),
    Study("threads", "Threads, K 64, F 64", f"{_POOLING}; forward + backward, graph given",
          thread_use({
              "star of 1 000 000 leaves": star(1_000_000),
              "one graph of N 200 000, E 2 000 000 and 1000 of 10 to 29 nodes": one_huge_many_tiny(
                  200_000, 2_000_000, 1000
              ),
          })),
)  # fmt: skip

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
    Provider(
        "pyg-converted", "PyG + conversions", f"{_POOLING}; to_dense_batch of x and logits, to_dense_adj",
        load_pyg_converted, fp32_norm=True, kinds=("sparse",),
    ),
    Provider(
        "tgp-unbatched", "tgp batched=False",
        f"{_POOLING}, by tgp's layer with its MLP, one linear layer; not its post-processing",
        load_tgp_unbatched, kinds=("sparse-linear",),
    ),
    Provider(
        "torch-sparse", "torch.sparse", f"{_POOLING}, by the algebra of the fused operator; CSR matrices given",
        load_torch_sparse, kinds=("large",),
    ),
    Provider(
        "hierpool-edges", "hierpool from edge_index",
        f"{_POOLING}; the graph built in every step and symmetry found out; the linear layer if there is one",
        load_hierpool_sparse("built"), kinds=("sparse", "sparse-linear"),
    ),
    Provider(
        "hierpool-graph", "hierpool from a graph", f"{_POOLING}; the graph built by the loader, not counted",
        load_hierpool_sparse("loader"), kinds=("sparse", "sparse-linear", "large"),
    ),
)  # fmt: skip

WORKLOADS: dict[str, Workload] = {w.name: w for w in _WORKLOADS}
STUDIES: dict[str, Study] = {s.name: s for s in _STUDIES}
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
