"""Soft pooling: workloads and the implementations that are timed on them.

A pool takes a `Batch` or a `SparseBatch` and returns pooled x, pooled adj, link loss and entropy loss with the values
of PyG's ``dense_diff_pool(..., normalize=True)``. Packages are imported when a provider is loaded, not before.

kind              compared with                                                      right is, in float64
dense             PyG's ``dense_diff_pool``                                          the same
sparse            the same behind PyG's conversions from ``edge_index``              the same
sparse-linear     tgp's ``DiffPool(batched=False)``, whose MLP is the linear layer   PyG with conversions
large             the same algebra in ``torch.sparse``                               the same
scattered         the same, on a GPU                                                 `bench.ops.soft_pool_truth`
scattered-linear  tgp's ``DiffPool(batched=False)``, on a GPU                        `bench.ops.soft_pool_truth`
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench.harness.precision import BF16, IEEE, TF32
from bench.harness.workload import Cost, Kind, Part, Pool, Provider, Unavailable, Workload, not_installed
from bench.ops import soft_pool_truth as in_parts
from bench.ops.batches import Batch, PerBatch, SparseBatch, of_dense, with_linear
from bench.ops.graphs import dense, dnd_like, random_graph, rings, scattered, tu_batch

Outputs = tuple[Tensor, Tensor, Tensor, Tensor]
EXTRA = "pip install 'hierpool[bench]'"
TGP = "tgp needs torch-geometric-pool, torch-scatter (a source build), scikit-learn and scipy"
BACKENDS = {"cpu": "native", "cuda": "triton"}  # of our kernels by type of device

# ---- PyTorch Geometric and torch-geometric-pool ---------------------------------------------------------------------


def load_pyg(device: torch.device) -> Pool:
    """PyG's eager function."""
    try:
        from torch_geometric.nn import dense_diff_pool
    except ImportError as error:
        raise not_installed(error, EXTRA) from error
    return lambda batch: dense_diff_pool(batch.x, batch.adj, batch.logits, batch.mask)


def load_pyg_compiled(device: torch.device) -> Pool:
    """PyG's function under torch.compile with static shapes; compilation happens on the first, untimed call."""
    load_pyg(device)
    from torch_geometric.nn import dense_diff_pool

    torch._dynamo.reset()  # each workload gets its own static graph
    compiled = torch.compile(dense_diff_pool, fullgraph=True, dynamic=False)
    return lambda batch: compiled(batch.x, batch.adj, batch.logits, batch.mask)


def load_pyg_converted(device: torch.device) -> Pool:
    """PyG's eager function behind PyG's conversions to padded tensors."""
    load_pyg(device)
    from torch_geometric.nn import dense_diff_pool
    from torch_geometric.utils import to_dense_adj, to_dense_batch

    def pool(batch: SparseBatch) -> Outputs:
        x, mask = to_dense_batch(batch.x, batch.batch)
        s, _ = to_dense_batch(batch.logits, batch.batch)
        adj = to_dense_adj(batch.edge_index, batch.batch).to(x.dtype)  # the same tensor in float32
        return dense_diff_pool(x, adj, s, mask)

    return pool


def load_tgp(device: torch.device) -> Pool:
    """tgp's dense DiffPool built from its own parts, with S from the given logits in place of its MLP.

    Reducer, connector (post-processing off) and both losses are tgp's. The entropy is divided by the padded node count,
    as PyG does, with one scalar product.
    """
    try:
        from tgp.connect import DenseConnect
        from tgp.reduce import BaseReduce
        from tgp.select import SelectOutput
        from tgp.utils.losses import entropy_loss, link_pred_loss
    except ImportError as error:
        raise not_installed(error, TGP) from error
    reduce = BaseReduce()
    connect = DenseConnect(remove_self_loops=False, degree_norm=False, adj_transpose=False)

    def pool(batch: Batch) -> Outputs:
        s = torch.softmax(batch.logits, dim=-1)
        rows = num_nodes = s.shape[0] * s.shape[1]
        if batch.mask is not None:
            s = s * batch.mask.unsqueeze(-1)
            num_nodes = int(batch.mask.sum())
        selected = SelectOutput(s=s, in_mask=batch.mask)
        x, _ = reduce(x=batch.x, so=selected)
        adj, _ = connect(edge_index=batch.adj, so=selected)
        link = link_pred_loss(s, batch.adj, normalize_loss=True)
        return x, adj, link, entropy_loss(s, num_nodes) * (num_nodes / rows)

    return pool


def load_tgp_unbatched(device: torch.device) -> Pool:
    """tgp's layer ``DiffPool(batched=False)``, whose MLP is the linear layer of the batch; post-processing is off.

    tgp divides the link loss by the sum of n_b^2 and the entropy by the number of nodes; the quotient to PyG's
    normalisation is a number, multiplied to each.
    """
    try:
        from tgp.poolers import DiffPool
    except ImportError as error:
        raise not_installed(error, TGP) from error

    torch.sparse.check_sparse_tensor_invariants.disable()  # the default, but torch warns unless it is chosen

    def make(batch: SparseBatch) -> tuple[Any, float, float]:
        layer = DiffPool(
            batch.x.size(1), batch.clusters, batched=False, normalize_loss=True, remove_self_loops=False,
            degree_norm=False, adj_transpose=False,
        )  # fmt: skip
        (linear,) = layer.selector.mlp.lins
        del linear.weight, linear.bias  # parameters, in whose place the batch's leaves come
        linear.weight, linear.bias = batch.weight, batch.bias
        link = sum(n * n for n in batch.sizes) / batch.padded_entries
        return layer, link, sum(batch.sizes) / (len(batch.sizes) * max(batch.sizes))

    prepared = PerBatch(make)

    def pool(batch: SparseBatch) -> Outputs:
        layer, link, entropy = prepared(batch)
        out = layer(x=batch.x, adj=batch.edge_index, batch=batch.batch)
        return out.x, out.edge_index, out.loss["link_loss"] * link, out.loss["entropy_loss"] * entropy

    return pool


# ---- torch.sparse ---------------------------------------------------------------------------------------------------


class _SparseProduct(torch.autograd.Function):
    """A S by ``torch.sparse``, with the transpose of A made beforehand: its own backward makes it in every step."""

    @staticmethod
    def forward(ctx: Any, s: Tensor, a: Tensor, a_t: Tensor) -> Tensor:
        ctx.a_t = a_t
        return a @ s

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return ctx.a_t @ grad, None, None


def load_torch_sparse(device: torch.device) -> Pool:
    """The algebra of the fused operator in ``torch.sparse`` and dense products, CSR matrices given."""

    def make(batch: SparseBatch) -> tuple[Tensor, Tensor]:
        n = batch.x.size(0)
        one = torch.ones(batch.entries, dtype=batch.x.dtype, device=batch.x.device)

        def rows(ends: Tensor) -> Tensor:
            return torch.sparse_coo_tensor(ends, one, (n, n), check_invariants=False).to_sparse_csr()

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # CSR is "in beta state"
            return rows(batch.edge_index), rows(batch.edge_index.flip(0))

    prepared = PerBatch(make)

    def pool(batch: SparseBatch) -> Outputs:
        s = torch.softmax(batch.logits, -1)
        m = _SparseProduct.apply(s, *prepared(batch))
        x, adj, gram = (
            torch.stack([a.T @ b for a, b in zip(s.split(batch.sizes), t.split(batch.sizes), strict=True)])
            for t in (batch.x, m, s)
        )
        # |A - S S^T|^2 with entries of A that are all 1
        squared = batch.entries - 2 * adj.diagonal(dim1=1, dim2=2).sum() + gram.square().sum()
        rows = len(batch.sizes) * max(batch.sizes)
        return x, adj, squared.sqrt() / batch.padded_entries, torch.special.entr(s).sum() / rows

    return pool


# ---- hierpool -------------------------------------------------------------------------------------------------------


def require(op: str, backend: str, device: torch.device) -> None:
    """Raise `Unavailable` with the reason if a backend cannot run an operator: a figure is never of a fallback."""
    try:
        from hierpool import backends
    except ImportError as error:
        raise not_installed(error, "pip install -e .") from error
    try:
        backends.select(op, device.type, backend)
    except RuntimeError as error:
        raise Unavailable(str(error)) from error


def ours(device: torch.device, op: str, backend: str | None) -> str:
    """The backend of our kernels on a device unless one is named; `Unavailable` if it cannot run."""
    name = backend or BACKENDS[device.type]
    require(op, name, device)
    return name


def load_dense(device: torch.device, told: bool = True, backend: str | None = None) -> Pool:
    """Our drop-in function; A is ``told`` to be symmetric or not, or that is found out."""
    import hierpool

    name = ours(device, "soft_pool", backend)
    return lambda batch: hierpool.dense_diff_pool(
        batch.x,
        batch.adj,
        batch.logits,
        batch.mask,
        symmetric=batch.symmetric if told else None,
        backend=name,
    )


def load_edges(device: torch.device) -> Pool:
    """Our function of sparse batches from ``edge_index``, whose graph is built in every step."""
    import hierpool

    name = ours(device, "soft_pool", None)
    return lambda batch: hierpool.diff_pool(
        batch.x, batch.edge_index, batch.logits, batch=batch.batch, backend=name
    )[:4]


def load_graph(device: torch.device, backend: str | None = None) -> Pool:
    """Our function of sparse batches from a graph that the loader built."""
    import hierpool

    name = ours(device, "soft_pool", backend)
    graph = PerBatch(
        lambda batch: hierpool.RaggedGraph.from_edge_index(
            batch.edge_index, batch.x.size(0), ptr=batch.ptr, symmetric=batch.symmetric, is_coalesced=batch.coalesced
        )
    )  # fmt: skip
    return lambda batch: hierpool.diff_pool(batch.x, graph(batch), batch.logits, backend=name)[:4]


_POOLING = "softmax, pooled x and adj, both losses, gradients to x and logits"
_GIVEN = f"{_POOLING}; the graph built by the loader, not counted"
_SPARSE = ("sparse", "sparse-linear")
_SCATTERED = ("scattered", "scattered-linear")

PROVIDERS = (
    Provider("pyg", "PyG eager", _POOLING, load_pyg, fp32_norm=True),
    Provider("pyg-compiled", "PyG compiled", f"{_POOLING}; not the compilation", load_pyg_compiled, fp32_norm=True),
    Provider("tgp", "tgp dense", f"{_POOLING}, by tgp's parts; not its MLP or post-processing", load_tgp,
             fp32_norm=True),
    Provider("hierpool-reference", "hierpool reference", f"{_POOLING}, in plain PyTorch",
             partial(load_dense, backend="reference")),
    Provider("hierpool", "hierpool", f"{_POOLING}; symmetry given", load_dense, symmetry=True, kernels=True),
    Provider("hierpool-detected", "hierpool, symmetry not given",
             f"{_POOLING}; symmetry not given: found out on a CPU, both products with A on a GPU",
             partial(load_dense, told=False), kernels=True),
    Provider("hierpool-directed", "hierpool, directed", f"{_POOLING}; both products with A", load_dense,
             symmetry=False, kernels=True),
    Provider("pyg-converted", "PyG + conversions", f"{_POOLING}; to_dense_batch of x and logits, to_dense_adj",
             load_pyg_converted, ("sparse",), fp32_norm=True),
    Provider("tgp-unbatched", "tgp batched=False",
             f"{_POOLING}, by tgp's layer with its MLP, one linear layer; not its post-processing",
             load_tgp_unbatched, ("sparse-linear", "scattered-linear")),
    Provider("torch-sparse", "torch.sparse", f"{_POOLING}, by the algebra of the fused operator; CSR matrices given",
             load_torch_sparse, ("large", "scattered")),
    Provider("hierpool-edges", "hierpool from edge_index",
             f"{_POOLING}; the graph built in every step and symmetry found out; the linear layer if there is one",
             load_edges, _SPARSE, devices=("cpu",)),
    Provider("hierpool-graph", "hierpool from a graph", _GIVEN, load_graph,
             (*_SPARSE, "large", *_SCATTERED), kernels=True),
    Provider("hierpool-graph-reference", "hierpool reference from a graph", f"{_GIVEN}, in plain PyTorch",
             partial(load_graph, backend="reference"), ("sparse", "scattered"), devices=("cuda",)),
)  # fmt: skip

# ---- workloads ------------------------------------------------------------------------------------------------------

DENSE = Kind("dense", ("pyg", "hierpool-reference", "hierpool"), ("pyg", "hierpool-reference"), foreseen=True)
SPARSE = Kind("sparse", ("pyg-converted", "hierpool-graph-reference", "hierpool-graph"),
              ("pyg-converted", "hierpool-graph-reference"), foreseen=True)  # fmt: skip
LINEAR = Kind("sparse-linear", ("tgp-unbatched",), ("pyg-converted",))
LARGE = Kind("large", ("torch-sparse",), ("torch-sparse",), slow=True)
SCATTERED = Kind("scattered", ("torch-sparse", "hierpool-graph"), check=in_parts.verify, foreseen=True)
SCATTERED_LINEAR = Kind(
    "scattered-linear", ("tgp-unbatched", "hierpool-graph"), check=in_parts.verify, foreseen=True
)

_REAL = {
    "enzymes": ("ENZYMES x 32", tu_batch("ENZYMES", 32)),
    "proteins": ("PROTEINS x 20", tu_batch("PROTEINS", 20)),
    "imdb-binary": ("IMDB-BINARY x 32", tu_batch("IMDB-BINARY", 32)),
    "dnd-like": ("D&D-like x 20", dnd_like),
}
_MILLION = "N 1 000 000, E 10 000 000, K 64, F 64"

_ON_CPU = (
    Workload("mutag", "MUTAG x 32", DENSE, tu_batch("MUTAG", 32)),
    *(Workload(name, title, DENSE, build) for name, (title, build) in _REAL.items()),
    Workload("dense-4096", "N4096 K256 F128 dense", DENSE, dense(1, 4096, 256, 128)),
    Workload("dense-4096-directed", "N4096 K256 F128 dense, directed", DENSE,
             dense(1, 4096, 256, 128, symmetric=False), symmetric=False),
    Workload("sparse-4096", "N4096 K256 F128, 0.5 % non-zeros", DENSE, dense(1, 4096, 256, 128, density=0.005)),
    *(Workload(f"{name}-edges", f"{title}, sparse", SPARSE, of_dense(build))
      for name, (title, build) in _REAL.items()),
    *(Workload(f"{name}-linear", f"{title}, sparse, with a linear layer", LINEAR, with_linear(of_dense(build)))
      for name, (title, build) in _REAL.items()),
    Workload("million", _MILLION, LARGE, random_graph(1_000_000, 10_000_000)),
    Workload("million-directed", f"{_MILLION}, directed", LARGE, random_graph(1_000_000, 10_000_000, symmetric=False),
             symmetric=False),
)  # fmt: skip

_DENSE_SHAPE, _DENSE_TITLE = (32, 1024, 256, 128), "B32 N1024 K256 F128 dense"
_SPARSE_SHAPE, _SPARSE_TITLE = (1_000_000, 16, 64, 64), "N 1 000 000, E 16 000 000, K 64, F 64"


def _on_gpu(
    name: str, title: str, kind: Kind, precision: Any, build: Any, share: int = 1, **more: Any
) -> Workload:
    return Workload(name, title, kind, build, precision=precision, device="cuda", share=share, **more)


# In the order of what is wanted most, as time may run out.
_ON_GPU = (
    _on_gpu("dense-tf32", f"{_DENSE_TITLE}, TF32", DENSE, TF32, dense(*_DENSE_SHAPE), 3),
    _on_gpu("dense-bf16", f"{_DENSE_TITLE}, bf16", DENSE, BF16, dense(*_DENSE_SHAPE, torch.bfloat16), 2),
    _on_gpu("csr-1m", f"{_SPARSE_TITLE}, TF32", SCATTERED, TF32, scattered(*_SPARSE_SHAPE), 2),
    _on_gpu("graphs-1024", "1024 graphs of 20 to 46 nodes, K 8, F 64", SPARSE, TF32, rings(1024, 20, 46, 8, 64), 2,
            replayed=True),
    _on_gpu("csr-40m", "N 40 000 000, E 160 000 000, K 64, F 64, bf16", SCATTERED, BF16,
            scattered(40_000_000, 4, 64, 64, torch.bfloat16), 2),
    _on_gpu("dense-ieee", f"{_DENSE_TITLE}, IEEE float32", DENSE, IEEE, dense(*_DENSE_SHAPE), 2),
    _on_gpu("csr-1m-bf16", f"{_SPARSE_TITLE}, bf16", SCATTERED, BF16, scattered(*_SPARSE_SHAPE, torch.bfloat16)),
    _on_gpu("csr-1m-linear", f"{_SPARSE_TITLE}, TF32, with a linear layer", SCATTERED_LINEAR, TF32,
            with_linear(scattered(*_SPARSE_SHAPE))),
)  # fmt: skip

PART = Part((*_ON_CPU, *_ON_GPU), PROVIDERS)

COST = Cost("E K + N K (K + F)", "N K", "S, SᵀX, SᵀAS, SᵀS, sizes, volumes, entropy, link loss")
