"""The inputs of the command `cluster`: forms of files, features, labels, names and units."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from hierpool import RaggedGraph, metrics
from hierpool.data import rmat, stochastic_block_model
from tests.support.clusterings import assignments, np, run, write_edges


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


def test_graphs_with_hubs_and_isolated_nodes(tmp_path: Path) -> None:
    edges = rmat(10, mean_degree=6, seed=1).to_edge_index()[0]
    (tmp_path / "g.txt").write_text("".join(f"{i}\t{j}\n" for i, j in edges.t().tolist()))
    made = run(tmp_path / "out", tmp_path / "g.txt", "--k=8", "--epochs=30", "--batch-nodes=300")
    assert made["nmi"] is None
    assert made["modularity"] > 0.1
    assert 0 < made["conductance_mean"] <= made["conductance_max"] <= 1


def test_names_have_a_table_beside_the_assignments(tmp_path: Path) -> None:
    labels = write_edges(tmp_path / "g.txt")
    names = [f'node "{i:03}", Bonn' for i in range(600)]
    lines = [line.split() for line in (tmp_path / "g.txt").read_text().splitlines()[1:]]
    with open(tmp_path / "n.csv", "w", newline="") as file:
        csv.writer(file).writerows([[names[int(i) - 10] for i in line] for line in lines])
    with open(tmp_path / "y.csv", "w", newline="") as file:
        csv.writer(file).writerows(
            [["name", "label"], *zip(reversed(names), reversed(labels.tolist()), strict=True)]
        )
    made = run(tmp_path / "out", tmp_path / "n.csv", "--labels", tmp_path / "y.csv", "--epochs=40")
    assert made["nmi"] > 0.9
    with open(tmp_path / "out" / "names.csv", newline="") as file:
        assert list(csv.DictReader(file)) == [{"node": str(i), "name": name} for i, name in enumerate(names)]
    assert assignments(tmp_path / "out")["node"].tolist() == list(range(600))
    run(tmp_path / "out", tmp_path / "g.txt", "--k=4", "--epochs=1", "--overwrite")
    assert not (tmp_path / "out" / "names.csv").exists()


@pytest.mark.parametrize(
    "label", [lambda i: i + 1, lambda i: 2000 + 5 * i, lambda i: 10**12 * i, lambda i: i or -1]
)
def test_labels_of_any_numbers(tmp_path: Path, label: Any) -> None:
    communities = write_edges(tmp_path / "g.txt")
    (tmp_path / "y.txt").write_text("".join(f"{label(i)}\n" for i in communities.tolist()))
    made = run(tmp_path / "out", tmp_path / "g.txt", "--labels", tmp_path / "y.txt", "--epochs=60")
    assert made["config"]["k"] == len({label(i) for i in range(4)} - {-1})
    assert made["nmi"] > (0.9 if made["config"]["k"] == 4 else 0.6)


def test_nodes_without_edges(tmp_path: Path) -> None:
    write_edges(tmp_path / "g.txt")
    edges = tmp_path / "g.txt", "--k=4", "--epochs=1", "--first-id=0"
    run(tmp_path / "number", *edges, "--num-nodes=620")
    np.save(tmp_path / "x.npy", np.eye(620)[:, :9])
    made = run(tmp_path / "rows", *edges, "--features", tmp_path / "x.npy")
    assert made["graph"]["notes"][-1] == "20 nodes have no edge"
    for folder in ("number", "rows"):
        assert assignments(tmp_path / folder)["node"].tolist() == list(range(620))


@pytest.mark.parametrize("unit", ["1e-30", "1e30"])
@pytest.mark.parametrize("loss", ["dmon", "mincut", "diffpool"])
def test_units_of_weights_and_features_are_of_no_account(tmp_path: Path, unit: str, loss: str) -> None:
    graph, labels = stochastic_block_model(300, 3, mean_degree=8, mixing=0.2, seed=1)
    edges = graph.to_edge_index()[0]
    edges = edges[:, edges[0] < edges[1]].t().tolist()
    found = []
    for name, scale in (("one", 1.0), ("other", float(unit))):
        rows = (f"{i} {j} {(1 + (i + j) % 5) * scale!r}\n" for i, j in edges)
        (tmp_path / f"{name}.txt").write_text("".join(rows))
        features = torch.nn.functional.one_hot(labels) * 2.0 + torch.arange(300)[:, None] % 7
        np.savetxt(tmp_path / "x.txt", features.double().numpy() * scale)
        options = (f"--loss={loss}", "--features", tmp_path / "x.txt", "--k=3", "--epochs=20")
        made = run(tmp_path / name, tmp_path / f"{name}.txt", *options)
        found.append((assignments(tmp_path / name), made))
    (one, made), (other, scaled) = found
    assert (one["cluster"] == other["cluster"]).mean() > 0.99
    assert scaled["modularity"] == pytest.approx(made["modularity"], abs=0.02)
    assert made["modularity"] > 0.3
