"""``hierpool::soft_pool``: soft pooling in one pass over the nodes, with a dense or a sparse adjacency."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from hierpool import backends, reference
from hierpool.contract import Csr, Dense, Padded, Ragged, accumulation_dtype, existing_columns
from hierpool.distributed import ShardedGraph
from hierpool.graph import RaggedGraph
from hierpool.ops import _checks
from hierpool.ops._operator import Operator
from hierpool.ops._sharded_pool import checked_flags, sharded_fields
from hierpool.record import SoftPoolRecord


class Options(NamedTuple):
    """Arguments that are not tensors."""

    given: bool  # logits are S
    symmetric: bool | None  # every A equals its transpose; None: not known
    gram: bool  # compute S^T S
    link: bool  # compute link_sq and link_norm
    entropy: bool  # compute the entropies
    mean: bool  # divide total_entropy and link_norm as in PyTorch Geometric
    save: bool  # compute what the backward needs
    backend: str


class Call(NamedTuple):
    """The arguments."""

    logits: Tensor  # [B, N, K], or [N, K]
    x: Tensor  # [B, N, F], or [N, F]
    adj: Dense | Csr
    rows: Padded | Ragged
    temperature: Tensor | None  # []; None: 1
    num_clusters: Tensor | None  # int64 [B]: graph b has the first num_clusters[b] columns; None: K
    options: Options


class Out(NamedTuple):
    """The packed record, see :class:`hierpool.SoftPoolRecord`, and further tensors that the backward needs."""

    s: Tensor
    x: Tensor
    adj: Tensor
    gram: Tensor  # [B, 0, 0] without options.gram
    vectors: Tensor
    scalars: Tensor
    total_entropy: Tensor
    link_norm: Tensor
    norm: Tensor  # link_norm, in memory of its own
    m: Tensor  # A S: [B, R, N, K], or [N, K]; empty without options.save
    is_symmetric: Tensor  # bool [B, R] for a dense A; empty without options.save


class Upstream(NamedTuple):
    """Gradients of the record; ``None`` is zero."""

    s: Tensor | None
    x: Tensor | None
    adj: Tensor | None
    gram: Tensor | None
    vectors: Tensor | None
    scalars: Tensor | None
    total_entropy: Tensor | None
    link_norm: Tensor | None


class Saved(NamedTuple):
    """The fields of ``Out`` that the backward reads."""

    s: Tensor
    gram: Tensor
    scalars: Tensor
    norm: Tensor
    m: Tensor
    is_symmetric: Tensor


class Leaves(NamedTuple):
    """Arguments that may need a gradient."""

    logits: Any
    x: Any
    value: Any
    temperature: Any


class SoftPool(Operator):
    """The operator of soft pooling."""

    def check_values(self, call: Call) -> None:
        logits, rows = call.logits, call.rows
        num_nodes = rows.num_nodes if isinstance(rows, Padded) else None
        if num_nodes is call.temperature is call.num_clusters is None:
            return
        _checks.check_values(logits.size(-2), num_nodes, call.temperature, call.num_clusters, logits.size(-1))

    def shapes(self, call: Call) -> Out:
        logits, x, options = call.logits, call.x, call.options
        value = call.adj.value
        *_, n, k = logits.shape
        acc = accumulation_dtype(logits, x, value)
        m: tuple[int, ...]
        known: tuple[int, ...]
        if isinstance(call.adj, Dense):
            types = tuple(call.adj.value.shape[1:-2])  # (R,), or () without a dimension of edge types
            b, r = logits.size(0), types[0] if types else 1
            m, known = (b, r, n if options.save else 0, k), (b, r if options.save else 0)
        else:
            assert isinstance(call.rows, Ragged)
            b, r, types = call.rows.ptr.numel() - 1, 1, ()
            m, known = (n if options.save else 0, k), (0,)
        gram = k if options.gram else 0
        empty = logits.new_empty
        return Out(
            s=empty(logits.shape),
            x=x.new_empty(b, k, x.size(-1)),
            adj=empty((b, *types, k, k), dtype=acc),
            gram=empty((b, gram, gram), dtype=acc),
            vectors=empty((b, 1 + r, k), dtype=acc),
            scalars=empty((b, 2 + 4 * r), dtype=acc),
            total_entropy=empty((), dtype=acc),
            link_norm=empty(types, dtype=acc),
            norm=empty(types, dtype=acc),
            m=empty(m, dtype=acc),
            is_symmetric=empty(known, dtype=torch.bool),
        )

    def composite(self, call: Call) -> Out:
        logits, x, adj, rows, temperature, num_clusters, options = call
        given, _, gram, link, entropy, mean, save, _ = options
        logits = logits.clone() if given else logits  # an operator must not return an argument
        wanted: dict[str, Any] = {
            "num_clusters": num_clusters,
            "given": given,
            "want_gram": gram,
            "want_link": link,
            "want_entropy": entropy,
            "mean": mean,
        }
        if isinstance(adj, Csr):
            assert isinstance(rows, Ragged)
            value, rowptr, col = adj[:3]
            csr = reference.soft_pool_csr(logits, x, value, rowptr, col, rows.ptr, temperature, **wanted)
            m = csr.m if save else csr.m[:0]
            return Out(*csr[:8], csr.link_norm.clone(), m, logits.new_empty(0, dtype=torch.bool))
        assert isinstance(rows, Padded)
        several = adj.value.dim() == 4
        a = adj.value if several else adj.value.unsqueeze(1)
        dense = reference.soft_pool_dense(logits, x, a, rows.mask, rows.num_nodes, temperature, **wanted)
        if not several:
            dense = dense._replace(adj=dense.adj.squeeze(1), link_norm=dense.link_norm.squeeze(0))
        out = Out(*dense[:8], dense.link_norm.clone(), *dense[8:])
        if options.symmetric is not None:
            out = out._replace(is_symmetric=torch.full_like(out.is_symmetric, options.symmetric))
        return out if save else out._replace(m=out.m[:, :, :0], is_symmetric=out.is_symmetric[:, :0])

    def reads_first(self, call: Call) -> bool:
        """The gradient of the temperature needs the logits."""
        return call.temperature is not None and call.temperature.requires_grad

    def restored(self, call: Call, saved: Saved) -> Call:
        if call.logits is not None:
            return call
        return call._replace(logits=saved.s if call.options.given else logits_of(saved.s, call.temperature))

    def like_gradients(self, call: Call, saved: Saved) -> Leaves:
        return Leaves(saved.s, call.x, call.adj.value, call.temperature)

    def defined(self, call: Call, out: Out) -> Out:
        """Set M in padding to 0; backends do not write it."""
        if not call.options.save:
            return out
        rows, m = call.rows, out.m
        if isinstance(rows, Padded):
            valid = reference.valid_rows(call.logits, *rows)
            if valid is not None:
                m.masked_fill_(~valid[:, None, :, None], 0)
        if call.num_clusters is not None:
            exists = existing_columns(call.num_clusters, call.logits, rows)
            m.masked_fill_(~(exists[:, None] if m.dim() == 4 else exists), 0)
        return out

    def backward(
        self, backend: ModuleType, call: Call, saved: Saved, upstream: Upstream, needs: Leaves
    ) -> tuple[Any, ...]:
        if not needs.temperature:
            dlogits, dx, dvalue = backend.backward(call, saved, upstream, needs)
            return dlogits, dx, dvalue, None
        dlogits, dx, dvalue = backend.backward(call, saved, upstream, needs._replace(logits=True))
        return dlogits, dx, dvalue, temperature_gradient(dlogits, call.logits, call.temperature)


OPERATOR = SoftPool()


def logits_of(s: Tensor, temperature: Tensor | None) -> Tensor:
    """Logits with the softmax ``s``; finite."""
    dtype = accumulation_dtype(s)
    logits = s.to(dtype).clamp(min=torch.finfo(dtype).tiny).log()
    return (logits if temperature is None else logits * temperature).to(s.dtype)


def temperature_gradient(dlogits: Tensor, logits: Tensor, temperature: Tensor | None) -> Tensor:
    """The gradient of the temperature that divides the logits."""
    assert temperature is not None
    # In padding, dlogits is 0 and logits may be NaN.
    product = torch.where(dlogits != 0, dlogits * logits, 0)
    return -product.sum(dtype=torch.float64).to(temperature.dtype) / temperature


def soft_pool(
    x: Tensor,
    adj: Tensor | RaggedGraph | ShardedGraph,
    s: Tensor,
    *,
    mask: Tensor | None = None,
    num_nodes: Tensor | None = None,
    num_clusters: int | Tensor | None = None,
    assignment: Literal["softmax", "given"] = "softmax",
    temperature: float | Tensor = 1.0,
    symmetric: bool | None = None,
    link_loss: Literal["frobenius"] | None = "frobenius",
    entropy: bool = True,
    gram: bool | None = None,
    backend: str = "auto",
) -> SoftPoolRecord:
    r"""Pool a batch of graphs with a soft assignment, in one pass over the nodes and edges.

    .. math::
        S = m \odot \mathrm{softmax}(L / T), \quad X' = S^T X, \quad A' = S^T A S

    The result also contains the sums from which the auxiliary losses are computed; see :class:`SoftPoolRecord`. Neither
    forward nor backward allocates ``N x N`` elements. Padding is not computed, and NaN or inf in padding does not reach
    any output. A ragged batch takes :math:`O(E + N K)` memory.

    In a padded batch, an argument with one graph, or without the dimension of graphs, is shared by all graphs, as an
    adjacency ``[N, N]`` is. It is not copied. Results are those of a copy for each graph.

    Args:
        x: node features :math:`X`, ``[B, N, F]``, or ``[N, F]`` for a ragged batch; float64, float32, bfloat16 or
            float16.
        adj: adjacency :math:`A`, ``[B, N, N]``, or ``[B, R, N, N]`` for R edge types; weighted or not, directed or
            not; a floating dtype, bool, int8 or uint8. It is not copied if its last dimension is contiguous. For a
            ragged batch, a :class:`hierpool.RaggedGraph`, or, if its nodes are split among processes, a
            :class:`hierpool.distributed.ShardedGraph`, with the rows of the own nodes in ``x`` and ``s``.
        s: assignment logits :math:`L`, ``[B, N, K]``, or ``[N, K]`` for a ragged batch. With ``assignment="given"``,
            the assignment :math:`S`.
        mask: valid nodes, ``[B, N]``, any dtype, non-zero means valid; may have holes. It selects rows of ``x`` and
            ``s`` and rows and columns of ``adj``. Only for padded batches.
        num_nodes: number of valid nodes, int64 ``[B]``: the first ``num_nodes[b]`` nodes of graph ``b`` are valid.
            Exclusive with ``mask``. Only for padded batches.
        num_clusters: number of clusters of each graph, int64 ``[B]`` or an int, from 1 to :math:`K`: graph ``b`` has
            the clusters of the first ``num_clusters[b]`` columns of ``s``. All results are those of pooling it alone
            with these columns, and 0 in the others. The work of the kernels is proportional to the number of clusters
            of each graph. ``None``: :math:`K`.
        assignment: ``"softmax"``: :math:`S` is the softmax of ``s`` over clusters. ``"given"``: :math:`S` is ``s``.
        temperature: :math:`T > 0`, a float or a 0-d tensor. A tensor may need a gradient, and a new value of a tensor
            does not recompile.
        symmetric: whether every dense :math:`A` equals its transpose. ``True`` is not checked and saves the product
            :math:`A^T S` in the backward. ``None``: it is determined exactly. Must be ``None`` with a ragged graph,
            which has ``graph.is_symmetric``.
        link_loss: ``"frobenius"`` for :math:`|A - S S^T|_F`, or ``None`` to skip it. It is a difference of sums, in
            :math:`O(N K^2)`. Graphs for which it is below 2 % of :math:`|A|_F` in float32, or 1e-6 in float64, where
            the difference loses digits, take :math:`O(N^2 K)` operations and no memory on the C++ kernels. The Triton
            kernels always take the difference, as plain PyTorch does in float64 for a ragged graph.
        entropy: whether to compute the entropies.
        gram: whether to compute :math:`S^T S`; ``None``: only if ``link_loss`` needs it.
        backend: ``"auto"``, ``"native"``, ``"triton"`` or ``"reference"``; see :func:`hierpool.explain`.

    Returns:
        The record. Gradients flow to ``s``, ``x``, ``temperature``, and to ``adj`` or the ``value`` of a ragged graph.
        Results do not depend on the number of threads. Callers may change them in place before the backward, except
        ``s``, for which the backward raises an error. Second derivatives, transforms of ``torch.func`` and
        forward-mode AD run on :func:`hierpool.reference.soft_pool_dense` and ``soft_pool_csr``.

    Raises:
        TypeError: an argument is not a tensor, or its dtype or layout is not supported.
        ValueError: a shape, device or value is invalid; the message names the argument.
        RuntimeError: the named backend cannot run; the message gives the reason.

    Source: Ying et al., NeurIPS 2018 (arXiv:1806.08804).
    """
    options: dict[str, Any] = {
        "num_clusters": num_clusters,
        "assignment": assignment,
        "temperature": temperature,
        "symmetric": symmetric,
        "link_loss": link_loss,
        "entropy": entropy,
        "gram": gram,
        "backend": backend,
    }
    if isinstance(adj, ShardedGraph):
        _checks.check_absent(mask=mask, num_nodes=num_nodes)
        fields, counts = sharded_fields(x, adj, s, **options)
    else:
        call = pooling_call(x, adj, s, mask, num_nodes, **options)
        fields, counts = OPERATOR(call), call.num_clusters
    s, x, adj_pooled, products, vectors, scalars, total_entropy, link_norm = fields
    s = adj.in_callers_order(s) if isinstance(adj, RaggedGraph) else s
    link = link_loss is not None
    found = products if gram or (link and gram is None) else None
    totals = total_entropy if entropy else None, link_norm if link else None
    return SoftPoolRecord(s, x, adj_pooled, found, vectors, scalars, *totals, counts)


def pool_fields(
    names: tuple[str, ...],
    x: Tensor,
    adj: Tensor | RaggedGraph | ShardedGraph,
    s: Tensor,
    mask: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, ...]:
    """Some fields of the record, in the order of ``names``. Autograd takes time for each.

    ``options`` are those of :func:`pooling_call`. Rows of ``s`` are in the order of the matrix of a ragged graph.
    """
    if isinstance(adj, ShardedGraph):
        fields, _ = sharded_fields(x, adj, s, **options)
        return tuple([fields[Upstream._fields.index(name)] for name in names])
    return OPERATOR(pooling_call(x, adj, s, mask, **options), names)


def pooling_call(
    x: Tensor,
    adj: Tensor | RaggedGraph,
    s: Tensor,
    mask: Tensor | None = None,
    num_nodes: Tensor | None = None,
    *,
    num_clusters: int | Tensor | None = None,
    assignment: str = "softmax",
    temperature: float | Tensor | None = None,
    symmetric: bool | None = None,
    link_loss: str | None = "frobenius",
    entropy: bool = True,
    gram: bool | None = None,
    mean: bool = False,
    backend: str = "auto",
    leaves: tuple[Tensor, ...] = (),
) -> Call:
    """The checked arguments of :func:`soft_pool`. Rows of a ragged batch are in the order of its matrix.

    Args:
        mean: divide ``total_entropy`` by :math:`B N` and ``link_norm`` by :math:`B N^2`, where :math:`N` is the
            number of rows of a padded graph, or the number of nodes of the largest graph of a ragged batch.
        leaves: further tensors that may need a gradient.
    """
    given, link = checked_flags(assignment, link_loss, entropy, gram)
    s, x, structure, rows, scale, counts, symmetric, save = checked_inputs(
        x, adj, s, mask, num_nodes, num_clusters, given, temperature, symmetric, backend, leaves
    )
    options = Options(given, symmetric, link if gram is None else gram, link, entropy, mean, save, backend)
    return Call(s, x, structure, rows, scale, counts, options)


def checked_inputs(
    x: Tensor,
    adj: Tensor | RaggedGraph,
    s: Tensor,
    mask: Tensor | None,
    num_nodes: Tensor | None,
    num_clusters: int | Tensor | None,
    given: bool,
    temperature: float | Tensor | None,
    symmetric: bool | None,
    backend: str,
    leaves: tuple[Tensor, ...],
) -> tuple[Tensor, Tensor, Dense | Csr, Padded | Ragged, Tensor | None, Tensor | None, bool | None, bool]:
    """The fields of a call but for the options, whether A is symmetric, and whether a gradient may be needed."""
    if backend != "auto":
        backends.check_name(backend)
    if symmetric is not None:
        _checks.check_flag("symmetric", symmetric)
    if isinstance(adj, RaggedGraph):
        _checks.check_ragged(x, adj, s)
        _checks.check_absent(mask=mask, num_nodes=num_nodes, symmetric=symmetric)
        value, symmetric = adj.value, adj.is_symmetric
    else:
        x, adj, s, mask = _checks.check_dense(x, adj, s, mask, num_nodes)
        value = adj
    scale = _checks.temperature_tensor(temperature, given, s)
    save = _checks.needs_gradient(s, x, value, scale, *leaves)
    if not isinstance(adj, RaggedGraph):
        counts = _checks.cluster_counts(num_clusters, s.size(0), s)
        return s, x, Dense(adj), _checks.padded_rows(mask, num_nodes), scale, counts, symmetric, save
    counts = _checks.cluster_counts(num_clusters, adj.num_graphs, s)
    transpose = adj.transposed() if save and not symmetric else (None, None, None)
    structure = Csr(value, adj.rowptr, adj.col, *transpose)
    s, x = adj.in_graph_order(s), adj.in_graph_order(x)
    return s, x, structure, Ragged(adj.ptr), scale, counts, symmetric, save
