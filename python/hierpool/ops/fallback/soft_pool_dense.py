"""``hierpool::soft_pool_dense`` by the reference."""

from __future__ import annotations

from torch import Tensor

from hierpool import reference
from hierpool.ops.fallback import without_autocast
from hierpool.reference.soft_pool_dense import Saved


@without_autocast
def forward(
    logits: Tensor,
    x: Tensor,
    adj: Tensor,
    mask: Tensor | None,
    num_nodes: Tensor | None,
    temperature: Tensor | None,
    given: bool,
    symmetric: bool | None,
    want_gram: bool,
    want_link: bool,
    want_entropy: bool,
    mean: bool,
    save: bool,
) -> tuple[Tensor, ...]:
    """The outputs of the operator."""
    out = reference.soft_pool_dense(
        logits.clone() if given else logits,  # an operator must not return its input
        x,
        adj if adj.dim() == 4 else adj.unsqueeze(1),
        mask,
        num_nodes,
        temperature,
        given=given,
        want_gram=want_gram,
        want_link=want_link,
        want_entropy=want_entropy,
        mean=mean,
    )
    if adj.dim() == 3:
        out = out._replace(adj=out.adj.squeeze(1), link_norm=out.link_norm.squeeze(0))
    if symmetric is not None:
        out = out._replace(symmetric=out.symmetric.new_full(out.symmetric.shape, symmetric))
    if not save:
        out = out._replace(m=out.m[:, :, :0], symmetric=out.symmetric[:, :0])
    return tuple(t.contiguous() for t in out)


@without_autocast
def backward(
    grads: tuple[Tensor | None, ...],
    s: Tensor,
    gram: Tensor,
    link_norm: Tensor,
    m: Tensor,
    is_symmetric: Tensor,
    x: Tensor,
    adj: Tensor,
    mask: Tensor | None,
    num_nodes: Tensor | None,
    temperature: Tensor | None,
    given: bool,
    symmetric: bool | None,
    mean: bool,
    needs: tuple[bool, bool, bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to logits, features and adjacency; of size 0 where they are not needed."""
    ds, dx, dadj, *rest = grads
    stacked = adj
    if adj.dim() == 3:
        stacked = adj.unsqueeze(1)
        dadj = None if dadj is None else dadj.unsqueeze(1)
    dlogits, dfeatures, dadjacency = reference.soft_pool_dense_backward(
        (ds, dx, dadj, *rest),
        Saved(s, gram, link_norm, m, is_symmetric),
        x,
        stacked,
        mask,
        num_nodes,
        temperature,
        given=given,
        mean=mean,
        needs=needs,
    )

    def like(t: Tensor, gradient: Tensor | None) -> Tensor:
        return t.new_empty(0) if gradient is None else gradient.reshape(t.shape).contiguous()

    return like(s, dlogits), like(x, dfeatures), like(adj, dadjacency)
