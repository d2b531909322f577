"""Studies check their results, and compute what they say."""

from __future__ import annotations

import pytest
import torch

import hierpool
from bench.harness.timing import Percentiles
from bench.harness.workload import Refused, Request, Setting, Unavailable
from bench.ops import graphs, sparse_soft_pool, studies
from tests.bench.toys import loaded, off

SETTING = Setting(seed=0, budget_s=0.0, repeats=3, say=lambda text: None)


def test_exponent_is_the_slope_of_logarithms():
    assert studies.exponent([1, 10, 100], [3.0, 30.0, 300.0]) == pytest.approx(1.0)
    assert studies.exponent([1, 10, 100], [1.0, 8.0, 100.0]) == pytest.approx(1.0)
    assert studies.exponent([1, 4, 16], [5.0, 10.0, 20.0]) == pytest.approx(0.5)


def test_graph_build_is_timed_for_both_symmetries():
    loaded("hierpool-edges")
    rows = list(studies.graph_build(50, 200)(SETTING))
    assert [(row["quantity"], row["unit"], row["entries"]) for row in rows] == [
        ("undirected", "s", 200),
        ("directed", "s", 200),
    ]
    assert all(0 < row["low"] <= row["value"] <= row["high"] for row in rows)


def test_graph_build_refuses_a_graph_without_its_edges(monkeypatch):
    loaded("hierpool-edges")
    build = hierpool.RaggedGraph.from_edge_index
    fewer = lambda edges, *args, **more: build(edges[:, 1:], *args, **more)  # noqa: E731
    monkeypatch.setattr(hierpool.RaggedGraph, "from_edge_index", fewer)
    with pytest.raises(Refused, match="undirected"):
        list(studies.graph_build(50, 200)(SETTING))


def test_linearity_ends_with_the_exponent_of_its_sizes(monkeypatch):
    loaded("hierpool-graph")
    times = iter([1.0, 4.0])
    monkeypatch.setattr(studies, "repeated", lambda call, setting: Percentiles.of([next(times)]))
    rows = list(studies.linearity((200, 800))(SETTING))
    assert [(row["quantity"], row["value"]) for row in rows[:2]] == [("seconds", 1.0), ("seconds", 4.0)]
    assert [row["nodes"] for row in rows[:2]] == [20, 80]
    assert rows[2]["quantity"] == "exponent"
    assert rows[2]["value"] == pytest.approx(1.0)


def test_a_wrong_result_is_refused():
    pool, batch = loaded("hierpool-graph"), graphs.star(20, 3, 4)(Request())
    assert studies.checked(pool, batch) is pool
    with pytest.raises(Refused, match="x: relative error"):
        studies.checked(off(pool, 0, value=1e-3), batch)


def test_threads_are_compared_in_pairs_and_put_back(monkeypatch):
    loaded("hierpool-graph")
    before, used = torch.get_num_threads(), []

    def timed_with(threads, call):
        used.append(threads)
        return (3.0, 3.0) if threads == 1 else (2.0, 3.8)

    with monkeypatch.context() as patch:
        patch.setattr(studies, "timed_with", timed_with)
        patch.setattr(studies.torch, "get_num_threads", lambda: 2)
        (row,) = studies.thread_use({"star": graphs.star(20, 3, 4)})(SETTING)
    assert (row["quantity"], row["value"], row["busy"], row["seconds"]) == ("star", 1.5, 1.9, 2.0)
    assert used == [1, 2] * 4
    wall, cpu = studies.timed_with(1, lambda: 0.0)
    assert wall > 0
    assert cpu >= 0
    assert torch.get_num_threads() == before


def test_threads_need_two(monkeypatch):
    monkeypatch.setattr(studies.torch, "get_num_threads", lambda: 1)
    with pytest.raises(Unavailable, match="two threads"):
        list(studies.thread_use({})(SETTING))


def test_a_quarter_of_the_nodes_as_clusters() -> None:
    step, peak = sparse_soft_pool.quarter(400, 6, 3)(SETTING)
    assert step["value"] > 0
    assert step["entries"] == 2400
    assert step["coarse_entries"] > 100
    assert peak["unit"] == "GiB"
