"""Calls of the operators beside soft pooling, and of the poolers of MinCut and DMoN, as batches that can be timed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from bench.floors import Work

Call = Callable[..., tuple[Tensor, ...]]  # of the tensors of a problem, in their order


@dataclass(frozen=True)
class Problem:
    """One call: its inputs, the upstream gradients of its outputs and its least work.

    ``tensors`` by name, of which those that require a gradient are the leaves; ``ours(backend, *tensors)``, and
    ``pyg(*tensors)`` where PyG has the same function. ``work`` is that of the forward and of the backward, given the
    bytes of the L2 cache.
    """

    tensors: dict[str, Tensor]
    ours: Call
    output_names: tuple[str, ...]
    grads: tuple[Tensor, ...]
    work: Callable[[int], tuple[Work, Work]]
    sizes: dict[str, int]
    pyg: Call | None = None

    @property
    def leaf_names(self) -> tuple[str, ...]:
        return tuple(name for name, t in self.tensors.items() if t.requires_grad)

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        """The tensors whose gradients are part of the work."""
        return tuple(self.tensors[name] for name in self.leaf_names)

    def least(self, l2_bytes: int) -> dict[str, Work]:
        """Least work of each mode."""
        forward, backward = self.work(l2_bytes)
        return {"forward": forward, "backward": backward, "both": forward + backward}

    def with_tensors(self, make: Callable[[Tensor], Tensor]) -> Problem:
        """The same call on what ``make`` makes of each tensor."""
        made = {name: make(t.detach()).requires_grad_(t.requires_grad) for name, t in self.tensors.items()}
        return replace(self, tensors=made)

    def double(self) -> Problem:
        """The same problem in float64, with its own leaves."""
        return replace(self.with_tensors(Tensor.double), grads=tuple(g.double() for g in self.grads))

    def describe(self) -> dict[str, int]:
        """Sizes that identify the work, for the result rows."""
        return self.sizes
