"""TensorBoard logs, if TensorBoard is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoardLog:
    """Writes the metrics of each epoch to ``folder/tensorboard``, or nothing if TensorBoard is not installed.

    Args:
        folder: folder of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "tensorboard"
        self._writer: SummaryWriter | None = None

    def add(self, row: Mapping[str, float]) -> None:
        """Write every value of a row at the step ``row["epoch"]``."""
        epoch = int(row["epoch"])
        if self._writer is None:
            if importlib.util.find_spec("tensorboard") is None:
                return
            from torch.utils import tensorboard

            self._writer = tensorboard.SummaryWriter(str(self._folder), purge_step=epoch)
        for key, value in row.items():
            if key != "epoch":
                self._writer.add_scalar(key, value, epoch)

    def close(self) -> None:
        """Flush and close the log."""
        if self._writer is not None:
            self._writer.close()
