"""Inputs of the assignment network: features of nodes, or diffused random features, and their means over walks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from hierpool import RaggedGraph, spmm
from hierpool.clustering.shared import (
    Graph,
    columns_at_a_time,
    count_entries,
    largest,
    random_rows,
    total,
)
from hierpool.distributed import ShardedGraph
from hierpool.ops._sharded_product import Products
from hierpool.training.memory import release_memory

_ROWS = 1 << 14  # rows at a time
_ORTHONORMAL_EVERY = 4  # products after which float32 columns are still independent
_HOPS = 2
_REGULARISATION = 0.5  # fraction of the mean degree that is added to all degrees
_SHIFT = 0.25
Progress = Callable[[], None]


class NodeInputs(NamedTuple):
    r"""Features :math:`Z` of nodes and their propagated means :math:`P^2 Z`, with rows of unit length.

    :math:`P = (D + I)^{-1} (A + I)` is the mean over a node and its neighbours, with weights divided by their mean. A
    layer :math:`\sigma(Z W_1 + P^2 Z W_2)` is a graph layer with a skip connection whose product with :math:`A` is
    computed once, as in SGC and SIGN.
    """

    features: Tensor  # [N, F] float32
    propagated: Tensor  # [N, F] float32

    def rows(self, index: Tensor | slice) -> NodeInputs:
        """The inputs of the nodes at ``index``."""
        return NodeInputs(self.features[index], self.propagated[index])


def node_inputs(
    graph: Graph,
    x: Tensor | None,
    *,
    channels: int,
    products: int,
    seed: int,
    backend: str = "auto",
    progress: Progress = lambda: None,
) -> NodeInputs:
    r"""Compute the inputs of the network: :math:`Z = P^2 X` for given features, otherwise diffused random features.

    The mean weighted by degrees, which :math:`P` preserves, is subtracted from both.

    Args:
        graph: one undirected graph with :math:`N` nodes. If several processes share it, ``x`` and the result have the
            rows of the nodes of the process.
        x: features, float32 ``[N, F]``, or ``None`` for random features. Their unit is of no account.
        channels: number of random features.
        products: number of products of random features with the adjacency matrix.
        seed: seed of the random features.
        backend: backend of the products.
        progress: called after each product.

    Raises:
        ValueError: all weights are 0, or all rows of ``x`` are equal.

    Sources: SGC, Wu et al., "Simplifying graph convolutional networks", ICML 2019; SIGN, Frasca et al., "Scalable
    inception graph neural networks", 2020.
    """
    channels = channels if x is None else x.size(1)
    walk = _Walk(unit_weights(graph), channels, backend, progress)
    release_memory()
    if x is None:
        features = _diffused_random_features(walk, channels, products, seed)
    else:
        features = walk.propagate(_unit_features(graph, x))
    features.sub_(total(graph, (walk.weight / walk.total_weight) @ features))
    propagated = walk.propagate(features)
    return NodeInputs(_normalize_rows(features), _normalize_rows(propagated))


def unit_weights(graph: Graph) -> Graph:
    """The graph with weights divided by their mean: sums and squares of weights in any unit are in range.

    Raises:
        ValueError: all weights are 0.
    """
    if graph.value is None or count_entries(graph) == 0:
        return graph
    if isinstance(graph, RaggedGraph):
        mean = float(graph.value.mean(dtype=torch.float64))
    else:
        mean = float(graph.total(graph.value.sum(dtype=torch.float64))) / graph.total_edges
    if mean == 0:
        raise ValueError("weights must not all be 0")
    return graph.with_value(graph.value / mean, symmetric=graph.is_symmetric)


def _unit_features(graph: Graph, x: Tensor) -> Tensor:
    """Features divided by a power of 2, so that the largest is between 1 and 2.

    Raises:
        ValueError: all rows are equal.
    """
    if isinstance(graph, RaggedGraph) and x.size(0) > 1 and bool((x == x[0]).all()):
        raise ValueError("features must differ between nodes, but all rows are equal")
    size = largest(graph, float(x.abs().max()) if x.numel() else 0.0)
    return x / 2.0 ** (math.frexp(size)[1] - 1) if size else x


def count_products(x: Tensor | None, products: int) -> int:
    """The number of products with the adjacency matrix in :func:`node_inputs`."""
    return (_HOPS if x is not None else products) + _HOPS


class _Walk:
    """Products with the adjacency matrix normalised by degrees."""

    def __init__(self, graph: Graph, channels: int, backend: str, progress: Progress) -> None:
        self.graph, self.backend, self.progress = graph, backend, progress
        degree = graph.degree.float()
        self.weight = degree + 1
        self.total_weight = total(graph, self.weight.sum())
        mean = (
            degree.mean()
            if isinstance(graph, RaggedGraph)
            else total(graph, degree.sum()) / graph.total_nodes
        )
        self.regularised = degree + _REGULARISATION * mean
        self.columns, self.products = channels, None
        if isinstance(graph, ShardedGraph):
            self.columns = columns_at_a_time(-(-graph.total_nodes // graph.ranks.size), channels)
            self.products = Products(graph, self.columns, backend)

    def propagate(self, x: Tensor) -> Tensor:
        r""":math:`P^2 X` with :math:`P = (D + I)^{-1} (A + I)`, a new tensor."""
        if self.products is None:
            out = x
            for _ in range(_HOPS):
                out = spmm(self.graph, out, backend=self.backend).add_(out).div_(self.weight[:, None])
        else:
            out = torch.empty_like(x)
            for given, to in zip(x.split(self.columns, 1), out.split(self.columns, 1), strict=True):
                own = self.products.own(given.size(1)).copy_(given)
                for _ in range(_HOPS):
                    product = self.products.product(given.size(1))
                    own.add_(product).div_(self.weight[:, None])
                    del product
                to.copy_(own)
        for _ in range(_HOPS):
            self.progress()
        return out

    def shifted(self, x: Tensor) -> Tensor:
        r""":math:`(D_\tau^{-1/2} A D_\tau^{-1/2} + c I) X`, in place of ``x`` or a new tensor; ``x`` is overwritten."""
        root = self.regularised.rsqrt()[:, None]
        if self.products is None:
            out = spmm(self.graph, x.mul_(root), backend=self.backend).mul_(root)
            x = out.add_(x.div_(root), alpha=_SHIFT)
        else:
            for columns in x.split(self.columns, 1):
                torch.mul(columns, root, out=self.products.own(columns.size(1)))
                product = self.products.product(columns.size(1))
                columns.mul_(_SHIFT).addcmul_(product, root)
                del product
        self.progress()
        return x


def _diffused_random_features(walk: _Walk, channels: int, products: int, seed: int) -> Tensor:
    r"""Random features close to the span of the slowest modes of a random walk, ``[N, channels]``.

    This is subspace iteration: products with the normalised adjacency matrix, with an orthonormalisation after every
    few of them. Half the mean degree is added to all degrees, :math:`D_\tau`; otherwise trees that are attached to a
    sparse graph are slower modes than its communities. A quarter of the identity is added, so that nearly bipartite
    parts, which have negative eigenvalues, do not dominate.

    Sources: Halko, Martinsson, Tropp, "Finding structure with randomness", SIAM Review 53, 2011, algorithm 4.4; Qin,
    Rohe, "Regularized spectral clustering under the degree-corrected stochastic blockmodel", NeurIPS 2013.
    """
    graph = walk.graph
    x = random_rows(graph, channels, seed)
    trivial = walk.regularised.sqrt() / total(graph, walk.regularised.sum()).sqrt()
    for step in range(1, products + 1):
        x = walk.shifted(x)
        x.addr_(trivial, total(graph, trivial @ x), alpha=-1)
        # The last products are not orthonormalised, so that the slow modes stay larger than the others.
        if step % _ORTHONORMAL_EVERY == 0 and step < products:
            _orthonormalize(graph, x)
    return x.mul_(walk.regularised.rsqrt()[:, None])


def _orthonormalize(graph: Graph, x: Tensor) -> None:
    """Orthonormalise the columns of ``x`` in place with the eigenvectors of their Gram matrix in float64."""
    gram = torch.zeros(x.size(1), x.size(1), dtype=torch.float64)
    for rows in x.split(_ROWS):
        block = rows.double()
        gram.addmm_(block.t(), block)
    gram = total(graph, gram)
    eigenvalue, eigenvector = torch.linalg.eigh(gram)
    # The clamp leaves directions that the columns do not span short.
    change = (eigenvector * eigenvalue.clamp(min=1e-10 * float(eigenvalue[-1]) + 1e-300).rsqrt()).float()
    for rows in x.split(_ROWS):
        rows.copy_(rows @ change)


def _normalize_rows(x: Tensor) -> Tensor:
    for rows in x.split(_ROWS):
        rows.div_(rows.norm(dim=1, keepdim=True).clamp(min=1e-12))
    return x
