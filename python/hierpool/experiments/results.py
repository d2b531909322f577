"""The file of finished runs: one JSON line each, which is only ever added to."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from pathlib import Path
from typing import Any

Row = dict[str, Any]
NAME = "runs.jsonl"
KEY = ("protocol", "dataset", "method", "fold", "seed")
OK, FAILED, NO_DATA = "ok", "failed", "no data"
ALL = "*"  # the method in the row of a data set that cannot be had


def key_of(row: Row) -> str:
    """The key of the run that a row belongs to."""
    return "/".join(str(row[name]) for name in KEY)


class ResultFile:
    """The runs that are finished, in ``runs.jsonl`` of a folder.

    A line that a killed process left unfinished is ignored, as its run was not finished. If a run is there several
    times, its first success counts, otherwise its last failure.

    Args:
        folder: folder of the file.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / NAME
        self.rows: dict[str, Row] = {}
        self.broken = 0  # lines that were ignored
        self._read = 0  # bytes

    def update(self) -> list[Row]:
        """Read the lines that were added since the last call; the new rows."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self._read)
                content = file.read()
        except FileNotFoundError:
            return []
        complete = content[: content.rfind(b"\n") + 1]
        self._read += len(complete)
        found = []
        for line in complete.splitlines():
            row = _parse(line)
            if row is None:
                self.broken += bool(line.strip())
                continue
            key = key_of(row)
            if self.rows.get(key, {}).get("status") != OK:
                self.rows[key] = row
                found.append(row)
        return found

    def add(self, row: Row) -> bool:
        """Add a row, unless the run is already there with success; whether it was added."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o666)
        try:
            with contextlib.suppress(OSError):  # without locks, the claim alone keeps others away
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            self.update()
            if self.rows.get(key_of(row), {}).get("status") == OK:
                return False
            size = os.fstat(descriptor).st_size
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            line = (b"\n" if torn else b"") + json.dumps(row, allow_nan=False).encode() + b"\n"
            if os.write(descriptor, line) != len(line):
                raise OSError(f"could not write a whole line to {self.path}; the disk may be full")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return True


def _parse(line: bytes) -> Row | None:
    try:
        row = json.loads(line)
        key_of(row)
    except (ValueError, KeyError, TypeError):
        return None
    return row


def read_rows(folder: str | Path) -> list[Row]:
    """The rows of a folder, one for each run.

    Raises:
        OSError: the folder has no file of results.
    """
    file = ResultFile(folder)
    if not file.path.is_file():
        raise FileNotFoundError(
            f"folder must hold {NAME}, the results of an experiment, but {file.path} is not there"
        )
    file.update()
    return list(file.rows.values())
