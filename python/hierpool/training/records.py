"""TensorBoard records, where TensorBoard is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Records:
    """Writes an epoch's numbers for TensorBoard into ``folder/tensorboard``; does nothing without TensorBoard.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "tensorboard"
        self._writer: SummaryWriter | None = None

    def add(self, row: Mapping[str, float]) -> None:
        """Write every number of a row at the step ``row["epoch"]``."""
        if self._writer is None:
            if importlib.util.find_spec("tensorboard") is None:
                return
            from torch.utils import tensorboard

            self._writer = tensorboard.SummaryWriter(str(self._folder), purge_step=int(row["epoch"]))
        for key, value in row.items():
            if key != "epoch":
                self._writer.add_scalar(key, value, int(row["epoch"]))

    def close(self) -> None:
        """Finish writing."""
        if self._writer is not None:
            self._writer.close()
