"""Normalisation layers for padded and ragged batches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hierpool.distributed.ranks import Ranks, total_of_parts
from hierpool.graph.checks import check_sizes
from hierpool.ops._batch_norm import batch_norm
from hierpool.ops._checks import FLOATS, check_tensor, valid_rows


class MaskedBatchNorm(nn.Module):
    r"""Batch normalisation whose statistics are taken over valid nodes only.

    .. math::
        y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta

    In training, :math:`\mu` and :math:`\sigma^2` are the mean and the biased variance of each feature over all valid
    nodes of the batch. In evaluation, they are the running statistics. Padding has no influence, and its output is 0.

    The results are those of :class:`torch.nn.BatchNorm1d` on the valid rows; the running variance is an average of
    unbiased variances. There are two differences. A batch with one valid node, an error in ``BatchNorm1d``, gives
    :math:`y = \beta` and adds the variance 0 to the running variance. A batch without valid nodes does not change the
    running statistics.

    If ``ranks`` is set, as by :func:`hierpool.nn.norm.synchronise`, the statistics of training are taken over the valid
    nodes of all processes.

    Args:
        num_features: size of the last dimension.
        eps: :math:`\epsilon`.
        momentum: weight of the current batch in the running statistics.

    Source: Ioffe and Szegedy, ICML 2015 (arXiv:1502.03167).
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        (num_features,) = check_sizes(num_features=num_features)
        self.eps = eps
        self.momentum = momentum
        self.ranks: Ranks | None = None
        self.counts = True  # whether the batch of this process adds to the statistics of all
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def reset_parameters(self) -> None:
        """Reset the parameters and the running statistics."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)
        nn.init.zeros_(self.running_mean)
        nn.init.ones_(self.running_var)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise a padded or ragged batch.

        Args:
            x: ``[B, N, F]``, or ``[N, F]`` for a ragged batch.
            mask: valid nodes ``[B, N]`` of a padded batch, non-zero means valid; ``None``: all are valid.
        """
        check_tensor("x", x, FLOATS)
        valid = None if mask is None else valid_rows(mask, (x.size(0), x.size(1)))
        running = self.running_mean, self.running_var
        y, updated = batch_norm(
            x,
            valid,
            self.weight,
            self.bias,
            running,
            training=self.training,
            momentum=self.momentum,
            eps=self.eps,
            total=None if self.ranks is None else self._total,
        )
        if self.training:
            self.running_mean.copy_(updated[0])
            self.running_var.copy_(updated[1])
        return y

    def _total(self, part: Tensor) -> Tensor:
        """A sum over nodes, of all processes that share statistics."""
        assert self.ranks is not None
        return total_of_parts(self.ranks, part if self.counts else part * 0)

    def extra_repr(self) -> str:
        return f"{self.weight.numel()}, eps={self.eps}, momentum={self.momentum}"


def synchronise(model: nn.Module, ranks: Ranks) -> None:
    """Let the batch normalisations of a model take their statistics over the batches of all processes.

    Args:
        model: its :class:`MaskedBatchNorm` layers are changed.
        ranks: the processes, each with its part of a batch; all call the model at the same time.
    """
    for module in model.modules():
        if isinstance(module, MaskedBatchNorm):
            module.ranks = ranks


class SlotBatchNorm(nn.Module):
    r"""The batch normalisation of the original DiffPool code: for each node slot, over graphs and features.

    .. math::
        y_{bif} = \frac{x_{bif} - \mu_i}{\sqrt{\sigma_i^2 + \epsilon}}

    It has no parameters and no running statistics: evaluation uses the statistics of the batch. The result depends on
    padding, on the order of the nodes and on the other graphs of the batch. Use it only to reproduce the original code,
    and :class:`MaskedBatchNorm` otherwise. A ragged batch has no slots and raises an error.

    Args:
        eps: :math:`\epsilon`.
    """

    def __init__(self, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise ``x [B, N, F]`` including padding; ``mask`` is ignored.

        Raises:
            ValueError: ``x`` is not a padded batch.
        """
        check_tensor("x", x, FLOATS)
        if x.dim() != 3:
            raise ValueError(
                f"x must be a padded batch [graphs, slots, features], got {list(x.shape)}: norm='slot' normalises "
                "by slot, and a ragged batch has no slots"
            )
        var, mean = torch.var_mean(x, dim=(0, 2), correction=0, keepdim=True)
        return (x - mean) * torch.rsqrt(var + self.eps)
