"""The command `cluster`: every input, consistent outputs, resume, memory and errors."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hierpool import RaggedGraph, metrics
from hierpool.cli.main import main
from hierpool.clustering import loop
from hierpool.data import rmat, stochastic_block_model
from tests.support.data import data_root

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


def test_synthetic_graph_and_every_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib (extra: train) is not installed")
    out = tmp_path / "out"
    options = ("--nodes=1500", "--communities=5", "--epochs=40", "--batch-nodes=500", "--save-soft")
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


@pytest.mark.parametrize("loss", ["dmon", "mincut", "diffpool"])
def test_edge_list_with_known_labels(tmp_path: Path, loss: str) -> None:
    labels = write_edges(tmp_path / "g.txt", step=7)
    np.save(tmp_path / "labels.npy", labels.numpy())
    options = (f"--loss={loss}", "--labels", tmp_path / "labels.npy", "--epochs=60")
    made = run(tmp_path / "out", tmp_path / "g.txt", *options)
    assert made["nmi"] > 0.9
    assert assignments(tmp_path / "out")["node"].tolist() == list(range(10, 10 + 7 * 600, 7))
    assert made["graph"]["notes"][0].startswith("both directions of the")


def test_one_clustering_from_every_format(tmp_path: Path) -> None:
    sparse = pytest.importorskip("scipy.sparse", reason="scipy is not installed")
    write_edges(tmp_path / "g.txt")
    lines = (tmp_path / "g.txt").read_text().splitlines()[1:]
    ends = np.array([line.split() for line in lines], dtype=int) - 10
    matrix = sparse.csr_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(600, 600))
    sparse.save_npz(tmp_path / "g.npz", matrix)
    (tmp_path / "g.csv").write_text("".join(f"{j},{i},1.0\n" for i, j in ends.tolist()))
    np.savez(
        tmp_path / "a.npz",
        adj_data=matrix.data, adj_indices=matrix.indices, adj_indptr=matrix.indptr, adj_shape=matrix.shape,
    )  # fmt: skip
    clusters = []
    for name in ("g.txt", "g.npz", "g.csv", "a.npz"):
        run(tmp_path / name.replace(".", "-"), tmp_path / name, "--k=4", "--epochs=10")
        clusters.append(assignments(tmp_path / name.replace(".", "-"))["cluster"])
    for other in clusters[1:]:
        assert np.array_equal(other, clusters[0])


def test_given_features_and_weights(tmp_path: Path) -> None:
    graph, labels = stochastic_block_model(300, 3, mean_degree=8, mixing=0.5, seed=1)
    edges = graph.to_edge_index()[0]
    same = labels[edges[0]] == labels[edges[1]]
    rows = zip(*edges.tolist(), torch.where(same, 2.0, 0.125).tolist(), strict=True)
    (tmp_path / "g.txt").write_text("".join(f"{i} {j} {w}\n" for i, j, w in rows))
    features = torch.nn.functional.one_hot(labels) + torch.randn(
        300, 3, generator=torch.Generator().manual_seed(0)
    )
    np.savetxt(tmp_path / "x.txt", features.numpy())
    np.savetxt(tmp_path / "y.txt", labels.numpy(), fmt="%d")
    made = run(
        tmp_path / "out", tmp_path / "g.txt", "--features", tmp_path / "x.txt", "--labels", tmp_path / "y.txt",
        "--epochs=40",
    )  # fmt: skip
    assert made["graph"]["weighted"] is True
    assert made["graph"]["features"] == 3
    assert made["nmi"] > 0.9
    weighted = RaggedGraph.from_edge_index(edges, 300, edge_weight=torch.where(same, 2.0, 0.125))
    clusters = torch.from_numpy(assignments(tmp_path / "out")["cluster"])
    assert made["modularity"] == pytest.approx(metrics.modularity(weighted, clusters))


def test_a_resumed_run_equals_the_uninterrupted_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_edges(tmp_path / "g.txt")
    options = [tmp_path / "g.txt", "--k=4", "--epochs=6", "--batch-nodes=200", "--checkpoint-every=4"]
    run(tmp_path / "whole", *options)
    step = loop._step
    calls = []

    def fail(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 11:
            raise KeyboardInterrupt
        return step(*args)

    monkeypatch.setattr(loop, "_step", fail)
    run(tmp_path / "part", *options, expect=130)
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
    assert "belongs to another run: k is 4 in the checkpoint and 3 in this run" in capsys.readouterr().err
    assert run(tmp_path / "out", tmp_path / "g.txt", "--k=3", "--epochs=1", "--overwrite")["config"]["k"] == 3


def test_too_little_memory_is_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path / "out", "--synthetic=sbm", "--nodes=200000000", "--memory-limit=8", expect=2)
    message = capsys.readouterr().err
    assert "memory-limit is 8 GiB, but a clustering in batches of 1024 nodes takes" in message
    assert "GiB (" in message
    assert not (tmp_path / "out").exists()


def test_graphs_with_hubs_and_isolated_nodes(tmp_path: Path) -> None:
    edges = rmat(10, mean_degree=6, seed=1).to_edge_index()[0]
    (tmp_path / "g.txt").write_text("".join(f"{i}\t{j}\n" for i, j in edges.t().tolist()))
    made = run(tmp_path / "out", tmp_path / "g.txt", "--k=8", "--epochs=30", "--batch-nodes=300")
    assert made["nmi"] is None
    assert made["modularity"] > 0.1
    assert 0 < made["conductance_mean"] <= made["conductance_max"] <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "either an input or --synthetic must be given, and not both"),
        (["g.txt", "--synthetic=sbm"], "either an input or --synthetic must be given, and not both"),
        (["g.txt"], "k must be given, since the graph has no known labels"),
        (["g.txt", "--k=4"], "k must lie between 1 and the number of nodes, 3, got 4"),
        (["g.txt", "--k=-1"], "k must be at least 0, got -1"),
        (["g.txt", "--k=2", "--threads=0"], "threads must be at least 1, got 0"),
        (["g.txt", "--k=2", "--memory-limit=-1"], "memory-limit must be positive, got -1.0"),
        (["g.txt", "--k=2", "--labels=x.txt"], "x.txt must hold labels of shape [3], got [2]"),
        (["g.txt", "--features=x.txt", "--k=2"], "x.txt must hold features of shape [3, F], got [2, 1]"),
        (["g.txt", "--features=y.txt", "--k=2"], "y.txt cannot be read as features"),
        (["g.txt", "--features=z.txt", "--k=2"], "z.txt must hold finite numbers, got NaN or infinity"),
        (["g.txt", "--labels=w.txt"], "w.txt must hold integers from 0, or -1 for an unknown label"),
        (["loops.txt", "--k=1"], "loops.txt has no edge between two different nodes"),
        (["nowhere.txt", "--k=2"], "input must be a file or one of Cora, CiteSeer, PubMed, Computers, Photo"),
        (["--synthetic=sbm", "--nodes=0"], "num_nodes must lie between 1 and 2^31 - 1, got 0"),
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
    }.items():
        Path(name).write_text(text)
    run(tmp_path / "out", *options, expect=2)
    printed = capsys.readouterr().err
    assert message in printed.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_cora(tmp_path: Path) -> None:
    pytest.importorskip("torch_geometric", reason="torch_geometric (extra: train) is not installed")
    data_root("planetoid/Cora")
    made = run(tmp_path / "out", "Cora", "--hidden-channels=64", "--epochs=15")
    assert made["modularity"] > 0.65
    assert made["nmi"] > 0.35
