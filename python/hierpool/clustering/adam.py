"""Adam without the compiler."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam


class Adam:
    """Adam by PyTorch's function for it.

    :class:`torch.optim.Adam` imports the compiler when it is made, which takes a second and 140 MB in every process.

    Args:
        params: parameters; those without a gradient are an error.
        lr: learning rate, which may be changed between steps.

    Source: Kingma, Ba, ICLR 2015 (arXiv:1412.6980).
    """

    def __init__(self, params: Iterable[Tensor], lr: float) -> None:
        self.params = list(params)
        self.lr = lr
        self._steps = [torch.zeros(()) for _ in self.params]
        self._means = [torch.zeros_like(p) for p in self.params]
        self._squares = [torch.zeros_like(p) for p in self.params]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for p in self.params:
            p.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Change the parameters by their gradients."""
        gradients = []
        for p in self.params:
            assert p.grad is not None
            gradients.append(p.grad)
        adam(
            self.params,
            gradients,
            self._means,
            self._squares,
            [],
            self._steps,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self.lr,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )

    def state_dict(self) -> dict[str, Any]:
        """The state besides the parameters."""
        return {"steps": self._steps, "means": self._means, "squares": self._squares}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the state of another one with the same parameters."""
        own = self.state_dict()
        for name, tensors in own.items():
            for mine, given in zip(tensors, state[name], strict=True):
                mine.copy_(given)
