"""The progress bar of a training run."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from hierpool._extras import require

SLOW_EPOCH = 2.0  # seconds from which the steps of an epoch are counted
# Seconds between drawings. A file keeps all of them.
_ON_TERMINAL, _IN_FILE = 0.1, 30.0


class EpochBar:
    """A bar that counts epochs. Once an epoch takes longer than ``SLOW_EPOCH`` it also counts steps, in the same line.

    The remaining time is that of the run, from the mean time of its steps so far.

    Args:
        epochs: epochs of the run.
        label: text before the bar.
    """

    def __init__(self, epochs: int, label: str) -> None:
        self._bar = require("tqdm", "train").tqdm(total=epochs, desc=label, unit="epoch")
        self._between = _ON_TERMINAL if sys.stderr.isatty() else _IN_FILE
        self._drawn = self._epoch_start = time.perf_counter()
        self._begun = self._slow = False
        self._result = ""

    def __enter__(self) -> EpochBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def step(self, epoch: int, done: int, steps: int) -> None:
        """Count a step: ``done`` of ``steps`` in an epoch, which is counted from 1."""
        now = time.perf_counter()
        if not self._begun:
            self._begun = True
            self._epoch_start = now  # what was before belongs to the set-up, with the first step
            self._bar.initial = epoch - 1  # a resumed run begins later
        self._slow = self._slow or now - self._epoch_start > SLOW_EPOCH
        if self._slow and done < steps:
            self._draw(round(epoch - 1 + done / steps, 2), f"step {done}/{steps}", now)

    def epoch(self, epoch: int, text: str) -> None:
        """Count an epoch, whose result is ``text``."""
        self._epoch_start = time.perf_counter()
        self._result = text
        self._draw(epoch, "", self._epoch_start)

    def finish(self, text: str) -> None:
        """Count all epochs and describe the result of the run."""
        self._bar.n = self._bar.total
        self._bar.set_postfix_str(text, refresh=False)

    def _draw(self, epochs: float, step: str, now: float) -> None:
        self._bar.n = epochs
        self._bar.set_postfix_str(", ".join(filter(None, (step, self._result))), refresh=False)
        if now - self._drawn >= self._between:
            self._drawn = now
            self._bar.refresh()
