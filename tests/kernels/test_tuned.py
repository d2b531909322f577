"""Tables of measured tiles: how they are read, what they change, and the command that measures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")

from hierpool_kernels import plan, tune, tuned
from hierpool_kernels.launch import Call, watch
from hierpool_kernels.plan import Tiles
from hierpool_kernels.target import INTERPRETER, KNOWN, PRECISIONS, Target
from tests.support.running import INTERPRETED

SM_80, SM_90 = Target(KNOWN["sm_80"], "ieee"), Target(KNOWN["sm_90"], "ieee")
ARCHITECTURES = [architecture for architecture in KNOWN.values() if architecture.family == "cuda"]
TILES = Tiles(16, 128, 32, 4, 4)  # unlike those of all plans
RUN = {"device": "none: these times are made up"}


def entry(kernel: str, *key: Any, tiles: Any = TILES) -> dict[str, Any]:
    return {"kernel": kernel, "key": key, "tiles": tiles, "run": 0}


def table(*entries: dict[str, Any]) -> str:
    return json.dumps({"format": 1, "runs": [RUN], "entries": entries})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of the tables, empty."""
    monkeypatch.setattr(tuned, "TABLES", tmp_path)
    return tmp_path


# ---- tables ---------------------------------------------------------------------------------------------------------


def test_an_architecture_has_a_table_of_its_own(folder: Path) -> None:
    (folder / "cuda_90.json").write_text(
        table(entry("products", "half", 64, 128), entry("dense_edges", "half"))
    )
    assert tuned.measured("products", SM_90, "half", 64, 128) == TILES
    assert tuned.measured("dense_edges", SM_90, "half") == TILES
    assert tuned.measured("products", SM_90, "half", 64, 64) is None
    assert tuned.measured("products", SM_90, "tf32", 64, 128) is None
    assert tuned.measured("products", SM_80, "half", 64, 128) is None
    assert tuned.measured("products", Target(INTERPRETER, "ieee"), "half", 64, 128) is None


def test_where_the_plan_was_the_fastest_a_table_has_no_answer(folder: Path) -> None:
    (folder / "cuda_90.json").write_text(table(entry("dense_edges", "half", tiles=None)))
    assert tuned.measured("dense_edges", SM_90, "half") is None


def test_a_table_is_read_once(folder: Path) -> None:
    path = folder / "cuda_90.json"
    path.write_text(table(entry("dense_edges", "half")))
    assert tuned.measured("dense_edges", SM_90, "half") == TILES
    path.unlink()
    assert tuned.measured("dense_edges", SM_90, "half") == TILES


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "JSONDecodeError"),
        ("[]", "TypeError"),
        ('{"entries": []}', "KeyError: 'format'"),
        ('{"format": 2, "runs": [], "entries": []}', "its format is 2, not 1"),
        (table({"kernel": "products", "run": 0, "tiles": None}), "KeyError: 'key'"),
        (table(entry("products", "half", [64])), "unhashable"),
        (table(entry("products", "half", 64) | {"run": 1}), "IndexError"),
        (table(entry("products", "half", 64, tiles=[16, 16, 16, 4])), "five whole numbers"),
        (table(entry("products", "half", 64, tiles=[16, 16, 24, 4, 2])), "powers of two"),
        (table(entry("products", "half", 64, tiles=[256, 16, 16, 4, 2])), "powers of two from 16 to 128"),
        (table(entry("products", "half", 64, tiles=[16, 8, 16, 4, 2])), "powers of two from 16 to 128"),
        (table(entry("products", "half", 64, tiles=[16, 16, 16, 3, 2])), "warps must be one of"),
        (table(entry("products", "half", 64, tiles=[16, 16, 16, 4, 0])), "stages at least 1"),
    ],
)
def test_a_file_that_is_no_table_is_named(folder: Path, text: str, reason: str) -> None:
    path = folder / "cuda_90.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=reason) as raised:
        plan.dense_edges("half", SM_90)
    assert str(raised.value).startswith(f"{path} is not a table of tiles")


def test_forced_tiles_come_before_those_of_a_table(folder: Path) -> None:
    (folder / "cuda_90.json").write_text(table(entry("row_products", "half", 64)))
    first, second = Tiles(16, 16, 16, 4, 1), Tiles(32, 32, 32, 8, 2)
    with tuned.forced("row_products", first):
        assert tuned.measured("row_products", SM_90, "half", 64) == first
        assert tuned.measured("products", SM_90, "half", 64, 64) is None
        with tuned.forced("row_products", second, "half", 128), tuned.forced("products", second):
            assert tuned.measured("row_products", SM_90, "half", 64) == first
            assert tuned.measured("row_products", SM_90, "half", 128) == second
            assert tuned.measured("products", SM_90, "half", 64, 64) == second
        with tuned.forced("row_products", None):
            assert tuned.measured("row_products", SM_90, "half", 64) is None
    with pytest.raises(RuntimeError, match="inside"), tuned.forced("row_products", first):
        raise RuntimeError("inside")
    assert tuned.measured("row_products", SM_90, "half", 64) == TILES
    with pytest.raises(ValueError, match="powers of two"), tuned.forced("row_products", (16, 16, 17, 4, 1)):
        pass


# ---- what a table changes -------------------------------------------------------------------------------------------

WIDTHS = (0, 1, 16, 33, 48, 60, 64, 128, 200, 208, 256, 512, 1000)
ENTRIES = {
    "dense_rows": ("dense_rows", "half", 64),
    "dense_product": ("dense_product", "tf32", 64),
    "products": ("products", "half", 64, 256),
    "rows_backward": ("rows_backward", "ieee", 64),
    "row_products": ("row_products", "tf32x3", 256),
    "dense_edges": ("dense_edges", "half"),
}


def plans() -> Iterator[tuple[tuple[Any, ...], Any]]:
    """What is asked and answered, for many shapes."""
    for target in (SM_80, SM_90, Target(INTERPRETER, "ieee")):
        where = (target.architecture.family, target.architecture.version)
        for how in ("half", *PRECISIONS):
            yield (*where, "dense_edges", how), plan.dense_edges(how, target)
            for k in WIDTHS:
                yield (*where, "dense_rows", how, k), plan.dense_rows(4, 500, 1, k, how, target)
                yield (*where, "dense_product", how, k), plan.dense_product(k, how, target)
                yield (*where, "rows_backward", how, k), plan.rows_backward(k, how, target)
                yield (*where, "row_products", how, k), plan.row_products(k, how, target)
                for columns in WIDTHS:
                    yield (*where, "products", how, k, columns), plan.products(k, columns, how, target)
        for k in WIDTHS:
            yield (*where, "others", k), (
                plan.assign(k, target), plan.sparse_rows(4, 500, 5000, k, target), plan.blocks(k, target),
                plan.products_step(4, 500, max(k, 1), 64, True, target),
                plan.link_bce(500, 500, k, "half", True, target), plan.variation(k, target),
                plan.signed_sums(5000, k, target), plan.entry_slots(5000, k, target),
            )  # fmt: skip


@pytest.mark.parametrize("kernel", ENTRIES)
def test_a_measured_entry_changes_one_plan_and_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kernel: str
) -> None:
    before = dict(plans())
    (folder / "other").mkdir()
    (folder / "other" / "cuda_90.json").write_text(table(entry(*ENTRIES[kernel])))
    monkeypatch.setattr(tuned, "TABLES", folder / "other")
    changed = {asked: answer for asked, answer in plans() if answer != before[asked]}
    covered = {64: (48, 64), 256: (208, 256, 512)}  # widths of whole tiles
    expected: set[tuple[Any, ...]] = {("cuda", 90, *ENTRIES[kernel][:2])}
    for width in ENTRIES[kernel][2:]:
        expected = {(*asked, w) for asked in expected for w in covered[width]}
    assert set(changed) == expected
    for (*_, k), answer in changed.items():
        if kernel == "dense_rows":
            assert answer.tiles == TILES
            assert answer.step % TILES.bn == 0
            assert not answer.on_chip  # its tile has half of the columns
        elif kernel == "rows_backward":
            assert answer == (TILES, k <= TILES.bk)
        else:
            assert answer == TILES


def launched(kernel: str, tiles: Tiles | None) -> list[Call]:
    """By a workload whose plans take these tiles."""
    with tune.untuned(), tuned.forced(kernel, tiles), watch(run=False) as calls:
        tune.Workload(64, torch.bfloat16, "ieee").run(SM_90, torch.device("meta"), 0)
    return calls


@pytest.mark.parametrize("kernel", tune.KINDS)
def test_launches_take_the_tiles_and_only_the_kernels_that_are_timed_change(kernel: str) -> None:
    main, *_ = names = tune.KINDS[kernel].kernels
    default, forced = launched(kernel, None), launched(kernel, TILES)

    def options(calls: list[Call], of: Callable[[str], bool]) -> list[Any]:
        return [(call.name, call.grid, call.options) for call in calls if of(call.name)]

    assert options(default, lambda name: name not in names) == options(forced, lambda name: name not in names)
    found = [call.options for call in forced if call.name == main]
    if kernel == "dense_product":
        found.pop()  # row sums, which are no product
    assert found
    for taken in found:
        columns = taken["BJ"] if "BJ" in taken else taken["BC"]
        assert (taken["BN"], columns, taken["BK"], taken["num_warps"], taken["num_stages"]) == TILES


# ---- the choice -----------------------------------------------------------------------------------------------------

ASKED = ("row_products", "half", 128)


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
    found = tune.questions(architecture, list(tune.KINDS))
    assert {question[0] for question in found} == set(tune.KINDS)
    for question in found:
        kernel, how, *widths = question
        start = tune.planned(question, architecture)
        candidates = tune.other_sides(question, start, architecture)
        candidates += tune.other_pipelines(question, start, architecture)
        for tiles in candidates:
            assert tuned.checked(tiles) == tiles
            size = 2 if how == "half" else 4
            assert tiles.stages * size * loaded[kernel](tiles) <= architecture.shared_bytes
            if kernel == "dense_rows":
                with tuned.forced(kernel, tiles):
                    rows = plan.dense_rows(3, 40, 1, *widths, how, Target(architecture, "ieee"))
                assert rows.tiles == tiles
                assert rows.step % tiles.bn == 0
                assert not rows.on_chip or widths[0] <= tiles.bk
        if widths and min(widths) >= 64:
            assert len(set(candidates)) > 10


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

    default, chosen, us = tune.search(ASKED, KNOWN["sm_90"], timed)
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

    default, chosen, us = tune.search(ASKED, KNOWN["sm_90"], timed)
    assert chosen == default == tune.planned(ASKED, KNOWN["sm_90"])
    assert us[default] == 100.0
    assert seen[-1] == seen[2]


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
    for name, size in (("B", 1), ("N", 20), ("F", 16), ("INPUTS", 2)):
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
    assert {call.options["BJ"] for call in timed if call.name == "_soft_pool_rows_kernel"} == {64}
    spills[0] = 1
    with pytest.raises(tune.UnfitError, match="spills"):
        measure(tiles)
    default = tune.planned(asked, SM_90.architecture)
    assert measure(default) == tune.INPUTS * 4
    monkeypatch.setattr(tune, "agree", lambda *_: False)
    with pytest.raises(tune.UnfitError, match="other results"):
        measure(default)


# ---- the command ----------------------------------------------------------------------------------------------------


def made_up(question: Any, workloads: Any, tiles: Tiles) -> float:
    """Of dense_edges, 128 columns are the fastest; of the others, the tiles of the plan."""
    if question[0] == "dense_edges" and tiles.bj == 128:
        return 40.0 + tiles.bn / 100
    return 80.0 if tiles == tune.planned(question, KNOWN["sm_90"]) else 90.0


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
    by_question = {tuned.question_of(one): one for one in written["entries"]}
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


def test_what_was_found_stays_when_the_command_is_interrupted(folder: Path) -> None:
    path = folder / "new" / "cuda_90.json"
    asked: set[Any] = set()

    def timed(question: Any, workloads: Any, tiles: Tiles) -> float:
        asked.add(question)
        if len(asked) == 3:
            raise KeyboardInterrupt
        if len(asked) == 1:
            raise tune.UnfitError("fails")
        return made_up(question, workloads, tiles)

    with pytest.raises(KeyboardInterrupt):
        tune.tune(KNOWN["sm_90"], ["dense_product"], 60, path, RUN, timed)
    assert len(tuned.read(path)["entries"]) == 1
    assert [file.name for file in path.parent.iterdir()] == ["cuda_90.json"]


def test_without_time_nothing_is_measured(folder: Path) -> None:
    path = folder / "cuda_90.json"
    left = tune.tune(KNOWN["sm_90"], ["dense_edges", "rows_backward"], -1, path, RUN, made_up)
    assert left == len(tune.questions(KNOWN["sm_90"], ["dense_edges", "rows_backward"])) > 10
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
