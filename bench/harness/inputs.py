"""Inputs of one call that is timed: tensors, upstream gradients of the outputs, and the least work of the call."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import Tensor

from bench.harness.floors import Work

Call = Callable[..., tuple[Tensor, ...]]  # of the tensors of a problem, in their order


@dataclass(frozen=True)
class Inputs(ABC):
    """Fields that are tensors are the inputs; those that require a gradient are the leaves."""

    grads: tuple[Tensor, ...]  # upstream gradients, one for each output

    @property
    @abstractmethod
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs."""

    @abstractmethod
    def work(self, l2_bytes: int | None = None) -> tuple[Work, Work]:
        """Least work of forward and backward; None: gathers are not counted (`bench.harness.floors`)."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Sizes that identify the work, for the result rows."""

    @property
    def padded_entries(self) -> int:
        """Number of terms of a link loss that is taken over padded matrices; 0 without one."""
        return 0

    def tensors(self) -> dict[str, Tensor]:
        """All inputs by name."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: t for name, t in found.items() if isinstance(t, Tensor)}

    def with_tensors(self, tensors: dict[str, Tensor]) -> Any:
        """The same call with other tensors."""
        return replace(self, **tensors)

    @property
    def leaf_names(self) -> tuple[str, ...]:
        return tuple(name for name, t in self.tensors().items() if t.requires_grad)

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        """Tensors whose gradients are part of the work."""
        return tuple(t for t in self.tensors().values() if t.requires_grad)

    def mapped(self, make: Callable[[Tensor], Tensor]) -> Any:
        """The same call on ``make(tensor)`` of each tensor, with leaves of its own."""
        made = {name: make(t.detach()).requires_grad_(t.requires_grad) for name, t in self.tensors().items()}
        return replace(self.with_tensors(made), grads=tuple(make(g) for g in self.grads))

    def double(self) -> Any:
        """The same call in float64."""
        return self.mapped(lambda t: t.double() if t.is_floating_point() else t)

    def copied(self) -> Any:
        """The same values elsewhere in memory."""
        return self.mapped(Tensor.clone)

    @property
    def nbytes(self) -> int:
        """Bytes of all inputs and upstream gradients."""
        return sum(t.nbytes for t in (*self.tensors().values(), *self.grads))


@dataclass(frozen=True)
class Problem(Inputs):
    """A call of an operator on named tensors.

    ``ours(backend, *tensors)`` is our side, ``pyg(*tensors)`` that of PyTorch Geometric where it has the function;
    ``least(l2_bytes)`` is the least work of forward and backward. What ``ours`` holds, as a graph, is shared by copies.
    """

    given: dict[str, Tensor]
    ours: Call
    names: tuple[str, ...]
    least: Callable[[int | None], tuple[Work, Work]]
    sizes: dict[str, Any]
    pyg: Call | None = None

    @property
    def output_names(self) -> tuple[str, ...]:
        return self.names

    def tensors(self) -> dict[str, Tensor]:
        return self.given

    def with_tensors(self, tensors: dict[str, Tensor]) -> Problem:
        return replace(self, given=tensors)

    def work(self, l2_bytes: int | None = None) -> tuple[Work, Work]:
        return self.least(l2_bytes)

    def describe(self) -> dict[str, Any]:
        return self.sizes
