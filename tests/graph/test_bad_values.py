"""Bad arguments raise a ValueError or TypeError that names the argument, what was expected and what was given."""

from __future__ import annotations

import re
import warnings
from typing import Any

import pytest
import torch

from hierpool import RaggedGraph

EDGES = torch.tensor([[0, 1, 2], [1, 2, 0]])
ONES = torch.ones(3)
SQUARE = torch.eye(3)
ROWS, COLS = torch.tensor([0, 2, 3]), torch.tensor([0, 1, 0])
BATCH = torch.tensor([0, 0, 1])
NOT_SORTED = "edge_index was given with is_coalesced=True, but is not sorted"


def bad(kind: type[Exception], message: str, *args: Any, of: str = "from_edge_index", **options: Any) -> Any:
    """A call of the class method ``of`` and the error that it raises."""
    return pytest.param((kind, message, of, args, options), id=message[:50])


def ptr(*first: int) -> torch.Tensor:
    return torch.tensor(first)


FLOAT8 = [ONES.to(torch.float8_e4m3fn), ONES.to(torch.float8_e5m2)]
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # prototypes and deprecations of PyTorch
    QUANTIZED = torch.quantize_per_tensor(ONES, 0.1, 0, torch.quint8)
    NESTED = torch.nested.nested_tensor([ONES, ONES[:2]])
ODD = {str(w.dtype).removeprefix("torch."): w for w in (*FLOAT8, ONES.to(torch.complex64), QUANTIZED)}

METADATA = [
    bad(TypeError, "edge_index must be a torch.Tensor, got list", [[0], [1]]),
    bad(TypeError, "edge_index must have dtype int64 or int32, got float32", EDGES.float()),
    bad(
        TypeError,
        "edge_index must be a dense (strided) tensor, got layout torch.sparse_coo",
        EDGES.to_sparse(),
    ),
    bad(ValueError, "edge_index must have shape [2, E], got (3,)", EDGES[0]),
    bad(ValueError, "edge_index must have shape [2, E], got (3, 2)", EDGES.t()),
    bad(TypeError, "num_nodes must be an int, got float", EDGES, 3.0),
    bad(TypeError, "num_nodes must be an int, got bool", EDGES, True),
    bad(ValueError, "num_nodes must not be negative, got -1", EDGES, -1),
    bad(TypeError, "edge_weight must be a torch.Tensor, got list", EDGES, edge_weight=[1.0] * 3),
    bad(ValueError, "edge_weight must have shape [E] = [3], got (2,)", EDGES, edge_weight=ONES[:2]),
    bad(
        ValueError,
        "edge_weight must have shape [E] = [3], got (3, 1); several numbers for each edge are features, edge_attr",
        EDGES,
        edge_weight=ONES[:, None],
    ),
    *(
        bad(
            TypeError,
            f"edge_weight must have a real dtype, float32, float64, bfloat16, float16, bool or integers, got {name}",
            EDGES,
            edge_weight=weight,
        )
        for name, weight in ODD.items()
    ),
    *(bad(TypeError, "adj must have a real dtype", w.expand(3, 3), of="from_dense") for w in FLOAT8),
    *(bad(TypeError, "mask must have a real dtype", SQUARE, w, of="from_dense") for w in ODD.values()),
    *(
        bad(TypeError, "value must have a real dtype", ptr(0, 1, 2, 3), COLS, w, of="from_csr")
        for w in ODD.values()
    ),
    bad(TypeError, "matrix must have a real dtype", SQUARE.to(torch.complex64).to_sparse(), of="from_sparse"),
    bad(TypeError, "edge_index must be a dense (strided) tensor, got a nested tensor", NESTED.long()),
    bad(TypeError, "edge_weight must be a dense (strided) tensor, got a nested", EDGES, edge_weight=NESTED),
    bad(TypeError, "batch must be a dense (strided) tensor, got a nested", EDGES, batch=NESTED),
    bad(TypeError, "ptr must be a dense (strided) tensor, got a nested", EDGES, ptr=NESTED),
    bad(TypeError, "adj must be a dense (strided) tensor, got a nested tensor", NESTED, of="from_dense"),
    bad(TypeError, "mask must be a dense (strided) tensor, got a nested", SQUARE, NESTED, of="from_dense"),
    bad(TypeError, "value must be a dense (strided) tensor, got a nested", ROWS, COLS, NESTED, of="from_csr"),
    bad(ValueError, "num_nodes must be at most 2^32, got 1000000000000", EDGES, 10**12),
    bad(ValueError, "edge_index has node 1000000000002, but only 6 elements", EDGES + 10**12),
    bad(ValueError, "batch has graph 1000000000000, but only 3 elements", EDGES, batch=ptr(10**12, 0, 0)),
    bad(
        ValueError,
        "edge_attr must be 'weight', 'features' or None, got 'weights'",
        EDGES,
        edge_attr="weights",
        of="from_pyg",
    ),
    bad(ValueError, "edge_attr must be None with an EdgeIndex", EDGES, edge_attr="weight", of="from_pyg"),
    bad(
        ValueError,
        "edge_weight has integers that float32 cannot represent exactly; pass it as float64",
        EDGES,
        edge_weight=torch.tensor([1, 2, 2**24 + 1]),
    ),
    bad(
        ValueError,
        "edge_weight must be on the device of edge_index, cpu, got meta",
        EDGES,
        edge_weight=ONES.to("meta"),
    ),
    bad(ValueError, "batch must have shape [num_nodes], got (1, 3)", EDGES, batch=EDGES[:1]),
    bad(TypeError, "batch must have dtype int64 or int32, got float32", EDGES, batch=ONES),
    bad(ValueError, "batch must have shape [num_nodes] = [4], got (3,)", EDGES, 4, batch=EDGES[0]),
    bad(ValueError, "batch and ptr cannot both be given", EDGES, batch=EDGES[0], ptr=EDGES[0]),
    bad(ValueError, "ptr must have shape [B + 1], got (0,)", EDGES, ptr=EDGES[0, :0]),
    bad(
        ValueError, "ptr must have shape [num_graphs + 1] = [3], got (2,)", EDGES, ptr=ptr(0, 3), num_graphs=2
    ),
    bad(ValueError, "num_graphs must be 1 without batch and ptr, got 2", EDGES, num_graphs=2),
    bad(ValueError, "num_graphs must not be negative, got -2", EDGES, num_graphs=-2),
    bad(TypeError, "symmetric must be True, False or None, got 1", EDGES, symmetric=1),
    bad(TypeError, "is_coalesced must be True or False, got None", EDGES, is_coalesced=None),
    bad(TypeError, "validate must be True or False, got 0", EDGES, validate=0),
    bad(
        TypeError,
        "matrix must be sparse (COO, CSR or CSC), got layout torch.strided",
        SQUARE,
        of="from_sparse",
    ),
    bad(TypeError, "matrix must be a sparse matrix of torch or SciPy, got list", [[1]], of="from_sparse"),
    *(
        bad(ValueError, "matrix must have shape [N, N]", matrix, of="from_sparse")
        for matrix in (
            torch.ones(2, 3).to_sparse(),
            torch.ones(2, 2, 2).to_sparse(),
            torch.ones(2, 2, 2).to_sparse(2),
        )
    ),
    bad(
        ValueError,
        "adj must have shape [B, N, N], [N, N] or [B, R, N, N], got (2, 3)",
        torch.ones(2, 3),
        of="from_dense",
    ),
    bad(TypeError, "adj must be a dense (strided) tensor", SQUARE.to_sparse(), of="from_dense"),
    bad(
        ValueError,
        "mask must have shape [B, N] = [1, 3], got (1, 2)",
        SQUARE,
        torch.ones(1, 2),
        of="from_dense",
    ),
    bad(ValueError, "mask and num_nodes cannot both", SQUARE, ONES, num_nodes=ptr(1), of="from_dense"),
    bad(ValueError, "num_nodes must have shape [B] = [1]", SQUARE, num_nodes=ptr(1, 2), of="from_dense"),
    bad(ValueError, "num_nodes must lie between 0 and N = 3", SQUARE, num_nodes=ptr(4), of="from_dense"),
    bad(
        TypeError, "data must be a PyG Data, Batch or EdgeIndex with edge_index, got dict", {}, of="from_pyg"
    ),
]

VALUES = [
    bad(ValueError, "edge_index[1][1] is 2, but there are 2 nodes, numbered from 0", EDGES, 2),
    bad(
        ValueError,
        "edge_index[0][2] is 3, but there are 3 nodes, numbered from 0",
        EDGES + torch.tensor([[0, 0, 1]]),
        3,
    ),
    bad(ValueError, "edge_index[1][1] is -1, but there are 3 nodes", torch.tensor([[0, 1], [1, -1]]), 3),
    bad(ValueError, "edge_index[0][0] is 0, but there are 0 nodes", EDGES, 0),
    bad(ValueError, "an edge joins node 1 of graph 0 to node 2 of graph 1", EDGES[:, 1:2], batch=BATCH),
    bad(
        ValueError,
        "an edge joins node 2 of graph 1 to node 0 of graph 0",
        EDGES[:, [0, 2]],
        ptr=ptr(0, 2, 3),
    ),
    bad(
        ValueError,
        "an edge joins node 0 of graph 1 to node 1 of graph 0",
        torch.tensor([[0, 2], [1, 2]]),
        batch=ptr(1, 0, 1),
    ),
    bad(ValueError, "batch[1] is -1, but there are 2 graphs", EDGES, batch=ptr(0, -1, 1)),
    bad(ValueError, "batch[2] is 1, but there are 1 graphs", EDGES, batch=BATCH, num_graphs=1),
    *(
        bad(
            ValueError,
            f"ptr must ascend from 0 to the number of nodes, {nodes}, got {list(first)}",
            EDGES,
            nodes,
            ptr=ptr(*first),
        )
        for nodes, first in ((3, (0, 2, 1, 3)), (3, (1, 3)), (4, (0, 3)))
    ),
    *(bad(ValueError, NOT_SORTED, e, 3, is_coalesced=True) for e in (EDGES.flip(1), EDGES[:, [0, 0]])),
]

CSR = [
    bad(ValueError, "rowptr must have shape [N + 1], got (0,)", ROWS[:0], COLS, of="from_csr"),
    bad(ValueError, "rowptr must have shape [N + 1], got (1, 3)", ROWS[None], COLS, of="from_csr"),
    bad(TypeError, "rowptr must have dtype int64 or int32, got int16", ROWS.short(), COLS, of="from_csr"),
    bad(TypeError, "rowptr and col must have the same dtype", ROWS.int(), COLS, of="from_csr"),
    bad(ValueError, "value must have shape [E] = [3], got (2,)", ROWS, COLS, ONES[:2], of="from_csr"),
    bad(
        ValueError,
        "rowptr must ascend from 0 to the number of entries, 2, got [0, 2, 3]",
        ROWS,
        COLS[:2],
        of="from_csr",
    ),
    bad(
        ValueError, "rowptr must ascend from 0 to the number of entries, 3", ptr(0, 4, 3), COLS, of="from_csr"
    ),
    bad(ValueError, "col[1] is 2, but there are 2 nodes", ROWS, torch.tensor([0, 2, 0]), of="from_csr"),
    bad(ValueError, "col[0] is -1, but there are 2 nodes", ROWS, torch.tensor([-1, 1, 0]), of="from_csr"),
    bad(
        ValueError,
        "an edge joins node 0 of graph 0 to node 1 of graph 1",
        ROWS,
        COLS,
        ptr=ptr(0, 1, 2),
        of="from_csr",
    ),
    bad(
        ValueError,
        "ptr must ascend from 0 to the number of nodes, 2",
        ROWS,
        COLS,
        ptr=ptr(0, 3),
        of="from_csr",
    ),
    bad(
        ValueError,
        "col was given with is_coalesced=True, but does not ascend strictly in every row",
        ROWS,
        torch.tensor([1, 0, 0]),
        is_coalesced=True,
        of="from_csr",
    ),
    bad(
        TypeError,
        "symmetric must be True, False or None, got 'yes'",
        ROWS,
        COLS,
        symmetric="yes",
        of="from_csr",
    ),
]


def assert_raises(call: tuple[Any, ...]) -> None:
    kind, message, of, args, options = call
    with pytest.raises(kind, match=re.escape(message)):
        getattr(RaggedGraph, of)(*args, **options)


@pytest.mark.parametrize("call", METADATA)
def test_metadata(call: tuple[Any, ...]) -> None:
    assert_raises(call)


@pytest.mark.parametrize("call", [*VALUES, *CSR])
def test_values(call: tuple[Any, ...], builder: str) -> None:
    assert_raises(call)
    kind, message, of, args, options = call
    if of == "from_edge_index":
        assert_raises((kind, message, of, (args[0].int(), *args[1:]), options))


def test_the_first_bad_edge_is_named(builder: str) -> None:
    """Backends check edges in chunks."""
    edge_index = torch.randint(0, 50, (2, 300_000), generator=torch.Generator().manual_seed(1))
    edge_index[1, 200_000] = 50
    edge_index[0, 250_000] = 51
    with pytest.raises(ValueError, match="is 5"):
        RaggedGraph.from_edge_index(edge_index, 50)
    edge_index[0, 250_000] = 0
    with pytest.raises(ValueError, match=r"edge_index\[1\]\[200000\] is 50, but there are 50 nodes"):
        RaggedGraph.from_edge_index(edge_index, 50)


def test_scipy_must_be_square() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(ValueError, match=r"matrix must have shape \[N, N\], got \(2, 3\)"):
        RaggedGraph.from_sparse(sparse.coo_matrix((2, 3)))


@pytest.mark.parametrize(
    ("name", "change", "kind", "message"),
    [
        ("data", lambda a: a.astype("longdouble"), TypeError, "real dtype of at most 64 bits, got float128"),
        ("data", lambda a: a.astype(complex), TypeError, "real dtype of at most 64 bits, got complex128"),
        ("data", lambda a: a.astype(object), TypeError, "real dtype of at most 64 bits, got object"),
        ("data", lambda a: a[:2], ValueError, "a value for each of its 3 entries, got 4, 3 and 2"),
        ("indices", lambda a: a[:2], ValueError, "a value for each of its 3 entries, got 4, 2 and 3"),
        ("indptr", lambda a: a[:2], ValueError, "matrix must have 4 row pointers"),
        ("indices", lambda a: a + 0.5, TypeError, "matrix must have integer indices, got int32 and float64"),
    ],
)
def test_arrays_of_scipy(name: str, change: Any, kind: type[Exception], message: str) -> None:
    matrix = pytest.importorskip("scipy.sparse").eye_array(3, format="csr")
    setattr(matrix, name, change(getattr(matrix, name)))
    with pytest.raises(kind, match=message):
        RaggedGraph.from_sparse(matrix)


def test_edge_index_of_pyg_must_be_square() -> None:
    geometric = pytest.importorskip("torch_geometric")
    with pytest.raises(ValueError, match="edge_index must be of a square matrix"):
        RaggedGraph.from_pyg(geometric.EdgeIndex(EDGES, sparse_size=(3, 4)))
