"""Message passing of TVGNN, which reduces the total variation of the features."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from hierpool._tracing import is_transformed
from hierpool.graph import RaggedGraph
from hierpool.graph.checks import check_sizes
from hierpool.nn.masking import select_valid
from hierpool.nn.mlp import Activation, activation
from hierpool.ops._checks import scalar_tensor
from hierpool.ops.edge_distances import edge_distances
from hierpool.ops.spmm import spmm
from hierpool.selection._shared import check_number


class GTVConv(nn.Module):
    r"""A step of gradient descent on the total variation of the features over the graph.

    .. math:: Y = \sigma\big(H - \delta (D_\Gamma - \Gamma) H + b\big), \quad H = X W, \quad
              \Gamma_{ij} = \frac{a_{ij}}{\max(|h_i - h_j|_1, \epsilon)}

    with the diagonal matrix :math:`D_\Gamma` of the row sums of :math:`\Gamma`. For a ragged graph, temporary memory is
    that of the features and of one number per edge. For a dense batch, :math:`\Gamma` is formed.

    Args:
        in_channels: number of input features.
        out_channels: number of output features.
        bias: add :math:`b`.
        delta_coeff: :math:`\delta`.
        eps: :math:`\epsilon`, positive.
        act: :math:`\sigma`: the name of a function of ``torch.nn.functional`` such as ``"relu"``, a function, or
            ``None``.

    Raises:
        ValueError: ``eps`` is not positive, or the activation is unknown.

    Source: Hansen, Bianchi, ICML 2023 (arXiv:2211.06218), equation 6.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        bias: bool = True,
        delta_coeff: float = 1.0,
        eps: float = 1e-3,
        act: Activation = "relu",
    ) -> None:
        super().__init__()
        in_channels, out_channels = check_sizes(in_channels=in_channels, out_channels=out_channels)
        if not check_number("eps", eps) > 0:
            raise ValueError(f"eps must be positive, got {eps}")
        self.weight = nn.Parameter(torch.empty(in_channels, out_channels))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.delta_coeff = delta_coeff
        self.eps = eps
        self.act: Callable[[Tensor], Tensor] | None = activation(act)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights."""
        nn.init.kaiming_normal_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, adj: Tensor | RaggedGraph, mask: Tensor | None = None) -> Tensor:
        """Pass messages from neighbours.

        Args:
            x: node features ``[B, N, F]``, or ``[N, F]`` with a ragged graph.
            adj: ``[B, N, N]``, or a ragged graph; row i holds the weights of the messages to node i. ``[N, N]`` or
                ``[1, N, N]`` is the matrix of all graphs.
            mask: valid nodes ``[B, N]``. Padding is not read, and padded rows of the result are 0.

        Returns:
            ``[B, N, out_channels]``, or ``[N, out_channels]``.

        Raises:
            ValueError: shapes do not match, or a mask is given with a ragged graph.
        """
        x, adj, valid = select_valid(x, adj, mask)  # before the product: its gradient reads padding as well
        return self._propagated(x @ self.weight, adj, valid)

    def propagate(self, h: Tensor, adj: Tensor | RaggedGraph, mask: Tensor | None = None) -> Tensor:
        """The layer without the product :math:`H = X W`, for callers that compute it themselves.

        Args:
            h: ``[B, N, out_channels]``, or ``[N, out_channels]`` with a ragged graph.
            adj, mask: see :meth:`forward`.

        Raises:
            ValueError: shapes do not match, or a mask is given with a ragged graph.
        """
        return self._propagated(*select_valid(h, adj, mask))

    def _propagated(self, h: Tensor, adj: Tensor | RaggedGraph, valid: Tensor | None) -> Tensor:
        """The same for features whose padding is 0."""
        y = self._ragged(h, adj) if isinstance(adj, RaggedGraph) else self._dense(h, adj, valid)
        y = y if self.bias is None else y + self.bias
        y = y if self.act is None else self.act(y)
        return y if valid is None else torch.where(valid[..., None], y, 0)

    # Both compute (I - delta D) H + delta Gamma H. Loops contribute 0 and are left out, as they would cost precision.

    def _ragged(self, h: Tensor, graph: RaggedGraph) -> Tensor:
        distance = self._at_least_eps(edge_distances(graph, h)).to(h.dtype)
        step = (
            self.delta_coeff / distance if graph.value is None else self.delta_coeff * graph.value / distance
        )
        step = torch.where(graph.row == graph.col, 0, step)
        steps = graph.with_value(step, symmetric=graph.is_symmetric)
        return torch.addcmul(spmm(steps, h), h, 1 - steps.degree[:, None])

    def _at_least_eps(self, distance: Tensor) -> Tensor:
        return distance.clamp(min=scalar_tensor(self.eps, distance.dtype, distance.device))

    def _dense(self, h: Tensor, adj: Tensor, valid: Tensor | None) -> Tensor:
        h32 = h.float() if h.dtype in (torch.bfloat16, torch.float16) else h
        step = self.delta_coeff * adj / self._at_least_eps(_distances(h32)).to(h.dtype)
        unused = torch.eye(h.size(1), dtype=torch.bool, device=h.device)
        if valid is not None and adj.size(0) != valid.size(0):
            unused = unused | ~valid[:, None, :]
        step = step.masked_fill(unused, 0)
        return torch.addcmul(step @ h, h, 1 - step.sum(-1, keepdim=True))


def _distances(h: Tensor) -> Tensor:
    """The distances |h_i - h_j|_1, ``[B, N, N]``."""
    compiling = torch.compiler.is_compiling()
    # ONNX and forward mode have no such distance.
    if torch.compiler.is_exporting() or (not compiling and is_transformed()):
        return (h[:, :, None] - h[:, None]).abs().sum(-1)
    return torch.cdist(h, h, p=1)
