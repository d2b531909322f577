"""Tables of measured tiles: how they are read, and what they change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")

from hierpool_kernels import tune
from hierpool_kernels.core import plan, plan_losses, plan_walk, tuned
from hierpool_kernels.core.launch import Call, watch
from hierpool_kernels.core.plan import Tiles
from hierpool_kernels.core.target import INTERPRETER, KNOWN, PRECISIONS, Target
from tests.support.tables import TILES, entry, folder, table

SM_80, SM_90 = Target(KNOWN["sm_80"], "ieee"), Target(KNOWN["sm_90"], "ieee")

__all__ = ["folder"]

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
        (table(entry("products", "half", 64, tiles=[16, 16, 16, 4])), "five integers"),
        (table(entry("products", "half", 64, tiles=[16, 16, 24, 4, 2])), "powers of two"),
        (table(entry("products", "half", 64, tiles=[512, 16, 16, 4, 2])), "powers of two from 16 to 256"),
        (table(entry("products", "half", 64, tiles=[16, 8, 16, 4, 2])), "powers of two from 16 to 256"),
        (
            table(entry("products", "half", 64, tiles=[256, 16, 16, 4, 2])),
            "at most 128 rows at a time, got 256",
        ),
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
                yield (*where, "dense_rows", how, k), plan_walk.dense_rows(4, 500, 1, k, how, target)
                yield (*where, "dense_product", how, k), plan_walk.dense_product(k, how, target)
                yield (*where, "rows_backward", how, k), plan.rows_backward(k, how, target)
                yield (*where, "row_products", how, k), plan.row_products(k, how, target)
                for columns in WIDTHS:
                    yield (*where, "products", how, k, columns), plan.products(k, columns, how, target)
        for k in WIDTHS:
            yield (*where, "others", k), (
                plan.softmax(k, target), plan_walk.sparse_rows(4, 500, 5000, k, target), plan.blocks(k, target),
                plan.products_chunk(4, 500, max(k, 1), 64, True, target),
                plan_losses.link_bce(500, 500, k, "half", True, target), plan_losses.variation(k, 4, target),
                plan_losses.signed_sums(5000, k, target), plan_losses.entry_chunks(5000, k, target),
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
            assert answer.chunk % TILES.bn == 0
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


# ---- answers that are kept ------------------------------------------------------------------------------------------


def test_a_plan_is_made_once_for_its_shapes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, Target]] = []

    @tuned.kept
    def a_plan(k: int, target: Target) -> Any:
        asked.append((k, target))
        return tuned.measured("products", target, "half", k, 64)

    for _ in range(2):
        assert [a_plan(64, SM_80), a_plan(64, SM_90), a_plan(128, SM_90)] == [None] * 3
    assert asked == [(64, SM_80), (64, SM_90), (128, SM_90)]
    with tuned.forced("products", TILES):
        assert a_plan(64, SM_90) == TILES
    with tuned.record_keys() as keys:
        a_plan(64, SM_90)
    assert keys == [("products", "half", 64, 64)]
    monkeypatch.setattr(tuned, "TABLES", folder / "other")
    (folder / "other").mkdir()
    (folder / "other" / "cuda_90.json").write_text(table(entry("products", "half", 64, 64)))
    assert a_plan(64, SM_90) == TILES
