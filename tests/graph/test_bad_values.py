"""Bad arguments: each a ValueError or TypeError that names the argument, what was given and what was expected."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hierpool import RaggedGraph

EDGES = torch.tensor([[0, 1, 2], [1, 2, 0]])
ONES = torch.ones(3)


def assert_raises(
    kind: type[Exception], message: str, *args: Any, method: str = "from_edge_index", **kw: Any
) -> None:
    with pytest.raises(kind) as caught:
        getattr(RaggedGraph, method)(*args, **kw)
    assert message in str(caught.value)


METADATA: list[tuple[type[Exception], str, tuple[Any, ...], dict[str, Any]]] = [
    (TypeError, "edge_index must be a torch.Tensor, got list", ([[0], [1]],), {}),
    (TypeError, "edge_index must have dtype int64 or int32, got float32", (EDGES.float(),), {}),
    (
        TypeError,
        "edge_index must be a dense (strided) tensor, got layout torch.sparse_coo",
        (EDGES.to_sparse(),),
        {},
    ),
    (ValueError, "edge_index must have shape [2, E], got (3,)", (EDGES[0],), {}),
    (ValueError, "edge_index must have shape [2, E], got (3, 2)", (EDGES.t(),), {}),
    (TypeError, "num_nodes must be an int, got float", (EDGES, 3.0), {}),
    (TypeError, "num_nodes must be an int, got bool", (EDGES, True), {}),
    (ValueError, "num_nodes must not be negative, got -1", (EDGES, -1), {}),
    (TypeError, "edge_weight must be a torch.Tensor, got list", (EDGES,), {"edge_weight": [1.0] * 3}),
    (ValueError, "edge_weight must have shape [E] = [3], got (2,)", (EDGES,), {"edge_weight": ONES[:2]}),
    (
        ValueError,
        "edge_weight must have shape [E] = [3], got (3, 1); features of edges are no weights",
        (EDGES,),
        {"edge_weight": ONES[:, None]},
    ),
    (TypeError, "edge_weight must have a real dtype", (EDGES,), {"edge_weight": ONES.to(torch.complex64)}),
    (
        ValueError,
        "edge_weight has integers that float32 does not hold; pass it in float64",
        (EDGES,),
        {"edge_weight": torch.tensor([1, 2, 2**24 + 1])},
    ),
    (
        ValueError,
        "edge_weight must be on the device of edge_index, cpu, got meta",
        (EDGES,),
        {"edge_weight": ONES.to("meta")},
    ),
    (ValueError, "batch must have shape [num_nodes], got (1, 3)", (EDGES,), {"batch": EDGES[:1]}),
    (TypeError, "batch must have dtype int64 or int32, got float32", (EDGES,), {"batch": ONES}),
    (ValueError, "batch must have shape [num_nodes] = [4], got (3,)", (EDGES, 4), {"batch": EDGES[0]}),
    (ValueError, "batch and ptr say the same thing twice", (EDGES,), {"batch": EDGES[0], "ptr": EDGES[0]}),
    (ValueError, "ptr must have shape [B + 1], got (0,)", (EDGES,), {"ptr": EDGES[0, :0]}),
    (
        ValueError,
        "ptr must have shape [num_graphs + 1] = [3], got (2,)",
        (EDGES,),
        {"ptr": torch.tensor([0, 3]), "num_graphs": 2},
    ),
    (ValueError, "num_graphs is 2, so batch or ptr must say", (EDGES,), {"num_graphs": 2}),
    (ValueError, "num_graphs must not be negative, got -2", (EDGES,), {"num_graphs": -2}),
    (TypeError, "symmetric must be True, False or None, got 1", (EDGES,), {"symmetric": 1}),
    (TypeError, "is_coalesced must be True or False, got None", (EDGES,), {"is_coalesced": None}),
    (TypeError, "validate must be True or False, got 0", (EDGES,), {"validate": 0}),
]


@pytest.mark.parametrize(
    ("kind", "message", "args", "options"), METADATA, ids=[row[1][:50] for row in METADATA]
)
def test_metadata_of_edges(
    kind: type[Exception], message: str, args: tuple[Any, ...], options: dict[str, Any]
) -> None:
    assert_raises(kind, message, *args, **options)


BATCH = torch.tensor([0, 0, 1])
VALUES: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("edge_index[1][1] is 2, but there are 2 nodes, numbered from 0", (EDGES, 2), {}),
    (
        "edge_index[0][2] is 3, but there are 3 nodes, numbered from 0",
        (EDGES + torch.tensor([[0, 0, 1]]), 3),
        {},
    ),
    ("edge_index[1][1] is -1, but there are 3 nodes", (torch.tensor([[0, 1], [1, -1]]), 3), {}),
    ("edge_index[0][0] is 0, but there are 0 nodes", (EDGES, 0), {}),
    ("an edge joins node 1 of graph 0 to node 2 of graph 1", (EDGES[:, 1:2],), {"batch": BATCH}),
    (
        "an edge joins node 2 of graph 1 to node 0 of graph 0",
        (EDGES[:, [0, 2]],),
        {"ptr": torch.tensor([0, 2, 3])},
    ),
    (
        "an edge joins node 0 of graph 1 to node 1 of graph 0",
        (torch.tensor([[0, 2], [1, 2]]),),
        {"batch": torch.tensor([1, 0, 1])},
    ),
    ("batch[1] is -1, but there are 2 graphs", (EDGES,), {"batch": torch.tensor([0, -1, 1])}),
    ("batch[2] is 1, but there are 1 graphs", (EDGES,), {"batch": BATCH, "num_graphs": 1}),
    (
        "ptr must ascend from 0 to the number of nodes, 3, got [0, 2, 1, 3]",
        (EDGES, 3),
        {"ptr": torch.tensor([0, 2, 1, 3])},
    ),
    (
        "ptr must ascend from 0 to the number of nodes, 3, got [1, 3]",
        (EDGES, 3),
        {"ptr": torch.tensor([1, 3])},
    ),
    (
        "ptr must ascend from 0 to the number of nodes, 4, got [0, 3]",
        (EDGES, 4),
        {"ptr": torch.tensor([0, 3])},
    ),
    (
        "edge_index was given with is_coalesced=True, but is not sorted",
        (EDGES.flip(1), 3),
        {"is_coalesced": True},
    ),
    (
        "edge_index was given with is_coalesced=True, but is not sorted",
        (EDGES[:, [0, 0]], 3),
        {"is_coalesced": True},
    ),
]


@pytest.mark.parametrize(("message", "args", "options"), VALUES, ids=[row[0][:50] for row in VALUES])
def test_values_of_edges(message: str, args: tuple[Any, ...], options: dict[str, Any], builder: str) -> None:
    assert_raises(ValueError, message, *args, **options)
    narrow = args[0].int()
    assert_raises(ValueError, message, narrow, *args[1:], **options)


def test_the_first_bad_edge_is_named(builder: str) -> None:
    """Also among several chunks of edges."""
    edge_index = torch.randint(0, 50, (2, 300_000), generator=torch.Generator().manual_seed(1))
    edge_index[1, 200_000] = 50
    edge_index[0, 250_000] = 51
    assert_raises(ValueError, "is 5", edge_index, 50)
    edge_index[0, 250_000] = 0
    assert_raises(ValueError, "edge_index[1][200000] is 50, but there are 50 nodes", edge_index, 50)


ROWS = torch.tensor([0, 2, 3])
COLS = torch.tensor([0, 1, 0])
CSR: list[tuple[type[Exception], str, tuple[Any, ...], dict[str, Any]]] = [
    (ValueError, "rowptr must have shape [N + 1], got (0,)", (ROWS[:0], COLS), {}),
    (ValueError, "rowptr must have shape [N + 1], got (1, 3)", (ROWS[None], COLS), {}),
    (TypeError, "rowptr must have dtype int64 or int32, got int16", (ROWS.short(), COLS), {}),
    (TypeError, "rowptr and col must have the same dtype", (ROWS.int(), COLS), {}),
    (ValueError, "value must have shape [E] = [3], got (2,)", (ROWS, COLS, ONES[:2]), {}),
    (
        ValueError,
        "rowptr must ascend from 0 to the number of entries, 2, got [0, 2, 3]",
        (ROWS, COLS[:2]),
        {},
    ),
    (
        ValueError,
        "rowptr must ascend from 0 to the number of entries, 3",
        (torch.tensor([0, 4, 3]), COLS),
        {},
    ),
    (ValueError, "col[1] is 2, but there are 2 nodes", (ROWS, torch.tensor([0, 2, 0])), {}),
    (ValueError, "col[0] is -1, but there are 2 nodes", (ROWS, torch.tensor([-1, 1, 0])), {}),
    (
        ValueError,
        "an edge joins node 0 of graph 0 to node 1 of graph 1",
        (ROWS, COLS, None, torch.arange(3)),
        {},
    ),
    (
        ValueError,
        "ptr must ascend from 0 to the number of nodes, 2",
        (ROWS, COLS, None, torch.tensor([0, 3])),
        {},
    ),
    (
        ValueError,
        "col was given with is_coalesced=True, but does not ascend within every row",
        (ROWS, torch.tensor([1, 0, 0])),
        {"is_coalesced": True},
    ),
    (TypeError, "symmetric must be True, False or None, got 'yes'", (ROWS, COLS), {"symmetric": "yes"}),
]


@pytest.mark.parametrize(("kind", "message", "args", "options"), CSR, ids=[row[1][:50] for row in CSR])
def test_compressed_rows(
    kind: type[Exception], message: str, args: tuple[Any, ...], options: dict[str, Any], builder: str
) -> None:
    assert_raises(kind, message, *args, method="from_csr", **options)


SQUARE = torch.eye(3)
OTHER: list[tuple[str, type[Exception], str, tuple[Any, ...], dict[str, Any]]] = [
    (
        "from_sparse",
        TypeError,
        "matrix must be sparse (COO, CSR or CSC), got layout torch.strided",
        (SQUARE,),
        {},
    ),
    ("from_sparse", TypeError, "matrix must be a sparse matrix of torch or SciPy, got list", ([[1]],), {}),
    ("from_sparse", ValueError, "matrix must have shape [N, N]", (torch.ones(2, 3).to_sparse(),), {}),
    ("from_sparse", ValueError, "matrix must have shape [N, N]", (torch.ones(2, 2, 2).to_sparse(),), {}),
    ("from_sparse", ValueError, "matrix must have shape [N, N]", (torch.ones(2, 2, 2).to_sparse(2),), {}),
    (
        "from_dense",
        ValueError,
        "adj must have shape [B, N, N] or [N, N], got (2, 3)",
        (torch.ones(2, 3),),
        {},
    ),
    ("from_dense", TypeError, "adj must be a dense (strided) tensor", (SQUARE.to_sparse(),), {}),
    (
        "from_dense",
        ValueError,
        "mask must have shape [B, N] = [1, 3], got (1, 2)",
        (SQUARE, torch.ones(1, 2)),
        {},
    ),
    ("from_dense", ValueError, "mask and num_nodes say", (SQUARE, ONES), {"num_nodes": torch.tensor([1])}),
    (
        "from_dense",
        ValueError,
        "num_nodes must have shape [B] = [1]",
        (SQUARE,),
        {"num_nodes": torch.tensor([1, 2])},
    ),
    (
        "from_dense",
        ValueError,
        "num_nodes must lie between 0 and N = 3",
        (SQUARE,),
        {"num_nodes": torch.tensor([4])},
    ),
    (
        "from_pyg",
        TypeError,
        "data must be a PyG Data, Batch or EdgeIndex with edge_index, got dict",
        ({},),
        {},
    ),
]


@pytest.mark.parametrize(
    ("method", "kind", "message", "args", "options"), OTHER, ids=[row[2][:50] for row in OTHER]
)
def test_other_sources(
    method: str, kind: type[Exception], message: str, args: tuple[Any, ...], options: dict[str, Any]
) -> None:
    assert_raises(kind, message, *args, method=method, **options)


def test_scipy_must_be_square() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    assert_raises(
        ValueError,
        "matrix must have shape [N, N], got (2, 3)",
        sparse.coo_matrix((2, 3)),
        method="from_sparse",
    )


def test_edge_index_of_pyg_must_be_square() -> None:
    geometric = pytest.importorskip("torch_geometric")
    edge_index = geometric.EdgeIndex(EDGES, sparse_size=(3, 4))
    assert_raises(ValueError, "edge_index must be of a square matrix", edge_index, method="from_pyg")
