"""The implementations that are timed on a GPU: those of `bench.registry` that run on any device, and our kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from bench.providers import Pool, Provider, ProviderUnavailable, load_pyg
from bench.registry import PROVIDERS as ANY_DEVICE
from bench.sparse import SparseBatch
from bench.sparse_providers import PerBatch

# Of each kind of workload: whom others are timed against, the first of them that runs.
BASELINES: dict[str, tuple[str, ...]] = {
    "dense": ("pyg", "hierpool-reference", "hierpool"),
    "graphs": ("pyg-converted", "hierpool-graph-reference", "hierpool-graph"),
    "large": ("torch-sparse", "hierpool-graph"),
    "large-linear": ("tgp-unbatched", "hierpool-graph"),
    "pooler": ("pyg-call", "hierpool-call-reference", "hierpool-call"),
    "operator": ("hierpool-call-reference", "hierpool-call"),
}
# In float64 the truth, the first of them that is installed; that of a large graph is taken in parts.
TRUTHS: dict[str, tuple[str, ...]] = {
    "dense": ("pyg", "hierpool-reference"),
    "graphs": ("pyg-converted", "hierpool-graph-reference"),
    "pooler": ("hierpool-call-reference",),
    "operator": ("hierpool-call-reference",),
}
CALLS = ("operator", "pooler")  # kinds of `bench.gpu.operators`
_CALL = "the call; a sparse graph built before, not counted"
_GRAPHS = ("graphs", "large", "large-linear")
_PEERS = {
    "pyg": ("dense",),
    "pyg-compiled": ("dense",),
    "tgp": ("dense",),
    "pyg-converted": ("graphs",),
    "torch-sparse": ("large",),
    "tgp-unbatched": ("large-linear",),
}
_POOLING = ANY_DEVICE["pyg"].counted
_GIVEN = f"{_POOLING}; the graph built by the loader, not counted"


# Ours, and whether they are told that A is symmetric.
KERNELS = {"hierpool": True, "hierpool-untold": False, "hierpool-graph": True}


def is_ours(provider: str | None) -> bool:
    """Whether a failure is one of this project: of our provider, or of a workload."""
    return provider is None or provider.startswith("hierpool")


def providers(device: torch.device) -> dict[str, Provider]:
    """By name; ours are those of ``device``, and say why they cannot run there."""
    ours = (
        Provider("hierpool", "hierpool", f"{_POOLING}; symmetry given", _dense(True, "triton", device)),
        Provider("hierpool-untold", "hierpool, symmetry not given", f"{_POOLING}; both products with A",
                 _dense(None, "triton", device)),
        Provider("hierpool-graph", "hierpool", _GIVEN, _graph("triton", device), kinds=_GRAPHS),
        Provider("hierpool-call", "hierpool", _CALL, calls("triton", device), kinds=CALLS),
        Provider("pyg-call", "PyG eager", _CALL, _load_pyg, kinds=("pooler",)),
    )  # fmt: skip
    references = (
        Provider("hierpool-reference", "hierpool reference", f"{_POOLING}, in plain PyTorch",
                 _dense(True, "reference", device)),
        Provider("hierpool-graph-reference", "hierpool reference", f"{_GIVEN}, in plain PyTorch",
                 _graph("reference", device), kinds=("graphs", "large")),
        Provider("hierpool-call-reference", "hierpool reference", f"{_CALL}, in plain PyTorch",
                 calls("reference", device), kinds=CALLS),
    )  # fmt: skip
    peers = (replace(ANY_DEVICE[name], kinds=kinds) for name, kinds in _PEERS.items())
    return {p.name: p for p in (*ours, *peers, *references)}


def first_of(names: tuple[str, ...], known: dict[str, Provider]) -> str:
    """The first that can be loaded; `ProviderUnavailable` with the reason of the last."""
    for name in names[:-1]:
        try:
            known[name].load()
        except ProviderUnavailable:
            continue
        return name
    known[names[-1]].load()
    return names[-1]


def _check(op: str, backend: str, device: torch.device) -> None:
    from hierpool import backends

    try:
        backends.select(op, device.type, backend)
    except RuntimeError as error:
        raise ProviderUnavailable(str(error)) from error


def _dense(symmetric: bool | None, backend: str, device: torch.device) -> Callable[[], Pool]:
    def load() -> Pool:
        import hierpool

        _check("soft_pool_dense", backend, device)
        return lambda batch: hierpool.dense_diff_pool(
            batch.x, batch.adj, batch.logits, batch.mask, symmetric=symmetric, backend=backend
        )

    return load


def _graph(backend: str, device: torch.device) -> Callable[[], Pool]:
    """From a graph that comes with the batch, whose edges are sorted."""

    def made(batch: SparseBatch) -> object:
        import hierpool

        return hierpool.RaggedGraph.from_edge_index(
            batch.edge_index, batch.x.size(0), ptr=batch.ptr, symmetric=batch.symmetric, is_coalesced=True
        )

    def load() -> Pool:
        import hierpool

        _check("soft_pool_csr", backend, device)
        prepared = PerBatch(made)
        return lambda batch: hierpool.diff_pool(batch.x, prepared(batch), batch.logits, backend=backend)[:4]

    return load


def calls(backend: str, device: torch.device) -> Callable[[], Pool]:
    """Our side of a problem."""

    def load() -> Pool:
        _check("spmm", backend, device)  # no operator has fewer backends
        return lambda problem: problem.ours(backend, *problem.tensors.values())

    return load


def _load_pyg() -> Pool:
    load_pyg()  # which says what is missing
    return lambda problem: problem.pyg(*problem.tensors.values())
