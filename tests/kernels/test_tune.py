"""Measuring tiles: how the fastest are chosen, and the command that adds them to a table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")

from hierpool_kernels import tune
from hierpool_kernels.core import plan, plan_walk, tuned
from hierpool_kernels.core.launch import Call
from hierpool_kernels.core.plan import Tiles
from hierpool_kernels.core.target import KNOWN, Target
from tests.support.running import INTERPRETED
from tests.support.tables import RUN, entry, folder, table

SM_90 = Target(KNOWN["sm_90"], "ieee")
ARCHITECTURES = [architecture for architecture in KNOWN.values() if architecture.family == "cuda"]

__all__ = ["folder"]

# ---- the choice -----------------------------------------------------------------------------------------------------

ASKED = ("row_products", "half", 128)
ENOUGH = tune.Budget(3600)


class Clock:
    """Seconds that only measurements take."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def taking(self, seconds: float, timed: Any) -> Any:
        """``timed``, which takes so long."""

        def call(*arguments: Any) -> float:
            self.seconds += seconds
            return timed(*arguments)

        return call


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: str(a.version))
def test_candidates_keep_to_what_plans_promise_and_to_shared_memory(architecture: Any) -> None:
    loaded = {
        "dense_rows": lambda t: t.bn * t.bj + t.bj * t.bk,
        "dense_product": lambda t: t.bn * t.bj + t.bj * t.bk,
        "products": lambda t: t.bn * t.bk + t.bn * t.bj,
        "rows_backward": lambda t: t.bn * t.bj + t.bj * t.bk,
        "row_products": lambda t: t.bn * t.bk + t.bk * t.bj,
        "dense_edges": lambda t: t.bn * t.bk + t.bj * t.bk,
    }
    found = tune.keys(architecture, list(tune.KINDS))
    assert {key[0] for key in found} == set(tune.KINDS)
    for key in found:
        kernel, how, *widths = key
        start = tune.planned(key, architecture)
        candidates = tune.other_sides(key, start, architecture)
        candidates += tune.other_pipelines(key, start, architecture)
        for tiles in candidates:
            assert tuned.checked(tiles, kernel) == tiles
            size = 2 if how == "half" else 4
            assert tiles.stages * size * loaded[kernel](tiles) <= architecture.shared_bytes
            if kernel == "dense_rows":
                with tuned.forced(kernel, tiles):
                    rows = plan_walk.dense_rows(3, 40, 1, *widths, how, Target(architecture, "ieee"))
                assert rows.tiles == tiles
                assert rows.chunk % tiles.bn == 0
                assert not rows.on_chip or widths[0] <= tiles.bk
        if widths and min(widths) >= 64:
            assert len(set(candidates)) > 10
    sides = {side for key in found for tiles in tune.other_sides(key, tune.planned(key, architecture), architecture)
             for side in tiles[:3]}  # fmt: skip
    assert max(sides) == 256


def test_a_gain_within_the_noise_is_none() -> None:
    default, other, third = Tiles(64, 64, 64, 8, 3), Tiles(32, 64, 64, 8, 3), Tiles(32, 64, 64, 4, 3)
    assert tune.choose(default, {default: 100.0}) == default
    assert tune.choose(default, {default: 100.0, other: 97.5}) == default
    assert tune.choose(default, {default: 100.0, other: 96.5, third: 96.6}) == other
    assert tune.choose(default, {default: 100.0, other: 50.0, third: 50.0}) == third  # whatever the order
    assert tune.choose(default, {third: 50.0, default: 100.0, other: float("inf")}) == third


def test_the_search_ends_at_the_fastest_tiles() -> None:
    start = tune.planned(ASKED, KNOWN["sm_90"])
    best = start._replace(bn=start.bn // 2, bk=2 * start.bk, warps=8, stages=3)
    asked: list[Tiles] = []

    def timed(tiles: Tiles) -> float:
        asked.append(tiles)
        if tiles.bj != start.bj:
            raise tune.UnfitError("spills")
        return 50.0 + 20 * sum(a != b for a, b in zip(tiles, best, strict=True))

    default, chosen, us = tune.search(ASKED, KNOWN["sm_90"], timed, ENOUGH)
    assert (default, chosen) == (start, best)
    assert us == {start: timed(start), best: 50.0}
    asked.pop()
    assert asked[-2:] == [start, best]  # once more
    assert len(set(asked)) == len(asked) - 2


def test_a_gain_that_does_not_come_again_is_none() -> None:
    seen: list[Tiles] = []

    def timed(tiles: Tiles) -> float:
        seen.append(tiles)
        return 50.0 if len(seen) == 3 else 100.0

    default, chosen, us = tune.search(ASKED, KNOWN["sm_90"], timed, ENOUGH)
    assert chosen == default == tune.planned(ASKED, KNOWN["sm_90"])
    assert us[default] == 100.0
    assert seen[-1] == seen[2]


def test_a_search_that_has_no_time_keeps_what_it_could_measure_twice() -> None:
    start = tune.planned(ASKED, KNOWN["sm_90"])
    for seconds, measurements in ((65, 6), (25, 1)):
        clock, asked = Clock(), []
        budget = tune.Budget(seconds, clock)

        def timed(tiles: Tiles, asked: list[Tiles] = asked) -> float:
            asked.append(tiles)
            return 100.0 - 10 * asked.index(tiles)

        default, chosen, us = tune.search(ASKED, KNOWN["sm_90"], clock.taking(10, timed), budget)
        assert default == asked[0] == start
        assert (len(asked), clock.seconds) == (measurements, 10 * measurements)
        assert chosen == asked[-1] == min(us, key=us.__getitem__)


def test_results_agree_beside_their_largest_element() -> None:
    ones = torch.tensor([1.0, 1000.0])
    assert tune.agree([ones], [ones + 0.05], 1e-4)
    assert not tune.agree([ones, ones], [ones, ones + 0.2], 1e-4)
    assert not tune.agree([ones], [ones * torch.nan], 1e-4)
    assert not tune.agree([ones * torch.nan], [ones], 1e-4)


@pytest.mark.skipif(not INTERPRETED, reason="the kernels run in Triton's interpreter")
def test_a_measurement_is_of_forced_tiles_that_give_the_results_of_the_plan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, size in (("B", 1), ("N", 140), ("F", 16), ("INPUTS", 2)):
        monkeypatch.setattr(tune, name, size)
    timed: list[Call] = []
    spills = [0]
    monkeypatch.setattr(tune, "_start", lambda call: type("Compiled", (), {"n_spills": spills[0]}))
    monkeypatch.setattr(tune, "microseconds", lambda calls: float(timed.extend(calls) or len(calls)))
    workload = tune.Workload(32, torch.float32, "ieee")
    asked = ("dense_rows", "ieee", 32)

    def measure(tiles: Tiles) -> float:
        return tune.measure(asked, workload, tiles, SM_90, torch.device("cpu"))

    tiles = Tiles(16, 64, 16, 4, 2)  # S^T A S is then a product of its own
    assert measure(tiles) == tune.INPUTS * 5
    assert {call.options["BJ"] for call in timed if call.name == "_soft_pool_rows_fwd_kernel"} == {64}
    spills[0] = 1
    with pytest.raises(tune.UnfitError, match="spills"):
        measure(tiles)
    default = tune.planned(asked, SM_90.architecture)
    assert measure(default) == tune.INPUTS * 4
    monkeypatch.setattr(tune, "agree", lambda *_: False)
    with pytest.raises(tune.UnfitError, match="other results"):
        measure(default)


# ---- the command ----------------------------------------------------------------------------------------------------


def made_up(key: Any, workloads: Any, tiles: Tiles) -> float:
    """Of dense_edges, 128 columns are the fastest; of the others, the tiles of the plan."""
    if key[0] == "dense_edges" and tiles.bj == 128:
        return 40.0 + tiles.bn / 100
    return 80.0 if tiles == tune.planned(key, KNOWN["sm_90"]) else 90.0


def test_answers_are_added_to_a_table(folder: Path) -> None:
    path = folder / "cuda_90.json"
    path.write_text(
        table(entry("products", "half", 64, 64), entry("dense_edges", "half"), entry("dense_edges", "ieee"))
    )
    run = {"device": "another"}
    kernels = ["dense_edges", "dense_product"]
    assert tune.tune(KNOWN["sm_90"], kernels, 60, path, run, made_up) == 0
    written = tuned.read(path)
    assert written["runs"] == [RUN, run]
    by_question = {tuned.key_of(one): one for one in written["entries"]}
    assert len(by_question) == len(written["entries"])
    assert (
        by_question["products", "half", 64, 64]
        == json.loads(table(entry("products", "half", 64, 64)))["entries"][0]
    )
    assert by_question["dense_edges", "half"]["run"] == 0  # no workload asks
    found = by_question["dense_edges", "ieee"]
    assert found["run"] == 1
    assert (found["tiles"][1], found["us"], found["default_us"]) == (128, 40.32, 80.0)
    assert found["default"] == list(tune.planned(("dense_edges", "ieee"), KNOWN["sm_90"]))
    kept = by_question["dense_product", "half", 64]
    assert (kept["tiles"], kept["us"], kept["default_us"]) == (None, 80.0, 80.0)
    assert plan.dense_edges("ieee", SM_90) == tuple(found["tiles"])


def test_a_run_asks_twenty_questions_and_the_next_run_others(folder: Path) -> None:
    path = folder / "cuda_90.json"
    asked: list[Any] = []

    def timed(key: Any, workloads: Any, tiles: Tiles) -> float:
        asked.append(key)
        return made_up(key, workloads, tiles)

    keys = list(tune.keys(KNOWN["sm_90"], list(tune.KINDS)))
    for run in range(2):
        asked.clear()
        left = tune.tune(KNOWN["sm_90"], list(tune.KINDS), 3600, path, RUN, timed)
        assert list(dict.fromkeys(asked)) == keys[20 * run : 20 * run + 20]
        assert left == len(keys) - 20
    answered = [tuned.key_of(entry) for entry in tuned.read(path)["entries"]]
    assert answered == keys[:40]


@pytest.mark.parametrize("seconds", [15, 100, 1000, 4000])
def test_a_run_ends_in_time(folder: Path, seconds: int) -> None:
    clock = Clock()
    took = iter([10.0, *[8.0, 3.0, 12.0] * 1000])

    def timed(key: Any, workloads: Any, tiles: Tiles) -> float:
        clock.seconds += next(took)
        return made_up(key, workloads, tiles)

    kernels = list(tune.KINDS)
    tune.tune(KNOWN["sm_90"], kernels, seconds, folder / "cuda_90.json", RUN, timed, clock)
    assert (
        seconds - 40 < clock.seconds <= seconds or len(tuned.read(folder / "cuda_90.json")["entries"]) == 20
    )
    assert tuned.read(folder / "cuda_90.json")["entries"]


def test_what_was_found_stays_when_the_command_is_interrupted(folder: Path) -> None:
    path = folder / "new" / "cuda_90.json"
    asked: set[Any] = set()

    def timed(key: Any, workloads: Any, tiles: Tiles) -> float:
        asked.add(key)
        if len(asked) == 3:
            raise KeyboardInterrupt
        if len(asked) == 1:
            raise tune.UnfitError("fails")
        return made_up(key, workloads, tiles)

    with pytest.raises(KeyboardInterrupt):
        tune.tune(KNOWN["sm_90"], ["dense_product"], 60, path, RUN, timed)
    assert len(tuned.read(path)["entries"]) == 1
    assert [file.name for file in path.parent.iterdir()] == ["cuda_90.json"]


def test_without_time_nothing_is_measured(folder: Path) -> None:
    path = folder / "cuda_90.json"
    left = tune.tune(KNOWN["sm_90"], ["dense_edges", "rows_backward"], -1, path, RUN, made_up)
    assert left == len(tune.keys(KNOWN["sm_90"], ["dense_edges", "rows_backward"])) > 10
    assert not path.exists()


def test_the_command_says_why_it_measures_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert tune.main(["--kernels", "products", "--seconds", "1"]) == 2
    assert capsys.readouterr().err == "nothing was tuned: torch finds no CUDA device to measure on\n"
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert tune.main([]) == 2
    expected = (
        "nothing was tuned: TRITON_INTERPRET is set, and the interpreter's times say nothing of a GPU\n"
    )
    assert capsys.readouterr().err == expected
    with pytest.raises(SystemExit, match="2"):
        tune.main(["--kernels", "assign"])
    assert not list(folder.iterdir())


def test_the_command_is_a_module() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "hierpool_kernels.tune"],
        cwd=Path(__file__).parents[2],
        env=environment | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == "nothing was tuned: torch finds no CUDA device to measure on"
