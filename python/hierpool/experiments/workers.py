"""Several processes at one queue, and what is left of it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from statistics import mean

import torch

from hierpool.experiments.claims import held_by
from hierpool.experiments.queue import CLAIMS, Column, Plan, Run, work
from hierpool.experiments.results import FAILED, OK, ResultFile, Row, key_of

_POLL_S = 1.0


def processors() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Estimate:
    """How long runs take, from those that are finished.

    The time of a method on a data set is the mean of its runs there. Before there is one, it is taken from the other
    data sets in proportion to the number of nodes, or from all methods.

    Args:
        columns: the data sets.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self.nodes = {column.name: column.nodes for column in columns if column.nodes}
        self._seconds: dict[tuple[str, str], list[float]] = {}

    def add(self, row: Row) -> None:
        """Count a finished run."""
        if row["status"] == OK and row["dataset"] in self.nodes:
            self._seconds.setdefault((row["method"], row["dataset"]), []).append(row["seconds"])

    def seconds(self, run: Run) -> float | None:
        """Seconds of a run; ``None`` if nothing is known."""
        known = self._seconds.get((run.method, run.dataset))
        if known:
            return mean(known)
        per_node = {key: mean(times) / self.nodes[key[1]] for key, times in self._seconds.items()}
        near = [rate for (method, _), rate in per_node.items() if method == run.method]
        rates = near or list(per_node.values())
        return mean(rates) * self.nodes.get(run.dataset, 0) if rates else None

    def left(self, runs: Sequence[Run], workers: int) -> float | None:
        """Seconds until the runs are finished; ``None`` if nothing is known."""
        times = [self.seconds(run) for run in runs]
        known = [one for one in times if one is not None]
        return sum(known) / workers if len(known) == len(times) else None


def duration(seconds: float) -> str:
    """For example ``"2 h 05 min"``."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def sentence(row: Row, done: int, total: int, left: float | None, rest: int) -> str:
    """The progress after a run."""
    result = row.get("reason", "")
    if row["status"] == OK:
        accuracy = row.get("test_accuracy")
        result = f"{accuracy:.1%}" if accuracy is not None else f"{max(row['validation_curve']):.1%} at best"
    text = f"[{done}/{total}] {row['method']} on {row['dataset']}, fold {row['fold']}, seed {row['seed']}: {result}"
    text += f" in {duration(row.get('seconds', 0))}"
    if left is None or not rest:
        return text
    return text + f"; about {duration(left)} left for {rest} run{'s' if rest > 1 else ''}"


def news(plan: Plan, results: ResultFile, estimate: Estimate, workers: int) -> list[str]:
    """The progress after each run of the plan that was finished since the results were read.

    Other runs in the folder, of other commands, count for the estimate alone.
    """
    added = results.update()
    for row in added:
        estimate.add(row)
    keys = {run.key for run in plan.runs}
    added = [row for row in added if key_of(row) in keys]
    left, total = plan.open_runs(results.rows), len(plan.runs)
    seconds = estimate.left(left, workers)
    rests = range(len(left) + len(added) - 1, len(left) - 1, -1)
    return [sentence(row, total - rest, total, seconds, rest) for rest, row in zip(rests, added, strict=True)]


def _begin(plan: Plan, parent: int) -> None:
    """The work of a process, which ends as soon as its parent has ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted, too, and ends this process
    threading.Thread(target=watch, daemon=True).start()
    torch.set_num_threads(1)
    work(plan)


def run(plan: Plan, columns: Sequence[Column], workers: int, say: Callable[[str], None] = print) -> None:
    """Work on an experiment with several processes of one thread each, until all runs are finished.

    A run whose process is ended by a signal, as for want of memory, has failed; another process goes on.

    Args:
        plan: the experiment, from :func:`hierpool.experiments.queue.check`.
        columns: its data sets.
        workers: number of processes.
        say: called with a line after each run.

    Raises:
        RuntimeError: a process ended with an error of the program.
    """
    results, estimate = ResultFile(plan.folder), Estimate(columns)
    for row in results.update():
        estimate.add(row)
    left = plan.open_runs(results.rows)
    say(f"{len(plan.runs) - len(left)} of {len(plan.runs)} runs are finished")
    context = multiprocessing.get_context("spawn")

    def start() -> BaseProcess:
        process = context.Process(target=_begin, args=(plan, os.getpid()), daemon=True)
        process.start()
        return process

    processes = [start() for _ in range(min(workers, len(left)))]
    try:
        while processes:
            wait([process.sentinel for process in processes], timeout=_POLL_S)
            for line in news(plan, results, estimate, workers):
                say(line)
            ended = [process for process in processes if process.exitcode is not None]
            processes = [process for process in processes if process.exitcode is None]
            for process in ended:
                if _was_killed(plan, process, results):
                    processes.append(start())
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _was_killed(plan: Plan, process: BaseProcess, results: ResultFile) -> bool:
    """Whether a signal ended the process; then its run has failed."""
    if not process.exitcode:
        return False
    if process.exitcode > 0:
        raise RuntimeError(
            f"a process of the queue ended with status {process.exitcode}; its message is above"
        )
    reason = f"its process was ended by signal {-process.exitcode}; it may need more memory than there is"
    keys = held_by(plan.folder / CLAIMS, process.pid or 0)
    for one in plan.runs:
        if one.key in keys:
            results.add(asdict(one) | {"status": FAILED, "reason": reason})
    return True
