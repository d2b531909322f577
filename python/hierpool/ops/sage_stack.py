"""A stack of GraphSAGE layers: messages, weights, rows of length 1, ReLU and batch normalisation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hierpool.contract import Csr, Dense, ranges_of, sum_by_index
from hierpool.graph import RaggedGraph
from hierpool.ops import spmm
from hierpool.ops._batch_norm import batch_norm
from hierpool.ops._operator import Operator
from hierpool.ops._shared import pairs


class Options(NamedTuple):
    """Arguments that are not tensors."""

    root: bool  # every layer has such a weight
    bias: bool
    mean: bool  # divide sums over neighbours by max(1, degree)
    aggregate_first: bool  # the first layer takes the product with A before that with its weight
    normalize: bool  # divide rows by their lengths, but at least by 1e-12
    training: bool  # batch normalisation takes the statistics of the batch
    momentum: float
    eps: float
    backend: str


class Call(NamedTuple):
    """The arguments."""

    x: Tensor  # [N, F] with a sparse A, otherwise [B, N, F]
    adj: Dense | Csr  # [B or 1, N, N] or [N, N], in the dtype of x
    mask: Tensor | None  # bool [B, N]: valid nodes; x and A are not read elsewhere
    running: Tensor | None  # [L - 1, 2, H]: mean and variance; None: no normalisation over the batch
    layers: tuple[Tensor, ...]  # the tensors of each layer: those of Layer that are not None
    options: Options


class Out(NamedTuple):
    """The result, new running statistics if training, and what the backward reads."""

    y: Tensor  # [.., G]
    updated: Tensor | None  # [L - 1, 2, H]
    saved: Tensor | None


class Upstream(NamedTuple):
    """The gradient of the result."""

    y: Tensor


class Saved(NamedTuple):
    """The fields of ``Out`` that the backward reads."""

    saved: Tensor | None


class Leaves(NamedTuple):
    """Arguments that may need a gradient."""

    x: Any
    value: Any
    layers: tuple[Any, ...]


class Layer(NamedTuple):
    """The weights of a layer."""

    relation: Tensor  # [G, F], of the sum over neighbours
    root: Tensor | None  # [G, F], of the node itself
    bias: Tensor | None  # [G]
    gain: Tensor | None  # [G], of the batch normalisation that follows; the last layer has none
    shift: Tensor | None  # [G]


class Normalisation(NamedTuple):
    """The batch normalisation of all layers but the last."""

    running: Tensor  # [L - 1, 2, H]
    training: bool
    momentum: float
    eps: float


class SageStack(Operator, opaque=False):
    """The operator of a stack of GraphSAGE layers."""

    def composite(self, call: Call) -> Out:
        x, adj, mask, running, _, options = call
        layers = _layers_of(call)
        if mask is not None and isinstance(adj, Dense):
            x = torch.where(mask[..., None], x, 0)
            adj = Dense(torch.where(pairs(mask, adj.value), adj.value, 0))
        aggregate = _aggregator(adj, x, mask, options)
        outputs: list[Tensor] = []
        updated: list[Tensor] = []
        for i, layer in enumerate(layers):
            first = i == 0 and options.aggregate_first
            h = F.linear(aggregate(x), layer.relation) if first else aggregate(F.linear(x, layer.relation))
            if layer.root is not None:
                h = h + F.linear(x, layer.root, layer.bias)
            elif layer.bias is not None:
                h = h + layer.bias
            if options.normalize:
                if mask is not None and layer.bias is None:  # a length of 0 has no second derivative
                    h = torch.where(mask[..., None], h, 1)
                h = F.normalize(h, dim=-1, eps=1e-12)
            x = h
            if i + 1 < len(layers):
                x = x.relu()
            if layer.gain is not None:
                assert layer.shift is not None
                assert running is not None
                how = {name: getattr(options, name) for name in ("training", "momentum", "eps")}
                old = running[i, 0], running[i, 1]
                x, new = batch_norm(x, mask, layer.gain, layer.shift, old, **how)
                updated += new
            outputs.append(x)
        y = outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)
        if mask is not None:
            y = torch.where(mask[..., None], y, 0)
        if running is None or not options.training:
            return Out(y, None, None)
        return Out(y, torch.stack(updated).view_as(running), None)


OPERATOR = SageStack()

Aggregate = Callable[[Tensor], Tensor]


def _layers_of(call: Call) -> list[Layer]:
    tensors, options = list(call.layers), call.options
    layers: list[Layer] = []
    while tensors:
        relation = tensors.pop(0)
        root = tensors.pop(0) if options.root else None
        bias = tensors.pop(0) if options.bias else None
        has_norm = call.running is not None and bool(tensors)
        gain, shift = (tensors.pop(0), tensors.pop(0)) if has_norm else (None, None)
        layers.append(Layer(relation, root, bias, gain, shift))
    return layers


def _aggregator(adj: Dense | Csr, x: Tensor, mask: Tensor | None, options: Options) -> Aggregate:
    r"""The map :math:`X \mapsto D^{-1} A X`."""
    one = isinstance(adj, Dense) and mask is not None and adj.value.shape[0] != mask.shape[0]
    shared = mask if one else None  # one matrix for all graphs, each with nodes of its own
    if isinstance(adj, Csr):
        how = spmm.Options(False, "reference" if options.backend == "reference" else "auto")

        def product(x: Tensor) -> Tensor:
            return spmm.OPERATOR(spmm.Call(x, adj, how))[0]

    elif shared is not None:

        def product(x: Tensor) -> Tensor:
            return adj.value @ torch.where(shared[..., None], x, 0)

    else:
        # Columns of padding are 0 in A, so values in padded rows do not reach other rows.
        def product(x: Tensor) -> Tensor:
            return adj.value @ x

    if not options.mean:
        return product
    if isinstance(adj, Csr):
        degree = _degrees(adj).to(x.dtype)[:, None]
    else:
        degree = adj.value.sum(-1, keepdim=True) if shared is None else product(x.new_ones(()))
    divisor = degree.clamp(min=1)

    def average(x: Tensor) -> Tensor:
        # Not times the reciprocal, whose derivative has its square: that is 0 for weights of 1e23.
        total = product(x)
        return (total / divisor).to(total.dtype)  # which autocast may have narrowed

    return average


def _degrees(adj: Csr) -> Tensor:
    """The row sums ``[N]`` of A."""
    if adj.value is None:
        return adj.rowptr.diff()
    rows = ranges_of(adj.rowptr, adj.value.numel()).long()
    return sum_by_index(adj.value, rows, adj.rowptr.numel() - 1)


def sage_stack(
    x: Tensor,
    adj: Tensor | RaggedGraph,
    mask: Tensor | None,
    layers: Sequence[Layer],
    *,
    mean: bool,
    normalize: bool,
    norm: Normalisation | None = None,
) -> tuple[Tensor, Tensor | None]:
    r"""The concatenated results :math:`Y_l` of a stack of layers.

    .. math::
        H_l = D^{-1} A Y_{l-1} W_l^T + Y_{l-1} V_l^T + b_l, \quad Y_l = \mathrm{BN}(\mathrm{relu}(H_l / |H_l|))

    with :math:`Y_0 = X`. ReLU and batch normalisation follow every layer but the last.

    Args:
        x: :math:`X`, ``[B, N, F]``, or ``[N, F]`` with a ragged graph.
        adj: ``[B, N, N]`` or ``[1, N, N]`` in the dtype of ``x``, or a ragged graph.
        mask: valid nodes, bool ``[B, N]``, or ``None`` if all are. Padding of ``x`` and ``adj`` is not read.
        layers: the weights. All have the same fields, but for the normalisation of the last.
        mean: divide sums over neighbours by :math:`D = \max(1, A 1)`.
        normalize: divide rows by their lengths, but at least by 1e-12.
        norm: the batch normalisation.

    Returns:
        ``[B, N, G]`` with 0 in padding, or ``[N, G]``; and the new running statistics if ``norm.training``.
    """
    if x.size(-1) == 0:  # the kernels take no rows without features
        head = layers[0]
        root = None if head.root is None else F.pad(head.root, (0, 1))
        head = head._replace(relation=F.pad(head.relation, (0, 1)), root=root)
        x, layers = F.pad(x, (0, 1)), [head, *layers[1:]]
    inputs, outputs = layers[0].relation.size(1), layers[0].relation.size(0)
    # If x needs no gradient, aggregating x itself saves the product with the adjacency in the backward.
    first = inputs * (2 if x.requires_grad else 1) < 2 * outputs
    options = Options(
        layers[0].root is not None,
        layers[0].bias is not None,
        mean,
        first,
        normalize,
        *((False, 0.0, 0.0) if norm is None else norm[1:]),
        "auto",
    )
    weights = tuple([t for layer in layers for t in layer if t is not None])
    running = None if norm is None else norm.running
    graph = adj if isinstance(adj, RaggedGraph) else None
    edges: Dense | Csr = Dense(adj) if isinstance(adj, Tensor) else _edges(adj)
    call = Call(x if graph is None else graph.in_graph_order(x), edges, mask, running, weights, options)
    if norm is not None and norm.training:
        y, updated = OPERATOR(call, ("y", "updated"))
    else:
        (y,), updated = OPERATOR(call), None
    return y if graph is None else graph.in_callers_order(y), updated


def _edges(graph: RaggedGraph) -> Csr:
    turned = torch.is_grad_enabled() and not graph.is_symmetric
    return Csr(graph.value, graph.rowptr, graph.col, *(graph.transposed() if turned else ()))
