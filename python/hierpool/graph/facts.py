"""What a graph derives from its values and keeps, with the states of the tensors that it came from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from hierpool._tracing import is_traced

T = TypeVar("T")


def normally(make: Callable[..., T], *arguments: Any) -> T:
    """Call ``make`` so that a later backward can save the tensors that it makes, also under ``inference_mode``."""
    if is_traced() or not torch.is_inference_mode_enabled():
        return make(*arguments)
    with torch.inference_mode(False), torch.no_grad():
        return make(*arguments)


class State:
    """A tensor at one time: the count of its changes, its memory, and whether autograd records what is made of it.

    PyTorch counts the changes of a tensor but for those through ``Tensor.data``, NumPy or another process. It counts
    none of an inference tensor, which therefore is never in a state that is known.
    """

    def __init__(self, t: Tensor) -> None:
        self.version = -1 if t.is_inference() else t._version
        self.address = t.data_ptr()
        self.storage = t.untyped_storage()  # held, so that no other tensor gets the address
        self.recorded = t.requires_grad and torch.is_grad_enabled()

    def is_of(self, t: Tensor) -> bool:
        """Whether the tensor is in this state."""
        return (
            self.version >= 0
            and t._version == self.version
            and t.data_ptr() == self.address
            and (t.requires_grad and torch.is_grad_enabled()) == self.recorded
        )


class Facts:
    """The values of a graph and what follows from them, for as long as they and their sources are in the same state."""

    def __init__(self, value: Tensor, sources: tuple[Tensor, ...] = ()) -> None:
        """Without ``sources``, nothing is kept."""
        self.value = value
        self.symmetric: bool | None = None  # None: not tested
        self._value_t: tuple[Tensor, State] | None = None
        self._kept = bool(sources) and not value.requires_grad
        self._sources = [State(t) for t in sources]
        self._own = State(value) if sources and value is not sources[0] else None

    def come_from(self, sources: tuple[Tensor, ...]) -> bool:
        """Whether the value is still that of its sources."""
        return all(map(State.is_of, self._sources, sources))

    def are_current(self) -> bool:
        """Whether the value itself is unchanged."""
        return self._own is None or self._own.is_of(self.value)

    def transposed(self, source: Tensor) -> Tensor:
        """The values of the transpose, whose entries come from the entries ``source``; not kept if they are learned."""
        if not self._kept:
            return self.value.detach()[source]
        if self._value_t is None or not self._value_t[1].is_of(self._value_t[0]):
            value_t = normally(self.value.__getitem__, source)
            self._value_t = value_t, State(value_t)
        return self._value_t[0]
