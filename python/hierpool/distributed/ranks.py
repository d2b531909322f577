"""The processes of a group, and the exchanges between them: rows, sums in a fixed order, and whether they agree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

T = TypeVar("T")
Facts = dict[str, Any]


# Errors that a process tells the others.
_ERRORS = (TypeError, ValueError, OSError, ImportError, MemoryError, RuntimeError)


class Pending:
    """Rows that are on their way."""

    def __init__(
        self, received: Tensor, shape: tuple[int, ...], dtype: torch.dtype, work: Any = None
    ) -> None:
        self._received, self._shape, self._dtype, self._work = received, shape, dtype, work

    def wait(self) -> Tensor:
        """The rows, once they are there."""
        if self._work is not None:
            self._work.wait()
            self._work = None
        return self._received.view(self._dtype).view(self._shape)


class Ranks:
    """The processes of a group of ``torch.distributed``.

    Args:
        group: process group; ``None``: all processes.

    Attributes:
        rank: number of this process in the group.
        size: number of processes.

    Raises:
        RuntimeError: ``torch.distributed`` has no group yet.
        ValueError: this process is not in the group.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        if not (dist.is_available() and dist.is_initialized()):
            raise RuntimeError(
                "a sharded graph needs a process group; call torch.distributed.init_process_group first"
            )
        self.group = group
        self.rank: int = dist.get_rank(group)
        self.size: int = dist.get_world_size(group)
        if self.rank < 0:
            raise ValueError("group must contain this process")

    def start(
        self, rows: Tensor, send: Sequence[int], receive: Sequence[int], out: Tensor | None = None
    ) -> Pending:
        """Begin to send ``send[r]`` rows, one block after the other, to each process r, and to receive ``receive[r]``.

        Rows travel as bytes, so that every backend takes every dtype. ``out``: contiguous rows that take what comes.
        """
        width = rows.element_size()
        for size in rows.shape[1:]:
            width *= size
        shape = (sum(receive), *rows.shape[1:])
        if self.size == 1:
            copy = rows.clone(memory_format=torch.contiguous_format) if out is None else out.copy_(rows)
            return Pending(copy, shape, rows.dtype)
        given = rows.contiguous().view(-1).view(torch.uint8)
        received = given.new_empty(sum(receive) * width) if out is None else out.view(-1).view(torch.uint8)
        sizes = [count * width for count in receive], [count * width for count in send]
        work = dist.all_to_all_single(received, given, *sizes, group=self.group, async_op=True)
        return Pending(received, shape, rows.dtype, work)

    def exchange(self, rows: Tensor, send: Sequence[int], receive: Sequence[int]) -> Tensor:
        """:meth:`start`, and wait."""
        return self.start(rows, send, receive).wait()

    def counts(self, send: Sequence[int], device: torch.device) -> list[int]:
        """The numbers that the processes have for this one, in their order."""
        given = torch.tensor(send, dtype=torch.int64, device=device)
        ones = [1] * self.size
        return [int(count) for count in self.exchange(given, ones, ones).tolist()]

    def total(self, values: Tensor) -> Tensor:
        """The sum over the processes, with the same bits in all of them and for every run.

        Every process adds a part of the elements, in the order of the processes, and sends the sums to the others.
        It sends and receives :math:`2 (P - 1) / P` times the bytes of ``values``, as a ring does.
        """
        if self.size == 1:
            return values
        flat = values.reshape(-1)
        part = -(-flat.numel() // self.size)
        padded = flat.new_zeros(part * self.size)
        padded[: flat.numel()] = flat
        received = torch.empty_like(padded)
        dist.all_to_all_single(received, padded, group=self.group)
        own, *others = received.view(self.size, part).unbind(0)
        own = own.clone()
        for other in others:
            own += other
        _all_gather(padded, own, group=self.group)
        return padded[: flat.numel()].view(values.shape)

    def gather(self, rows: Tensor, counts: Sequence[int], dst: int | None = None) -> Tensor:
        """The rows of all processes, one after the other, of which process r has ``counts[r]``.

        ``dst``: the process that gets them, the others get none; ``None``: all get them.
        """
        n, everyone = rows.size(0), dst is None
        send = [n if everyone or rank == dst else 0 for rank in range(self.size)]
        copies = torch.cat([rows] * self.size) if everyone and self.size > 1 else rows
        return self.exchange(copies, send, counts if everyone or dst == self.rank else [0] * self.size)

    def objects(self, value: T) -> list[T]:
        """A plain value of every process, in all of them."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value, group=self.group)
        return found

    def in_turn(self, make: Callable[[], T]) -> T:
        """What a function returns in each process; the first one calls it alone, so that it may download a file."""
        made: list[T] = []

        def call(first: bool) -> Facts:
            if first == (self.rank == 0):
                made.append(make())
            return {}

        self.agree(lambda: call(True))
        self.agree(lambda: call(False))
        return made[0]

    def agree(self, check: Callable[[], Facts], *, compared: Iterable[str] | None = None) -> list[Facts]:
        """Run a check in every process, and compare what it returns; the facts of all processes.

        ``compared`` names the facts that must be the same; ``None``: all.

        Raises:
            TypeError, ValueError, OSError, ImportError, MemoryError, RuntimeError: in all processes, if the check
                raised it in one; ``ValueError`` if the facts differ. The message names the processes.
        """
        mine: Facts = {}
        error: tuple[int, str] | None = None
        try:
            mine = check()
        except _ERRORS as raised:
            kind = next(place for place, one in enumerate(_ERRORS) if isinstance(raised, one))
            error = kind, str(raised) or type(raised).__name__
        found = self.objects((mine, error))
        for rank, (_, error) in enumerate(found):
            if error is not None:
                where = f"process {rank} of {self.size}: " if self.size > 1 else ""
                raise _of_all(_ERRORS[error[0]](where + error[1]))
        facts = [one for one, _ in found]
        for name in facts[0] if compared is None else compared:
            value = facts[0][name]
            for rank, other in enumerate(facts):
                if other[name] != value:
                    text = f"got {value} in process 0 and {other[name]} in process {rank}"
                    raise _of_all(ValueError(f"{name} must be the same in all processes, {text}"))
        return facts


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ranks: Ranks, values: Tensor) -> Tensor:
        ctx.ranks = ranks
        return ranks.total(values.clone())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        return None, ctx.ranks.total(grad)


def total_of_parts(ranks: Ranks, values: Tensor) -> Tensor:
    """:meth:`Ranks.total`, differentiable for a loss that is itself a sum of parts, one of each process."""
    out: Tensor = _Total.apply(ranks, values)
    return out


def _all_gather(out: Tensor, given: Tensor, group: dist.ProcessGroup | None) -> None:
    """The tensors of all processes; under its older name where torch has no newer one."""
    gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    gather(out, given, group=group)


def _of_all(error: Exception) -> Exception:
    """An error that all processes raise, of which one may report it."""
    error.of_all = True  # type: ignore[attr-defined]
    return error


def sum_gradients(parameters: Iterable[torch.nn.Parameter], group: dist.ProcessGroup | None = None) -> None:
    """Replace the gradient of every parameter by its sum over the processes, with the same bits in all of them.

    The gradient of a parameter that was applied to the rows of nodes, before pooling, is in each process the part of
    its rows. This is what to call after ``backward`` and before the step of the optimizer, for a graph with
    ``gradients="sum"``. A parameter of a layer after pooling, whose input all processes have, already has its whole
    gradient in each of them and must not be among ``parameters``.

    Args:
        parameters: parameters, the same in all processes and in the same order; those that need no gradient are left
            out, and a missing gradient is 0.
        group: process group; ``None``: all processes.
    """
    ranks = Ranks(group)
    kinds: dict[torch.dtype, list[torch.nn.Parameter]] = {}
    for one in parameters:
        if one.requires_grad:
            kinds.setdefault(one.dtype, []).append(one)
    for same in kinds.values():
        parts = [(p.new_zeros(p.shape) if p.grad is None else p.grad).reshape(-1) for p in same]
        total = ranks.total(torch.cat(parts))
        for one, part in zip(same, total.split([p.numel() for p in same]), strict=True):
            one.grad = part.view(one.shape).clone()
