"""Checkpoints that are whole, and that only the run they belong to will take."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from hierpool.training.files import write_atomic

FORMAT = 1


class CheckpointError(ValueError):
    """A checkpoint is corrupt or belongs to another run."""


def save(path: str | Path, identity: dict[str, Any], state: dict[str, Any]) -> None:
    """Save a checkpoint atomically.

    Args:
        path: of the file.
        identity: what :func:`load` will compare; plain values.
        state: tensors and plain values, nested.

    Raises:
        OSError: it could not be written; an earlier checkpoint is still there.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "identity": identity, "state": state}, buffer)
    write_atomic(path, buffer.getvalue())


def load(path: str | Path, identity: dict[str, Any], earlier: dict[str, Any] | None = None) -> dict[str, Any]:
    """Load the state that :func:`save` saved.

    Args:
        path: of the file.
        identity: of the run that wants it.
        earlier: what older checkpoints, which do not say it, stand for.

    Raises:
        CheckpointError: corrupt, of another format, or of another run; the message says in what they differ.
        OSError: it cannot be opened.
    """
    content = Path(path).read_bytes()
    try:
        whole = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        found, there, state = whole["format"], {**(earlier or {}), **whole["identity"]}, whole["state"]
    except Exception as error:  # torch.load raises half a dozen types on damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is not a whole checkpoint of this program: {reason}") from error
    if found != FORMAT:
        raise CheckpointError(f"{path} has checkpoint format {found}, this program reads {FORMAT}")
    differences = [
        f"{key} {there.get(key)!r} there, {identity.get(key)!r} here"
        for key in sorted(there.keys() | identity.keys())
        if there.get(key) != identity.get(key)
    ]
    if differences:
        raise CheckpointError(f"{path} belongs to another run: {'; '.join(differences)}")
    return dict(state)
