"""Compiles in processes of their own, so that a crash of the compiler loses one variant only."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path

from hierpool_kernels.aot.compiler import Report, Variant, report

_REASON = re.compile(r"Assertion|error:|Error|ERROR")


class _Worker:
    """A process that compiles variants until one fails. It is forked, because a launch cannot be pickled."""

    def __init__(self, variants: Sequence[Variant], logs: Path) -> None:
        context = get_context("fork")
        file, name = tempfile.mkstemp(dir=logs)
        os.close(file)
        self._log = Path(name)
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, variants, self._log), daemon=True)
        self._process.start()
        theirs.close()
        self._index = -1

    def give(self, index: int) -> None:
        """Start to compile a variant."""
        self._index = index
        self.pipe.send(index)

    def take(self) -> tuple[int, Report]:
        """The index of the variant, and its report."""
        try:
            result: Report = self.pipe.recv()
        except EOFError:
            self._process.join()
            result = Report(error=_reason(self._log, f"the compiler ended with {self._process.exitcode}"))
        return self._index, result

    def end(self) -> None:
        """End the process."""
        if self._process.is_alive():
            self._process.terminate()
        self._process.join()
        self.pipe.close()


def _serve(pipe: Connection, variants: Sequence[Variant], log: Path) -> None:
    with log.open("w") as file:  # the compiler prints all of its input when it fails
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    result = Report()
    while not result.error:
        index = pipe.recv()
        os.truncate(log, 0)
        try:
            result = report(variants[index])
        except Exception as error:
            result = Report(error=_reason(log, f"{type(error).__name__}: {error}"))
        pipe.send(result)


def _reason(log: Path, default: str) -> str:
    """The first line of the compiler's output that tells the reason of a failure, cut to 400 characters."""
    lines = log.read_text(errors="replace").splitlines()
    reason = next((line for line in lines if _REASON.search(line)), default)
    return reason.strip()[:400]


def reports(variants: Sequence[Variant], jobs: int, progress: Callable[[int], None]) -> list[Report]:
    """Compile variants in ``jobs`` processes; ``progress`` is called with the index of each when it is done."""
    found = [Report()] * len(variants)
    waiting = list(reversed(range(len(variants))))
    with tempfile.TemporaryDirectory() as folder:
        idle = [_Worker(variants, Path(folder)) for _ in range(min(jobs, len(variants)))]
        busy: dict[Connection, _Worker] = {}
        try:
            while waiting or busy:
                while waiting and idle:
                    worker = idle.pop()
                    worker.give(waiting.pop())
                    busy[worker.pipe] = worker
                for pipe in wait(list(busy)):
                    worker = busy.pop(pipe)  # type: ignore[call-overload]
                    index, found[index] = worker.take()
                    progress(index)
                    if found[index].error:
                        worker.end()
                        worker = _Worker(variants, Path(folder))
                    idle.append(worker)
        finally:
            for worker in (*idle, *busy.values()):
                worker.end()
    return found
