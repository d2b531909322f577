"""The implementations that start from ``edge_index``; their values are those of `bench.providers`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from bench.providers import Outputs, Pool, ProviderUnavailable
from bench.sparse import SparseBatch

T = TypeVar("T")


class PerBatch(Generic[T]):
    """What comes with a batch before the step: made at its first use, and kept until another batch is used."""

    def __init__(self, make: Callable[[SparseBatch], T]) -> None:
        self.make = make
        self.batch: SparseBatch | None = None

    def __call__(self, batch: SparseBatch) -> T:
        if batch is not self.batch:
            self.batch, self.made = batch, self.make(batch)
        return self.made


def load_pyg_converted() -> Pool:
    """PyG's eager function behind PyG's conversions to padded tensors."""
    try:
        from torch_geometric.nn import dense_diff_pool
        from torch_geometric.utils import to_dense_adj, to_dense_batch
    except ImportError as error:
        raise ProviderUnavailable(f"{error}: pip install 'hierpool[bench]'") from error

    def pool(batch: SparseBatch) -> Outputs:
        x, mask = to_dense_batch(batch.x, batch.batch)
        s, _ = to_dense_batch(batch.logits, batch.batch)
        adj = to_dense_adj(batch.edge_index, batch.batch).to(x.dtype)  # the same tensor in float32
        return dense_diff_pool(x, adj, s, mask)

    return pool


def load_tgp_unbatched() -> Pool:
    """tgp's layer ``DiffPool(batched=False)``, whose MLP is the linear layer of the batch; post-processing is off.

    tgp divides the link loss by the sum of n_b^2 and the entropy by the number of nodes; the quotient to PyG's
    normalisation is a number, multiplied to each.
    """
    try:
        from tgp.poolers import DiffPool
    except ImportError as error:
        raise ProviderUnavailable(
            f"{error}: tgp needs torch-geometric-pool, torch-scatter (a source build), scikit-learn and scipy"
        ) from error

    torch.sparse.check_sparse_tensor_invariants.disable()  # the default, but torch warns unless it is chosen

    def make(batch: SparseBatch) -> tuple[Any, float, float]:
        layer = DiffPool(
            batch.x.size(1), batch.clusters, batched=False, normalize_loss=True, remove_self_loops=False,
            degree_norm=False, adj_transpose=False,
        )  # fmt: skip
        (linear,) = layer.selector.mlp.lins
        linear.weight, linear.bias = batch.given.weight, batch.given.bias
        link = sum(n * n for n in batch.sizes) / batch.padded_entries
        return layer, link, sum(batch.sizes) / (len(batch.sizes) * max(batch.sizes))

    prepared = PerBatch(make)

    def pool(batch: SparseBatch) -> Outputs:
        layer, link, entropy = prepared(batch)
        out = layer(x=batch.x, adj=batch.edge_index, batch=batch.batch)
        return out.x, out.edge_index, out.loss["link_loss"] * link, out.loss["entropy_loss"] * entropy

    return pool


class _SparseProduct(torch.autograd.Function):
    """A S by ``torch.sparse``, with the transpose of A made beforehand: its own backward makes it in every step."""

    @staticmethod
    def forward(ctx: Any, s: Tensor, a: Tensor, a_t: Tensor) -> Tensor:
        ctx.a_t = a_t
        return a @ s

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return ctx.a_t @ grad, None, None


def load_torch_sparse() -> Pool:
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


def load_hierpool_sparse(graph: str) -> Callable[[], Pool]:
    """Our function, never a silent fallback: from ``edge_index`` and ``batch``, whose graph is "built" in every step,
    or from one of the "loader"."""

    def load() -> Pool:
        try:
            import hierpool
        except ImportError as error:
            raise ProviderUnavailable(f"{error}: pip install -e .") from error
        probe = torch.zeros(1, 1)
        try:
            hierpool.diff_pool(probe, torch.zeros(2, 0, dtype=torch.int64), probe, backend="native")
        except RuntimeError as error:
            raise ProviderUnavailable(str(error)) from error
        if graph == "built":
            return lambda batch: hierpool.diff_pool(
                batch.x, batch.edge_index, batch.logits, batch=batch.batch, backend="native"
            )[:4]
        prepared = PerBatch(
            lambda batch: hierpool.RaggedGraph.from_edge_index(
                batch.edge_index, batch.x.size(0), ptr=batch.ptr
            )
        )
        return lambda batch: hierpool.diff_pool(batch.x, prepared(batch), batch.logits, backend="native")[:4]

    return load
