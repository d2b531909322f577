"""Claims of runs: files that say who is at work on what, for processes of several machines that share a folder.

A claim is the file ``KEY.N``. Of two processes that make it only one succeeds. Its owner locks it and touches it every
few seconds. It is abandoned if a process on the same machine can lock it, or if it was not touched for a while. The
process that makes ``KEY.N+1`` takes an abandoned claim over; again only one succeeds.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import uuid
from pathlib import Path
from types import TracebackType
from urllib.parse import quote, unquote

TOUCH_S = 15.0
ABANDONED_S = 300.0


def machine() -> str:
    """A name of this machine, or container, that no other has until it is started again."""
    parts = [socket.gethostname()]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        try:
            parts.append(
                str(os.stat(path).st_ino) if path.endswith("pid") else Path(path).read_text().strip()
            )
        except OSError:
            continue
    return "-".join(parts)


class Claims:
    """The claims of one process.

    Args:
        folder: folder of the claims.
        touch_s: seconds between two touches of the own claim.
        abandoned_s: seconds after which a claim that was not touched is abandoned, by the clock of the file system.
    """

    def __init__(self, folder: Path, touch_s: float = TOUCH_S, abandoned_s: float = ABANDONED_S) -> None:
        self.folder, self.abandoned_s = folder, abandoned_s
        self._touch_s = touch_s
        self._held: dict[str, tuple[Path, int]] = {}
        self._stopped = threading.Event()
        self._guard = threading.Lock()  # of descriptors, which must not be closed while they are touched
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Claims:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._touch, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        for key in list(self._held):
            self.release(key)

    def _touch(self) -> None:
        while not self._stopped.wait(self._touch_s):
            with self._guard:
                for _, descriptor in self._held.values():
                    with contextlib.suppress(OSError):  # the file system may be away for a while
                        os.utime(descriptor)

    def take(self, key: str) -> bool:
        """Claim a run; ``False`` if it belongs to another process."""
        name = quote(key, safe="")
        temporary = self.folder / f".{uuid.uuid4().hex}"
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        try:
            _write_owner(descriptor)
            number = self._next(name, os.fstat(descriptor).st_mtime)
            if number is None:
                os.close(descriptor)
                return False
            path = self.folder / f"{name}.{number}"
            try:
                os.link(temporary, path)
            except FileExistsError:
                os.close(descriptor)
                return False
            except OSError:  # there are no links on this file system
                os.close(descriptor)
                try:
                    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
                except FileExistsError:
                    return False
                _write_owner(descriptor)
        finally:
            temporary.unlink()
        with self._guard:
            self._held[key] = path, descriptor
        return True

    def release(self, key: str) -> None:
        """Give a claim back, and those that it took over."""
        with self._guard:
            path, descriptor = self._held.pop(key)
        stem, _, number = path.name.rpartition(".")
        for n in range(int(number) + 1):
            (self.folder / f"{stem}.{n}").unlink(missing_ok=True)
        os.close(descriptor)

    def _next(self, name: str, now: float) -> int | None:
        """The number of the claim to make, or ``None`` if the last one is alive."""
        numbers = [
            int(entry.rpartition(".")[2])
            for entry in os.listdir(self.folder)
            if entry.rpartition(".")[0] == name
        ]
        if not numbers:
            return 0
        last = self.folder / f"{name}.{max(numbers)}"
        return max(numbers) + 1 if self._is_abandoned(last, now) else None

    def _is_abandoned(self, path: Path, now: float) -> bool:
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:  # given back meanwhile
            return False
        try:
            if now - os.fstat(descriptor).st_mtime > self.abandoned_s:
                return True
            try:
                owner = json.loads(os.read(descriptor, 4096))["machine"]
            except (ValueError, KeyError, TypeError):
                return False
            return owner == machine() and _lock(descriptor)
        finally:
            os.close(descriptor)


def held_by(folder: Path, pid: int) -> list[str]:
    """The keys that a process of this machine has claimed."""
    found = []
    for entry in os.listdir(folder) if folder.is_dir() else ():
        with contextlib.suppress(OSError, ValueError):
            owner = json.loads((folder / entry).read_text(encoding="utf-8"))
            if owner == {"machine": machine(), "pid": pid} and not entry.startswith("."):
                found.append(unquote(entry.rpartition(".")[0]))
    return found


def _write_owner(descriptor: int) -> None:
    """Lock a claim, then say whose it is: one that says nothing is not taken over before it is old."""
    _lock(descriptor)
    os.write(descriptor, (json.dumps({"machine": machine(), "pid": os.getpid()}) + "\n").encode())


def _lock(descriptor: int) -> bool:
    """Lock a file, until it is closed; ``False`` if another process has locked it, or locks do not exist here."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
