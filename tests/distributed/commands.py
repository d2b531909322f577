"""Cases of the commands in the processes of a group, against one process."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from hierpool.cli import cluster, train
from hierpool.cli import options as shared_options
from hierpool.clustering import ClusterConfig
from hierpool.data import stochastic_block_model
from hierpool.distributed.ranks import Ranks
from hierpool.training import TrainConfig
from tests.support.sharded import raises
from tests.support.training import SMALL, make_dataset

Group = dist.ProcessGroup
FAST = ("--hidden-channels=16", "--products=8", "--epochs=15", "--batch-nodes=200", "--no-pictures")


def parsed(command: Any, *options: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args([*map(str, options)])


def clustered(ranks: Ranks | None, out: Path, *options: object) -> dict[str, Any]:
    args = parsed(cluster, *FAST, "--out", out, *options)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        cluster._run(args, shared_options.make_config(ClusterConfig, args), ranks, 0.0)
    if ranks is not None:
        dist.barrier(group=ranks.group)
    found: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    return found


def inputs(group: Group) -> None:
    """Ids with gaps, names, weights, features, labels by ids, and matrices: files and metrics as of one process."""
    ranks = Ranks(group)
    with tempfile.TemporaryDirectory() as own:
        folder = Path(ranks.objects(own)[0])
        graph, labels = stochastic_block_model(500, 4, mean_degree=14, mixing=0.1, seed=2)
        if ranks.rank == 0:
            write(folder, graph.to_edge_index()[0], labels)
        dist.barrier(group=group)
        known = ("--labels", folder / "labels.npy", "--k=4")
        for name, options in {
            "ids.txt": (*known, "--features", folder / "x.npy", "--save-soft"),
            "names.txt": ("--labels", folder / "named.txt", "--row-ids"),
            "weighted.csv": (*known, "--loss=mincut", "--no-refine"),
            "matrix.npz": (*known, "--loss=diffpool", "--refine"),
        }.items():
            several = clustered(ranks, folder / f"{name}-several", folder / name, *options)
            assert several["processes"] == ranks.size
            assert len(several["peak_memory_gib_of_processes"]) == ranks.size
            assert several["peak_memory_gib"] < several["estimated_memory_gib"]
            if ranks.rank == 0:
                alone = clustered(None, folder / f"{name}-alone", folder / name, *options)
                same(folder, name, alone, several)
            dist.barrier(group=group)
        for text, options in {
            "memory-limit is 0.001": ("ids.txt", "--memory-limit=0.001", "--k=4"),
            "none.txt is neither": ("none.txt", "--k=4"),
            "k must be given": ("ids.txt",),
        }.items():
            given = (ranks, folder / "no", folder / options[0], *options[1:])
            raises(ValueError, text, lambda given=given: clustered(*given), 2)
        dist.barrier(group=group)


def write(folder: Path, edges: torch.Tensor, labels: torch.Tensor) -> None:
    """The same planted graph in several forms."""
    upper = edges[:, edges[0] < edges[1]].t().tolist()
    (folder / "ids.txt").write_text("".join(f"{3 * i + 10} {3 * j + 10}\n" for i, j in upper))
    (folder / "names.txt").write_text("".join(f"n{i:04d} n{j:04d}\n" for i, j in upper))
    (folder / "weighted.csv").write_text("".join(f"{i},{j},{1 + (i + j) % 3}\n" for i, j in upper))
    (folder / "named.txt").write_text("".join(f"n{i:04d} {c}\n" for i, c in enumerate(labels.tolist())))
    np.save(folder / "labels.npy", labels.numpy())
    np.save(folder / "x.npy", np.random.default_rng(0).normal(size=(500, 6)) + labels.numpy()[:, None])
    n = np.array([500, 500])
    np.savez(
        folder / "matrix.npz", format=b"coo", shape=n, row=edges[0], col=edges[1], data=np.ones(edges.size(1))
    )


def same(folder: Path, name: str, alone: dict[str, Any], several: dict[str, Any]) -> None:
    assert several["graph"] == alone["graph"]
    assert several["config"] == alone["config"]
    for metric in ("modularity", "nmi", "conductance_mean", "modularity_of_labels", "mean_probability"):
        assert abs(several[metric] - alone[metric]) < 0.02, (name, metric, several[metric], alone[metric])
    one, other = (
        dict(np.load(folder / f"{name}-{kind}" / "assignments.npz")) for kind in ("alone", "several")
    )
    assert one.keys() == other.keys()
    assert (one["node"] == other["node"]).all()
    assert (one["cluster"] == other["cluster"]).mean() > 0.97, name
    for kind in ("alone", "several"):
        assert (folder / f"{name}-{kind}" / "names.csv").exists() == (name == "names.txt")


def training(group: Group) -> None:
    """The files of one process, written once."""
    ranks = Ranks(group)
    with tempfile.TemporaryDirectory() as own:
        folder = Path(ranks.objects(own)[0])
        given = [f"--{key.replace('_', '-')}={value}" for key, value in (SMALL | {"dropout": 0.0}).items()]
        args = parsed(
            train,
            *given,
            "--convention=paper",
            "--epochs=2",
            "--no-pictures",
            "--out",
            folder / "out",
        )
        config = shared_options.make_config(TrainConfig, args)
        load, train.load_tu = train.load_tu, lambda name, root: make_dataset()
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                train._run(args, config, ranks)
                dist.barrier(group=group)
                several = json.loads((folder / "out" / "metrics.json").read_text())
                assert several["processes"] == ranks.size
                if ranks.rank == 0:
                    args.out = folder / "alone"
                    train._run(args, config, None)
                    alone = json.loads((folder / "alone" / "metrics.json").read_text())
                    assert several["test_accuracy_mean"] == alone["test_accuracy_mean"]
        finally:
            train.load_tu = load
        dist.barrier(group=group)


CASES: dict[str, Callable[[Group], None]] = {"inputs": inputs, "training": training}
