"""Result folders: ``<utc>-<sha>-<device>/{metadata.json, rows.jsonl}`` and an optional ``notes.md``. Append-only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from bench.harness.machine import slug

NOT_ASKED = "not asked for"  # the reason of a row whose peak memory was left out on purpose
RESULTS = Path(__file__).resolve().parents[1] / "results"


@dataclass(frozen=True)
class Results:
    """One run: its metadata, its rows in the order written, and the notes added by hand ("" when none)."""

    folder: Path
    metadata: dict
    rows: list[dict]
    notes: str
    finished: bool

    @property
    def device(self) -> str:
        """The type of the device that was measured."""
        return str(self.metadata.get("device", "cpu"))

    def row(self, workload: str, provider: str, mode: str = "both") -> dict | None:
        """The measured row of a provider, or None."""
        wanted = (workload, provider, mode)
        return next((r for r in self.timings() if (r["workload"], r["provider"], r["mode"]) == wanted), None)

    def timings(self, *kinds: str, mode: str | None = None) -> list[dict]:
        """Measured rows of providers: on all kinds of workloads or on these, in all modes or in one."""
        return [
            row
            for row in self.rows
            if row["status"] == "measured" and "speedup" in row and mode in (None, row.get("mode"))
            and (not kinds or row.get("kind", "dense") in kinds)
        ]  # fmt: skip

    def figures(self, study: str | None = None) -> list[dict]:
        """Measured rows of a study, or of all."""
        return [
            row
            for row in self.rows
            if row["status"] == "measured" and "quantity" in row and study in (None, row["workload"])
        ]


def create_folder(parent: Path, metadata: dict, now: datetime | None = None) -> Path:
    """Make the folder of a new run and write its metadata; an existing folder is never written to."""
    stamp = (now or datetime.now(timezone.utc)).strftime("%Y%m%dT%H%M%SZ")
    device = metadata.get("device_name") or metadata["cpu_model"]
    name = f"{stamp}-{metadata['commit'][:10]}-{slug(device)}"
    parent.mkdir(parents=True, exist_ok=True)
    attempt = 1
    while True:
        folder = parent / (name if attempt == 1 else f"{name}-{attempt}")
        try:
            folder.mkdir()
            break
        except FileExistsError:
            attempt += 1
    (folder / "metadata.json").write_text(json.dumps(metadata, indent=2) + "\n")
    (folder / "rows.jsonl").touch(exist_ok=False)
    return folder


def append_row(folder: Path, row: dict) -> None:
    """Add one row; an interrupted run keeps the rows it finished."""
    with (folder / "rows.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def finish(folder: Path, seconds: float) -> None:
    """Mark the run as complete: its last row."""
    append_row(folder, {"status": "finished", "seconds": round(seconds)})


def read(folder: Path) -> Results:
    """Load a run. Raises ValueError naming the folder when a file is missing or does not parse."""
    try:
        metadata = json.loads((folder / "metadata.json").read_text())
        rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{folder} is not a result folder: {error}") from error
    finished = bool(rows) and rows[-1]["status"] == "finished"
    notes = folder / "notes.md"
    text = notes.read_text().strip() if notes.is_file() else ""
    return Results(folder, metadata, rows[:-1] if finished else rows, text, finished)


def reported(
    parent: Path = RESULTS, device: str = "cpu", whole: Callable[[Results], bool] = lambda run: run.finished
) -> Iterator[Results]:
    """The runs on this type of device that are whole and not quick ones, the newest first."""
    # Other records lie beside the folders of runs.
    folders = sorted((f for f in parent.glob("????????T??????Z-*") if f.is_dir()), reverse=True)
    wanted = (run for run in map(read, folders) if run.device == device)
    return (run for run in wanted if whole(run) and not run.metadata.get("quick"))


def newest(parent: Path = RESULTS, device: str = "cpu") -> Results | None:
    """The newest run that is reported, or None without one."""
    return next(reported(parent, device), None)
