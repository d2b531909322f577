"""The command `cluster`: consistent outputs, refinement, resume, memory and errors."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from hierpool import metrics
from hierpool.cli import cluster as command
from hierpool.clustering import loop
from hierpool.clustering.objective import OBJECTIVES
from hierpool.data import stochastic_block_model
from tests.support.clusterings import assignments, np, run, write_edges
from tests.support.data import data_root


def test_synthetic_graph_and_every_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib (extra: train) is not installed")
    out = tmp_path / "out"
    options = (
        "--nodes=1500",
        "--communities=5",
        "--epochs=40",
        "--batch-nodes=500",
        "--save-soft",
        "--no-refine",
    )
    made = run(out, "--synthetic=sbm", *options, pictures=True)
    printed = capsys.readouterr().out
    assert made["nmi"] > 0.9
    assert made["clusters_used"] == 5
    assert made["config"]["k"] == 5
    assert f"NMI with known labels {made['nmi']:.3f}" in printed
    for picture in ("pooled.png", "curves.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")
        assert (out / picture).stat().st_size > 10_000
        assert str(out / picture) in printed
    found = assignments(out)
    assert found["node"].tolist() == list(range(1500))
    assert found["assignment"].shape == (1500, 5)
    assert np.abs(found["assignment"].sum(1) - 1).max() < 5e-3
    assert (found["assignment"].argmax(1) == found["cluster"]).mean() > 0.999
    with open(out / "assignments.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["cluster"]) for row in rows] == found["cluster"].tolist()
    assert [float(row["probability"]) for row in rows] == pytest.approx(
        found["probability"].tolist(), abs=5.1e-5
    )
    graph, labels = stochastic_block_model(1500, 5, mean_degree=10, mixing=0.2, seed=0)
    clusters = torch.from_numpy(found["cluster"])
    assert made["modularity"] == pytest.approx(metrics.modularity(graph, clusters))
    assert made["nmi"] == pytest.approx(metrics.normalized_mutual_information(clusters, labels))
    assert made["conductance_max"] == pytest.approx(float(metrics.conductance(graph, clusters).max()))
    assert made["peak_memory_gib"] < made["estimated_memory_gib"]


def test_clusters_are_refined_where_nodes_have_no_features(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = write_edges(tmp_path / "g.txt")
    np.save(tmp_path / "labels.npy", labels.numpy())
    options = (tmp_path / "g.txt", "--labels", tmp_path / "labels.npy", "--epochs=2", "--save-soft")
    trained = run(tmp_path / "trained", *options, "--no-refine")
    assert trained["refinement"] is None
    assert "--no-refine" not in capsys.readouterr().out
    made = run(tmp_path / "refined", *options)
    printed = capsys.readouterr().out
    assert "diffused random features, since nodes have none" in printed
    before, after = (assignments(tmp_path / folder) for folder in ("trained", "refined"))
    moved = before["cluster"] != after["cluster"]
    said = made["refinement"]
    assert said == {
        "moved_nodes": moved.sum(), "modularity_before": trained["modularity"], "nmi_before": trained["nmi"],
    }  # fmt: skip
    assert f"refinement moved {moved.sum()} nodes; before it, modularity was" in printed
    assert made["modularity"] >= trained["modularity"]
    assert made["nmi"] > 0.95
    assert made["peak_memory_gib"] < made["estimated_memory_gib"]
    assert moved.mean() < 0.5  # numbers are kept
    assert np.array_equal(after["assignment"], before["assignment"])
    own = np.take_along_axis(after["assignment"], after["cluster"][:, None].astype(int), 1)[:, 0]
    assert np.abs(own - after["probability"]).max() < 1e-3
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(600, 9)))
    given = run(tmp_path / "given", *options, "--features", tmp_path / "x.npy")
    assert given["refinement"] is None
    asked = run(tmp_path / "asked", *options, "--features", tmp_path / "x.npy", "--refine")
    assert asked["modularity"] > given["modularity"]


def test_a_resumed_run_equals_the_uninterrupted_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_edges(tmp_path / "g.txt")
    options = [tmp_path / "g.txt", "--k=4", "--epochs=6", "--batch-nodes=200", "--checkpoint-every=4"]
    run(tmp_path / "whole", *options)
    step = loop._step
    calls = []

    def fail(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 11:
            raise KeyboardInterrupt
        return step(*args, **options)

    monkeypatch.setattr(loop, "_step", fail)
    run(tmp_path / "part", *options, expect=130)
    saved = tmp_path / "part" / "checkpoint.pt"
    advice = f"hierpool cluster: interrupted; {saved} is whole, and --resume continues from it\n"
    assert capsys.readouterr().err.endswith(advice)
    assert not (tmp_path / "part" / "metrics.json").exists()
    run(tmp_path / "part", *options, "--resume")
    assert len(calls) == 11 + 18 - 8
    for name in ("cluster", "probability"):
        assert np.array_equal(assignments(tmp_path / "part")[name], assignments(tmp_path / "whole")[name])


def test_a_folder_with_a_checkpoint_is_not_overwritten_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_edges(tmp_path / "g.txt")
    run(tmp_path / "out", tmp_path / "g.txt", "--k=4", "--epochs=1")
    run(tmp_path / "out", tmp_path / "g.txt", "--k=4", "--epochs=1", expect=2)
    assert "already holds checkpoints; pass --resume to continue, or --overwrite" in capsys.readouterr().err
    run(tmp_path / "out", tmp_path / "g.txt", "--k=3", "--epochs=1", "--resume", expect=2)
    printed = capsys.readouterr()
    assert "belongs to another run: k is 4 in the checkpoint and 3 in this run" in printed.err
    assert "reading" not in printed.out  # options are compared first
    write_edges(tmp_path / "h.txt", nodes=500)
    run(tmp_path / "out", tmp_path / "h.txt", "--k=4", "--epochs=1", "--resume", expect=2)
    assert "; fingerprint is" in capsys.readouterr().err
    assert run(tmp_path / "out", tmp_path / "g.txt", "--k=3", "--epochs=1", "--overwrite")["config"]["k"] == 3


def test_too_little_memory_is_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path / "out", "--synthetic=sbm", "--nodes=200000000", "--memory-limit=8", expect=2)
    message = capsys.readouterr().err
    assert "memory-limit is 8 GiB, but a clustering in batches of 1024 nodes takes" in message
    assert "GiB (" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "either an input or --synthetic must be given, and not both"),
        (["g.txt", "--synthetic=sbm"], "either an input or --synthetic must be given, and not both"),
        (["g.txt"], "k must be given, since the graph has no known labels"),
        (["zero.txt"], "k must be given, since the graph has no known labels"),  # before it is read
        (["g.txt", "--k=4"], "k must lie between 1 and the number of nodes, 3, got 4"),
        (["g.txt", "--k=-1"], "k must be at least 0, got -1"),
        (["g.txt", "--k=2", "--threads=0"], "threads must be at least 1, got 0"),
        (["g.txt", "--k=2", "--memory-limit=-1"], "memory-limit must be positive, got -1.0"),
        (["g.txt", "--k=2", "--labels=x.txt"], "x.txt must hold labels of shape [3], got [2]"),
        (["g.txt", "--features=x.txt", "--k=2"], "x.txt must hold features of shape [3, F], got [2, 1]"),
        (["g.txt", "--features=y.txt", "--k=2"], "y.txt cannot be read as features"),
        (
            ["g.txt", "--features=z.txt", "--k=2"],
            "z.txt must hold finite numbers, got NaN or infinity in line 2",
        ),
        (
            ["g.txt", "--labels=w.txt"],
            "w.txt cannot be read as labels: line 2: expected a 64-bit integer, got '1.5'",
        ),
        (["g.txt", "--labels=u.txt", "--k=2"], "u.txt must hold at least one known label, got -1 only"),
        (["g.txt", "--features=v.txt", "--k=2"], "v.txt has the same features for all nodes"),
        (["zero.txt", "--k=2"], "zero.txt has no edge between two different nodes with a weight above 0"),
        (
            ["g.txt", "--k=2", "--num-nodes=2"],
            "num-nodes is 2, but the ids in g.txt run from 0 to 2, outside 0 to 1",
        ),
        (["g.txt", "--k=2", "--format=npz"], "g.txt is not an .npz file of plain arrays"),
        (["g.txt", "--k=2", "--format=metis"], "g.txt has 1 lines of neighbours for 0 nodes"),
        (["loops.txt", "--k=1"], "loops.txt has no edge between two different nodes"),
        (["nowhere.txt", "--k=2"], "input must be a file or one of Cora, CiteSeer, PubMed, Computers, Photo"),
        (["--synthetic=sbm", "--nodes=0"], "nodes must lie between 1 and 2^31 - 1, got 0"),
        (["g.txt", "--k=2", "--nodes=5"], "nodes is an option of --synthetic, which is not given"),
        (
            ["g.txt", "--k=2", "--mean-degree=5"],
            "mean-degree is an option of --synthetic, which is not given",
        ),
        (["--synthetic=sbm", "--format=edges"], "format is an option of an input, which is not given"),
        (["g.txt", "--k=2", "--row-ids"], "row-ids is an option of features or labels, which are not given"),
        (["g.txt", "--k=2", "--first-id=1"], "first-id is an option of num-nodes, features or labels"),
        (["g.txt", "--k=2", "--features=t.txt", "--feature-channels=9"], "without features, but g has 1"),
        (["g.txt", "--k=2", "--seed=99999999999999999999"], "seed must be between 0 and 2^53"),
    ],
)
def test_errors_are_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "g.txt": "0 1\n1 2\n",
        "x.txt": "1\n2\n",
        "y.txt": "a\nb\nc\n",
        "z.txt": "1\nnan\n2\n",
        "w.txt": "0\n1.5\n2\n",
        "loops.txt": "1 1\n2 2\n",
        "zero.txt": "0 1 0\n1 2 0\n",
        "u.txt": "-1\n" * 3,
        "v.txt": "2 1\n" * 3,
        "t.txt": "1\n2\n3\n",
    }.items():
        Path(name).write_text(text)
    run(tmp_path / "out", *options, expect=2)
    printed = capsys.readouterr().err
    assert message in printed.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["features", "labels"])
def test_files_are_looked_for_before_the_graph_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    monkeypatch.setattr(
        command, "load_large", lambda *args, **options: pytest.fail("the graph was read first")
    )
    run(tmp_path / "out", tmp_path / "g.txt", "--k=2", f"--{option}={tmp_path / 'none'}", expect=2)
    assert (
        f"{option} must be a file that can be read, but {tmp_path / 'none'} is none"
        in capsys.readouterr().err
    )


def test_assignments_are_written_before_anything_that_can_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_edges(tmp_path / "g.txt")

    def fail(*_: Any) -> None:
        raise ValueError("no metric")

    monkeypatch.setattr(command, "quality", fail)
    run(tmp_path / "out", tmp_path / "g.txt", "--k=4", "--epochs=1", expect=2)
    assert "no metric" in capsys.readouterr().err
    assert len(assignments(tmp_path / "out")["cluster"]) == 600
    assert (tmp_path / "out" / "assignments.csv").exists()


def test_what_the_end_needs_is_checked_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_edges(tmp_path / "g.txt")
    run(tmp_path / "g.txt" / "out", tmp_path / "g.txt", "--k=4", expect=2)
    assert "out must be a folder that can be written to, but" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    run(tmp_path / "out", tmp_path / "g.txt", "--k=4", pictures=True, expect=2)
    assert "matplotlib is needed here" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (0, "the loss of dmon is nan before the first step"),
        (2, "the loss of dmon is nan; try a smaller learning rate"),
    ],
)
def test_a_loss_that_is_not_finite_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    steps: int,
    message: str,
) -> None:
    write_edges(tmp_path / "g.txt")
    calls: list[int] = []

    def diverge(record: Any) -> torch.Tensor:
        calls.append(1)
        return record.s.sum() * (float("nan") if len(calls) > steps else 1.0)

    dmon = OBJECTIVES["dmon"]
    monkeypatch.setitem(OBJECTIVES, "dmon", dmon._replace(terms=(diverge, dmon.terms[1])))
    run(tmp_path / "out", tmp_path / "g.txt", "--k=4", "--epochs=9", expect=2)
    assert capsys.readouterr().err.replace("\r", "\n").splitlines()[-1] == f"hierpool cluster: {message}"


def test_cora(tmp_path: Path) -> None:
    pytest.importorskip("torch_geometric", reason="torch_geometric (extra: train) is not installed")
    data_root("planetoid/Cora")
    made = run(tmp_path / "out", "Cora", "--hidden-channels=64", "--epochs=15")
    assert made["modularity"] > 0.65
    assert made["nmi"] > 0.35
