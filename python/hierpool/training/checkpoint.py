"""Checkpoints, which are written atomically and loaded only by the run that they belong to."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from hierpool.training.files import write_atomic, write_csv

FORMAT = 1
FILE_NAME = "checkpoint.pt"


class CheckpointError(ValueError):
    """A checkpoint is corrupt, or belongs to another run."""


def save(path: str | Path, identity: dict[str, Any], state: dict[str, Any]) -> None:
    """Save a checkpoint atomically.

    Args:
        path: path of the file.
        identity: plain values that identify the run; :func:`load` compares them.
        state: nested tensors and plain values.

    Raises:
        OSError: the file could not be written; an earlier checkpoint is unchanged.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "identity": identity, "state": state}, buffer)
    write_atomic(path, buffer.getvalue())


def load(path: str | Path, identity: dict[str, Any]) -> dict[str, Any]:
    """Load the state that :func:`save` saved.

    Args:
        path: path of the file.
        identity: plain values that identify the run.

    Raises:
        CheckpointError: the file is corrupt, or has another format or identity; the message names the differences.
        OSError: the file cannot be opened.
    """
    saved, state = _read(path)
    _compare(path, saved, identity, saved.keys() | identity.keys())
    return state


def check(path: str | Path, known: dict[str, Any]) -> None:
    """Compare a part of the identity, of a run that is about to be prepared. Raises what :func:`load` raises."""
    _compare(path, _read(path)[0], known, known)


def _read(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The identity and the state."""
    content = Path(path).read_bytes()
    try:
        _check_sums(content)
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        found, saved, state = loaded["format"], dict(loaded["identity"]), dict(loaded["state"])
    except Exception as error:  # torch.load raises many types for damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is not a complete checkpoint of this program: {reason}") from error
    if found != FORMAT:
        raise CheckpointError(f"{path} has checkpoint format {found}, but this program reads format {FORMAT}")
    return saved, state


def _compare(path: str | Path, saved: dict[str, Any], run: dict[str, Any], keys: Iterable[str]) -> None:
    differences = [
        f"{key} is {saved.get(key)!r} in the checkpoint and {run.get(key)!r} in this run"
        for key in sorted(keys)
        if saved.get(key) != run.get(key)
    ]
    if differences:
        raise CheckpointError(f"{path} belongs to another run: {'; '.join(differences)}")


def _check_sums(content: bytes) -> None:
    """Compare checksums, which ``torch.load`` does not."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"{damaged} in it is damaged")


class RunFolder:
    """The checkpoint and the log of a run, ``checkpoint.pt`` and ``log.csv`` in a folder.

    Args:
        folder: folder of the run; ``None`` saves nothing.
        identity: plain values that identify the run.
    """

    def __init__(self, folder: str | Path | None, identity: dict[str, Any]) -> None:
        self._folder = None if folder is None else Path(folder)
        self._identity = identity

    def resume(self, restore: Callable[[dict[str, Any]], None]) -> None:
        """Call ``restore`` with the saved state, if there is a checkpoint.

        Raises what :func:`load` raises, and :class:`CheckpointError` if ``restore`` fails.
        """
        if self._folder is None or not (self._folder / FILE_NAME).exists():
            return
        path = self._folder / FILE_NAME
        state = load(path, self._identity)
        try:
            restore(state)
        except Exception as error:
            raise CheckpointError(
                f"{path} does not hold the state of this run ({type(error).__name__}: {error})"
            ) from error

    def save(self, state: dict[str, Any], history: Sequence[Mapping[str, float]]) -> None:
        """Save the state, and the history as the log. Raises what :func:`save` raises."""
        if self._folder is not None:
            save(self._folder / FILE_NAME, self._identity, state)
            write_csv(self._folder / "log.csv", history)
