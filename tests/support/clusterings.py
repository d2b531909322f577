"""Runs of the command `cluster`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hierpool.cli.main import main
from hierpool.data import stochastic_block_model

np = pytest.importorskip("numpy", reason="numpy (extra: train) is not installed")
pytest.importorskip("tqdm", reason="tqdm (extra: train) is not installed")
FAST = ("--threads=1", "--hidden-channels=16", "--products=8")


def run(out: Path, *options: object, pictures: bool = False, expect: int = 0) -> dict[str, Any]:
    """The metrics of a run, or nothing if an error is expected."""
    options = (*FAST, *(() if pictures else ("--no-pictures",)), *options)
    assert main(["cluster", "--out", str(out), *map(str, options)]) == expect
    return {} if expect else json.loads((out / "metrics.json").read_text())


def assignments(out: Path) -> dict[str, Any]:
    with np.load(out / "assignments.npz") as file:
        return {key: file[key] for key in file.files}


def write_edges(path: Path, *, nodes: int = 600, step: int = 1) -> torch.Tensor:
    """Write a planted graph whose node i has the id 10 + step * i, and return the communities."""
    graph, labels = stochastic_block_model(nodes, 4, mean_degree=10, mixing=0.1, seed=2)
    edges = graph.to_edge_index()[0]
    edges = edges[:, edges[0] < edges[1]] * step + 10
    path.write_text("# planted\n" + "".join(f"{i} {j}\n" for i, j in edges.t().tolist()))
    return labels
