"""MinCut and DMoN pooling as one operator: soft pooling, the losses, and the normalised adjacency.

For a batch of small graphs, recording the thirty steps on ``[B, K, K]`` in autograd takes longer than pooling.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hierpool.contract import Csr, Dense, Padded, Ragged
from hierpool.distributed import ShardedGraph
from hierpool.graph import RaggedGraph
from hierpool.ops import _checks, cut_terms
from hierpool.ops._operator import Operator
from hierpool.ops._sharded_pool import sharded_fields
from hierpool.ops.cut_terms import Kind
from hierpool.ops.linear_maps import check_features, linear_maps
from hierpool.ops.soft_pool import OPERATOR as SOFT_POOL
from hierpool.ops.soft_pool import Call as PoolingCall
from hierpool.ops.soft_pool import Options as PoolingOptions
from hierpool.ops.soft_pool import checked_inputs, logits_of, temperature_gradient
from hierpool.reference.linear_maps import Map, as_maps


class Options(NamedTuple):
    """Arguments that are not tensors."""

    kind: Kind
    selu: bool  # apply SELU to the pooled features
    sizes: bool  # compute the sizes of the clusters
    symmetric: bool | None
    save: bool
    backend: str


class Call(NamedTuple):
    """The arguments."""

    logits: Tensor | None  # [B, N, K], or [N, K]; None: computed from x by the maps
    x: Tensor  # [B, N, F], or [N, F]
    adj: Dense | Csr
    rows: Padded | Ragged
    temperature: Tensor | None
    num_clusters: Tensor | None  # int64 [B]; None: K
    maps: tuple[Tensor, ...]  # weight, bias, weight, bias, ...
    options: Options


class Out(NamedTuple):
    """The results, and tensors that the backward needs."""

    x: Tensor  # [B, K, F]
    adj: Tensor  # [B, K, K], the dtype of the logits
    first: Tensor  # []
    ortho: Tensor  # []
    cluster: Tensor  # []; 0 for MinCut
    s: Tensor  # [B, N, K], or [N, K]
    size: Tensor | None  # [B, K]; None without options.sizes
    activated: Tensor | None  # [B, K, F]: a copy of x, if it is the result of SELU
    sums: Tensor


class Upstream(NamedTuple):
    """Gradients of the results; ``None`` is zero."""

    x: Tensor | None
    adj: Tensor | None
    first: Tensor | None
    ortho: Tensor | None
    cluster: Tensor | None
    s: Tensor | None
    size: Tensor | None


class Saved(NamedTuple):
    """The fields of ``Out`` that the backward reads."""

    s: Tensor
    activated: Tensor | None
    sums: Tensor


class Leaves(NamedTuple):
    """Arguments that may need a gradient."""

    logits: Any
    x: Any
    value: Any
    temperature: Any
    maps: tuple[Any, ...]


class CutPool(Operator, opaque=False):
    """The operator of MinCut and DMoN pooling."""

    def select(self, call: Call) -> ModuleType | None:
        """On a GPU the composite calls the Triton kernels of soft pooling and of the last step."""
        if call.options.backend == "triton":
            return None
        backend = super().select(call)
        if backend is None or (call.maps and not backend.takes_maps(call.x, call.maps)):
            return None
        return backend

    def check_values(self, call: Call) -> None:
        if call.temperature is not None or call.num_clusters is not None:
            k = call.maps[-1].numel() if call.logits is None else call.logits.size(-1)
            _checks.check_values(0, None, call.temperature, call.num_clusters, k)

    def composite(self, call: Call) -> Out:
        logits, x, adj, rows, temperature, num_clusters, maps, options = call
        symmetric, save, backend = options[3:]
        if logits is None:
            logits = linear_maps(x, as_maps(maps), rows.mask if isinstance(rows, Padded) else None)
        wanted = PoolingOptions(False, symmetric, True, False, False, False, save, backend)
        pooling = PoolingCall(logits, x, adj, rows, temperature, num_clusters, wanted)
        fields = SOFT_POOL(pooling, _FIELDS, read_only=True)
        return finished(call.options, fields, num_clusters, torch.promote_types(x.dtype, logits.dtype))

    def reads_first(self, call: Call) -> bool:
        """The gradient of the temperature needs the logits."""
        return call.logits is None or (call.temperature is not None and call.temperature.requires_grad)

    def restored(self, call: Call, saved: Saved) -> Call:
        if call.logits is not None or call.maps:
            return call
        return call._replace(logits=logits_of(saved.s, call.temperature))

    def backward(
        self, backend: ModuleType, call: Call, saved: Saved, upstream: Upstream, needs: Leaves
    ) -> tuple[Any, ...]:
        if needs.temperature or call.maps:  # their gradients are computed from that of the logits
            needs = needs._replace(logits=True)
        dlogits, dx, dvalue, dmaps = backend.backward(call, saved, upstream, needs)
        dtemperature = None
        if needs.temperature:
            assert call.logits is not None
            dtemperature = temperature_gradient(dlogits, call.logits, call.temperature)
        return dlogits, dx, dvalue, dtemperature, tuple(dmaps) or needs.maps


OPERATOR = CutPool()

_FIELDS = ("s", "x", "adj", "gram", "vectors", "scalars")


def finished(
    options: Options, fields: tuple[Tensor, ...], num_clusters: Tensor | None, dtype: torch.dtype
) -> Out:
    """The results from the fields of the record named in ``_FIELDS``; losses have the dtype ``dtype``."""
    kind, selu, sizes, _, _, backend = options
    s, pooled_x, adj_sums, gram, vectors, scalars = fields
    if selu:
        pooled_x = F.selu(pooled_x)
    last = cut_terms.Options(kind, "auto" if backend == "native" else backend)
    terms = cut_terms.Call(adj_sums, gram, vectors, scalars, num_clusters, last)
    pooled, *losses = cut_terms.OPERATOR(terms)
    first, ortho, cluster = (loss.to(dtype) for loss in losses)
    size = vectors.select(1, 0) if sizes else None
    return Out(pooled_x, pooled.to(s.dtype), first, ortho, cluster, s, size, None, scalars)


def cut_pool(
    kind: Kind,
    wanted: tuple[str, ...],
    x: Tensor,
    adj: Tensor | RaggedGraph | ShardedGraph,
    s: Tensor | Sequence[Map],
    mask: Tensor | None = None,
    *,
    selu: bool = False,
    num_clusters: int | Tensor | None = None,
    temperature: float | Tensor | None = None,
    symmetric: bool | None = None,
    backend: str = "auto",
) -> tuple[Tensor, ...]:
    """MinCut or DMoN pooling with the losses of :mod:`hierpool.losses` and a post-processed adjacency.

    Args:
        kind: which losses to compute.
        wanted: fields of :class:`Out` to return. Autograd takes time for each.
        x, adj, mask: see :func:`hierpool.soft_pool`.
        s: the logits, or the maps that compute them from ``x`` (:func:`hierpool.ops.linear_maps.linear_maps`).
        selu: apply SELU to the pooled features.
        num_clusters, temperature, symmetric, backend: see :func:`hierpool.soft_pool`.

    Returns:
        The fields in the order of ``wanted``. Rows of ``s`` are in the order of the matrix of a ragged graph.
    """
    maps: tuple[Tensor, ...] = ()
    if isinstance(adj, ShardedGraph):
        _checks.check_absent(mask=mask)
        s = s if isinstance(s, Tensor) else linear_maps(x, s)
        given: Any = {"num_clusters": num_clusters, "temperature": temperature, "symmetric": symmetric}
        kept: Any = {"link_loss": None, "entropy": False, "gram": True, "backend": backend}
        fields, counts = sharded_fields(x, adj, s, **given, **kept)
        options = Options(kind, selu, "size" in wanted, None, False, backend)
        out = finished(options, fields[:6], counts, torch.promote_types(x.dtype, s.dtype))
        return tuple([getattr(out, name) for name in wanted])
    if not isinstance(s, Tensor):
        check_features(x, s)
        maps = tuple([tensor for one in s for tensor in one])
        s = x  # in place of the logits, which have the same number of rows
    s, x, structure, rows, scale, counts, symmetric, save = checked_inputs(
        x, adj, s, mask, None, num_clusters, False, temperature, symmetric, backend, maps
    )
    options = Options(kind, selu, "size" in wanted, symmetric, save, backend)
    return OPERATOR(Call(None if maps else s, x, structure, rows, scale, counts, maps, options), wanted)
