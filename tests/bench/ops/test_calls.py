"""Single operators and poolers are verified and timed; the Triton kernels pass through a run in the interpreter."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.harness import run
from bench.harness.workload import Request, Workload
from bench.ops import (
    PROVIDERS,
    WORKLOADS,
    asymmetric_norm,
    cut_pool,
    edge_distances,
    link_bce,
    spmm,
    total_variation,
)
from bench.ops.calls import OPERATOR, POOLER
from bench.ops.graphs import dense, scattered
from bench.report import tables
from tests.bench.toys import execute, loaded, off, plan_of, provider_of

ROOT = Path(__file__).resolve().parents[3]
GRAPH, PAIRS = scattered(40, 4, 3, 4), dense(2, 12, 3, 4)
CALLS = {
    "spmm": (OPERATOR, spmm.spmm(GRAPH)),
    "distances": (OPERATOR, edge_distances.edge_distances(GRAPH)),
    "variation": (OPERATOR, total_variation.sparse(GRAPH)),
    "variation-dense": (OPERATOR, total_variation.dense(PAIRS)),
    "norm": (OPERATOR, asymmetric_norm.asymmetric_norm(PAIRS)),
    "link-bce": (OPERATOR, link_bce.link_bce(PAIRS)),
    "mincut": (POOLER, cut_pool.mincut(PAIRS)),
    "dmon": (POOLER, cut_pool.dmon(PAIRS)),
}
TOYS = [Workload(name, name, kind, make, device="cuda") for name, (kind, make) in CALLS.items()]


def test_the_toys_are_the_workloads():
    of_calls = {name: w.kind for name, w in WORKLOADS.items() if w.kind in (OPERATOR, POOLER)}
    assert of_calls == {name: kind for name, (kind, _) in CALLS.items()}


def test_operators_are_verified_and_timed(tmp_path):
    loaded("hierpool-call")
    found, failed, rows = execute(plan_of(TOYS, ["hierpool-call", "pyg-call"]), tmp_path)
    assert failed == 0, [row["reason"] for row in found.rows if row["status"] != "measured"]
    for name, (kind, _) in CALLS.items():
        for mode in run.MODES["cuda"]:
            row = rows[name, "hierpool-call", mode]
            assert row["baseline"] in ("hierpool-call-reference", "pyg-call")
            assert row["floor"]["fraction"] == row["floor"]["ms"] / row["candidate_ms"]["p50"]
            assert row["sizes"]["nodes"] in (24, 40) or kind is POOLER
            assert row["copies"] > 1  # the inputs of toys fit into the cache
    assert "variation-dense" in tables.terminal(found)


@pytest.mark.parametrize(("value", "gradient"), [(1e-3, 0.0), (0.0, 10.0)])
def test_wrong_operators_are_refused(value, gradient, tmp_path):
    wrong = off(loaded("hierpool-call"), 0, value, gradient)
    known = PROVIDERS | {"hierpool-call": provider_of(wrong, "hierpool-call", kinds=("operator", "pooler"))}
    _, failed, rows = execute(plan_of(TOYS, ["hierpool-call"], known), tmp_path)
    assert failed == len(CALLS)
    assert all(rows[name, "hierpool-call", ""]["status"] == "refused" for name in CALLS)


def test_least_work_counts_gathers_beyond_the_cache():
    problem = spmm.spmm(GRAPH)(Request())
    forward, backward = problem.work(None)
    rows, stored = 40 * 4 * 4, 4 * (160 + 40 + 1)
    assert (forward.bytes, forward.flops) == (stored + 2 * rows, 2 * 160 * 4)
    assert backward.bytes == forward.bytes + rows
    assert problem.work(rows // 2)[0].bytes == forward.bytes + (160 * 16 - rows) / 2


INTERPRETED = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from bench.harness import timing
from bench.harness.workload import Workload
from bench.ops import cut_pool, soft_pool, total_variation
from bench.ops.calls import OPERATOR, POOLER
from bench.ops.graphs import dense, scattered
from bench.ops.soft_pool import DENSE, SCATTERED
from tests.bench.toys import execute, plan_of
timing.WARM_UP_S, timing.SLOW_S, timing.MAX_CALLS = 0.0, 1e-12, {"cpu": 1}
soft_pool.BACKENDS["cpu"] = "triton"
pairs, graph = dense(1, 12, 3, 4), scattered(20, 4, 3, 4)
toys = [
    Workload("d", "Dense", DENSE, pairs), Workload("l", "Large", SCATTERED, graph),
    Workload("v", "Variation", OPERATOR, total_variation.sparse(graph)),
    Workload("m", "MinCut", POOLER, cut_pool.mincut(pairs)),
]
ours = ["hierpool-detected", "hierpool-graph", "hierpool-call"]
found, failed, _ = execute(plan_of(toys, ours), Path(sys.argv[1]))
print(failed, *(row.get("reason", row["status"]) for row in found.rows))
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="the kernels need triton")
def test_the_kernels_pass_through_a_run_in_the_interpreter(tmp_path):
    paths = os.pathsep.join((str(ROOT / "python"), str(ROOT)))
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED, str(tmp_path)], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": paths}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["0" + " measured" * 8]
