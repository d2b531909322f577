"""What the assignment network knows of a node: its features, or diffused random ones, at two ranges."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from hierpool.graph import RaggedGraph
from hierpool.ops import spmm

_ROWS = 1 << 16  # rows at a time
_ORTHONORMAL_EVERY = 4  # products, while which columns of float32 stay independent
_HOPS = 2
_REGULARISATION = 0.5  # of the mean degree
_SHIFT = 0.25
Progress = Callable[[], None]


class NodeInputs(NamedTuple):
    r"""Features of nodes in two versions, rows of unit length.

    With :math:`P = (D + I)^{-1} (A + I)`, the mean over a node and its neighbours, ``near`` are features :math:`Z`
    and ``far`` is :math:`P^2 Z`, so that a layer :math:`\sigma(Z W_1 + P^2 Z W_2)` over them is a graph layer
    with a skip connection whose product is taken once, as in SGC and SIGN.
    """

    near: Tensor  # [N, F] float32
    far: Tensor  # [N, F] float32

    def rows(self, index: Tensor | slice) -> NodeInputs:
        """Those of some nodes."""
        return NodeInputs(self.near[index], self.far[index])


def node_inputs(
    graph: RaggedGraph,
    x: Tensor | None,
    *,
    channels: int,
    products: int,
    seed: int,
    backend: str = "auto",
    progress: Progress = lambda: None,
) -> NodeInputs:
    r"""The inputs of the network: :math:`Z = P^2 X` of given features, diffused random projections otherwise.

    Of both the trivial component, the mean weighted by degrees, which :math:`P` preserves, is taken out.

    Args:
        graph: undirected, :math:`N` nodes.
        x: features, float32 ``[N, F]``, or ``None``.
        channels, products, seed: of random projections.
        backend: of the products.
        progress: called after each product.

    Sources: SGC, Wu et al., "Simplifying graph convolutional networks", ICML 2019; SIGN, Frasca et al., "Scalable
    inception graph neural networks", 2020.
    """
    walk = _Walk(graph, backend, progress)
    if x is None:
        near = _diffused_projections(walk, channels, products, seed)
    else:
        near = walk.means(x)
        for _ in range(1, _HOPS):
            near = walk.means(near)
    near.sub_((walk.weight / walk.weight.sum()) @ near)
    far = near
    for _ in range(_HOPS):
        far = walk.means(far)
    return NodeInputs(_unit_rows(near), _unit_rows(far))


def count_products(x: Tensor | None, products: int) -> int:
    """How often :func:`node_inputs` multiplies by the adjacency matrix."""
    return (_HOPS if x is not None else products) + _HOPS


class _Walk:
    """Products with the adjacency matrix, normalised by degrees."""

    def __init__(self, graph: RaggedGraph, backend: str, progress: Progress) -> None:
        self.graph, self.backend, self.progress = graph, backend, progress
        degree = graph.degree.float()
        self.weight = degree + 1
        self.regular = degree + _REGULARISATION * degree.mean()

    def means(self, x: Tensor) -> Tensor:
        r""":math:`(D + I)^{-1} (A + I) X`, a new tensor."""
        out = spmm(self.graph, x, backend=self.backend).add_(x).div_(self.weight[:, None])
        self.progress()
        return out

    def shifted(self, x: Tensor) -> Tensor:
        r""":math:`(D_\tau^{-1/2} A D_\tau^{-1/2} + c I) X`, a new tensor; ``x`` is overwritten."""
        root = self.regular.rsqrt()[:, None]
        out = spmm(self.graph, x.mul_(root), backend=self.backend).mul_(root)
        out.add_(x.div_(root), alpha=_SHIFT)
        self.progress()
        return out


def _diffused_projections(walk: _Walk, channels: int, products: int, seed: int) -> Tensor:
    r"""Random features after many products, near the span of the slowest modes of a random walk, ``[N, channels]``.

    Subspace iteration: products with the normalised adjacency matrix, orthonormalised every few of them. Half the mean
    degree is added to all degrees, :math:`D_\tau`, without which trees that dangle from a sparse graph are
    slower modes than its communities; a quarter of the identity is added so that near-bipartite parts, of negative
    eigenvalues, do not come first.

    Sources: Halko, Martinsson, Tropp, "Finding structure with randomness", SIAM Review 53, 2011, algorithm 4.4; Qin,
    Rohe, "Regularized spectral clustering under the degree-corrected stochastic blockmodel", NeurIPS 2013.
    """
    n = walk.graph.num_nodes
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, channels, generator=generator)
    trivial = walk.regular.sqrt() / walk.regular.sum().sqrt()
    for step in range(1, products + 1):
        x = walk.shifted(x)
        x.addr_(trivial, trivial @ x, alpha=-1)
        # Not the last: their few products leave slow modes larger than the others, of which there are more.
        if step % _ORTHONORMAL_EVERY == 0 and step < products:
            _orthonormalise(x)
    return x.mul_(walk.regular.rsqrt()[:, None])


def _orthonormalise(x: Tensor) -> None:
    """Make the columns of ``x`` orthonormal, in place, by the eigenvectors of their Gram matrix in float64."""
    gram = torch.zeros(x.size(1), x.size(1), dtype=torch.float64)
    for rows in x.split(_ROWS):
        wide = rows.double()
        gram.addmm_(wide.t(), wide)
    size, direction = torch.linalg.eigh(gram)
    # Directions that the columns do not span are left short, not blown up.
    change = (direction * size.clamp(min=1e-10 * float(size[-1]) + 1e-300).rsqrt()).float()
    for rows in x.split(_ROWS):
        rows.copy_(rows @ change)


def _unit_rows(x: Tensor) -> Tensor:
    for rows in x.split(_ROWS):
        rows.div_(rows.norm(dim=1, keepdim=True).clamp(min=1e-12))
    return x
