"""Result folders are append-only, and metadata says what a figure depends on."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
import torch

from bench.harness import results
from bench.harness.machine import describe, slug
from bench.harness.workload import CPU

METADATA = {"commit": "0123456789abcdef", "quick": False, "cpu_model": "Some CPU (R) 9"}


def test_folders_are_append_only(tmp_path):
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    first, second = (results.create_folder(tmp_path, METADATA, now) for _ in range(2))
    assert first.name == "20260102T030405Z-0123456789-some-cpu-9"
    assert second.name == f"{first.name}-2"
    results.append_row(first, {"status": "a"})
    results.append_row(first, {"status": "b"})
    assert results.read(first).rows == [{"status": "a"}, {"status": "b"}]
    assert results.read(second).rows == []


def test_newest_skips_quick_looks_unfinished_runs_and_other_devices(tmp_path):
    assert results.newest(tmp_path / "absent") is None
    days = (datetime(2026, 1, day, tzinfo=timezone.utc) for day in (1, 2, 3))
    kept, quick, gpu = (
        results.create_folder(tmp_path, METADATA | more, day)
        for more, day in zip(({}, {"quick": True}, {"device": "cuda"}), days, strict=True)
    )
    for folder in (quick, gpu):
        results.finish(folder, 1.0)
    assert results.newest(tmp_path) is None
    results.finish(kept, 1.0)
    assert results.newest(tmp_path).folder == kept
    assert results.newest(tmp_path, "cuda").folder == gpu


def test_a_folder_that_is_not_a_run_is_named(tmp_path):
    with pytest.raises(ValueError, match=str(tmp_path)):
        results.read(tmp_path)


def test_metadata_says_what_a_figure_depends_on():
    found = describe(CPU)
    wanted = {"commit", "dirty", "cpu_model", "isa_flags", "threads", "python", "packages", "date_utc"}
    assert wanted <= set(found)
    assert found["packages"]["torch"] == torch.__version__
    assert slug("Intel(R) Xeon(R) 8480+ @ 2.0GHz") == "intel-xeon-8480-2-0ghz"
