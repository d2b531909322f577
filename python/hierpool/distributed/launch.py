"""Commands that torchrun starts in several processes: their group, and the end of one of them."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from hierpool.distributed.ranks import Ranks

_FAILURE = re.compile(r"gloo|nccl|connection|socket|broken pipe|timed? ?out|timeout", re.IGNORECASE)
_GRACE = 5.0  # seconds in which a process says that it is still there
_LAST = 20  # seconds from the request to end, in which the others are waited for


class LostProcess(RuntimeError):
    """A process of the group has ended, or no longer answers.

    Attributes:
        is_reporter: whether this is the process, of those that are left, that reports it.
    """

    def __init__(self, message: str, is_reporter: bool) -> None:
        super().__init__(message)
        self.is_reporter = is_reporter


def is_launched() -> bool:
    """Whether torchrun, or another launcher with its environment variables, has started this process."""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))


def reported(error: BaseException) -> str | None:
    """The text of an error, in one line; ``None`` if another process reports it."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, LostProcess):
        return text if error.is_reporter else None
    if hasattr(error, "process"):
        return f"process {error.process}: {text}"
    rank = os.environ["RANK"] if is_launched() else "0"
    return text if rank == "0" or not rank.isdecimal() else None


@contextmanager
def processes(timeout: float, backend: str = "gloo") -> Iterator[Ranks | None]:
    """The group of the processes that torchrun has started, or ``None`` of a process that was started alone.

    Args:
        timeout: seconds for which a process waits for the others.
        backend: of the group.

    Raises:
        LostProcess: a process has ended or no longer answers; the message names it.
        ValueError: a variable of the launcher is no number.
    """
    if not is_launched():
        yield None
        return
    for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"):
        if not os.environ[name].isdecimal():
            raise ValueError(
                f"{name} in the environment must be a number, as torchrun sets it, got {os.environ[name]!r}"
            )
    from torch.distributed.rendezvous import rendezvous  # which torch has only with process groups

    wait = timedelta(seconds=timeout)
    store, rank, size = next(rendezvous("env://", timeout=wait))
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=wait)
    # torchrun asks the others to end as soon as one has ended; they first find out which.
    handlers = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_LAST)),
        signal.SIGALRM: signal.signal(signal.SIGALRM, _end),
    }
    try:
        yield Ranks()
    except Exception as error:
        if isinstance(error, RuntimeError) and _FAILURE.search(str(error)):
            raise _lost(store, rank, size, timeout) from error
        if not getattr(error, "of_all", False) and rank:
            error.process = rank  # type: ignore[attr-defined]
        raise
    else:
        dist.destroy_process_group()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _end(*_: Any) -> None:
    raise SystemExit(128 + signal.SIGTERM)


def _lost(store: Any, rank: int, size: int, timeout: float) -> LostProcess:
    """The error that names the processes which do not say that they are still there."""
    names = [f"hierpool/left/{other}" for other in range(size)]
    left = {rank}
    try:
        store.set(names[rank], "1")
        end = time.monotonic() + _GRACE
        while time.monotonic() < end and len(left) < size - 1:
            time.sleep(0.1)
            left = {other for other in range(size) if other == rank or store.check([names[other]])}
    except RuntimeError:  # the process that holds the store is the one
        left |= set(range(1, size)) if rank else set()
    gone = [str(other) for other in range(size) if other not in left]
    if not gone:
        return LostProcess("the processes lost the connection to each other", rank == 0)
    has = "has" if len(gone) == 1 else "have"
    which = f"process{'' if len(gone) == 1 else 'es'} {', '.join(gone)} of {size}"
    text = f"{which} {has} ended, or {has} not answered for {timeout:g} s"
    return LostProcess(text, rank == min(left))
