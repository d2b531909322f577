"""Writing files atomically: a reader finds the old contents or the new ones, never a part."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_atomic(path: str | Path, content: bytes) -> None:
    """Write a temporary file and rename it to ``path``. Missing folders are created.

    Raises:
        OSError: the file could not be written. The file at ``path`` is unchanged, and the temporary file is removed.
            The message names ``path``.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        state = "the existing file is unchanged" if path.exists() else "no file was left behind"
        raise OSError(
            error.errno, f"could not save {path} ({len(content)} bytes): {reason}; {state}"
        ) from error


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as JSON, atomically."""
    write_atomic(path, (json.dumps(value, indent=2) + "\n").encode())


def write_csv(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows that have the same keys as CSV with a header, atomically."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [])
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue().encode())
