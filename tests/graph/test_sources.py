"""Every source of a graph, against the dense matrix."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool import RaggedGraph
from tests.support.edges import EdgeCase, over

SEED = 22
f64 = torch.float64
SAMPLES = (
    "base",
    "weighted",
    "symmetric-weighted",
    "empty-graphs",
    "no-edges",
    "no-graphs",
    "isolated-tails",
)


def single(graph: RaggedGraph) -> Tensor:
    """The matrix of a batch that is sorted by graph, float64 ``[N, N]``."""
    out = torch.zeros(graph.num_nodes, graph.num_nodes, dtype=f64)
    value = torch.ones(graph.num_edges) if graph.value is None else graph.value.detach()
    return out.index_put_((graph.row, graph.col), value.double())


def random_matrix(n: int, seed: int = SEED) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(n, n, generator=draw, dtype=f64) * (torch.rand(n, n, generator=draw) < 0.4)


@over(SEED, *SAMPLES)
def test_ptr_says_what_batch_says(case: EdgeCase, builder: str) -> None:
    edges = case.make(SEED)
    expected = edges.graph()
    graph = RaggedGraph.from_edge_index(edges.edge_index, edge_weight=edges.edge_weight, ptr=expected.ptr)
    assert torch.equal(graph.ptr, expected.ptr)
    assert torch.equal(single(graph), single(expected))


def test_nodes_are_counted_from_the_edges(builder: str) -> None:
    edge_index = torch.tensor([[0, 3], [2, 1]])
    assert RaggedGraph.from_edge_index(edge_index).num_nodes == 4
    assert RaggedGraph.from_edge_index(edge_index[:, :0]).num_nodes == 0
    assert RaggedGraph.from_edge_index(edge_index, 6).num_nodes == 6


def test_trailing_empty_graphs_need_their_number(builder: str) -> None:
    edge_index, batch = torch.tensor([[0], [1]]), torch.tensor([0, 0, 1])
    assert RaggedGraph.from_edge_index(edge_index, batch=batch).num_graphs == 2
    graph = RaggedGraph.from_edge_index(edge_index, batch=batch, num_graphs=4)
    assert graph.ptr.tolist() == [0, 2, 3, 3, 3]


def test_edges_of_any_layout(builder: str) -> None:
    edges = torch.tensor([[0, 1], [2, 0], [1, 1]])
    expected = single(RaggedGraph.from_edge_index(edges.t().contiguous(), 3))
    assert torch.equal(single(RaggedGraph.from_edge_index(edges.t(), 3)), expected)
    strided = torch.stack([edges, edges], 1).flatten(0, 1)[::2]
    weight = torch.ones(6)[::2]
    assert torch.equal(single(RaggedGraph.from_edge_index(strided.t(), 3, edge_weight=weight)), expected)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.uint8], ids=str)
def test_whole_weights_become_float32(dtype: torch.dtype, builder: str) -> None:
    weight = torch.tensor([1, 0, 1], dtype=dtype)
    graph = RaggedGraph.from_edge_index(torch.tensor([[0, 1, 2], [1, 2, 0]]), edge_weight=weight)
    assert graph.value is not None
    assert graph.value.dtype == torch.float32
    assert graph.value.tolist() == [1.0, 0.0, 1.0]


def test_learned_weights_of_coalesced_edges_are_not_copied(builder: str) -> None:
    edges = EdgeCase("sorted", order="sorted", repeated=False, weights="uniform").make(SEED)
    weight = edges.edge_weight.clone().requires_grad_()
    graph = RaggedGraph.from_edge_index(
        edges.edge_index, edge_weight=weight, batch=edges.batch, is_coalesced=True
    )
    torch.testing.assert_close(single(graph), edges.matrix(), rtol=0, atol=0)
    assert graph.value is weight


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_compressed_rows(dtype: torch.dtype, builder: str) -> None:
    exact = random_matrix(9)
    matrix = exact.to_sparse_csr()
    rowptr, col = matrix.crow_indices().to(dtype), matrix.col_indices().to(dtype)
    value = matrix.values().requires_grad_()
    graph = RaggedGraph.from_csr(rowptr, col, value)
    assert graph.rowptr.dtype == graph.col.dtype == torch.int32
    assert torch.equal(graph.rowptr, rowptr.int())
    assert torch.equal(graph.col, col.int())
    assert graph.value is value
    assert torch.equal(single(graph), exact)
    assert not graph.is_symmetric
    ones = RaggedGraph.from_csr(rowptr, col)
    assert torch.equal(single(ones), (exact != 0).double())


def test_compressed_rows_with_duplicates_in_any_order(builder: str) -> None:
    rowptr, col = torch.tensor([0, 3, 3, 5]), torch.tensor([2, 0, 2, 1, 0])
    value = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], requires_grad=True)
    graph = RaggedGraph.from_csr(rowptr, col, value)
    exact = torch.tensor([[2.0, 0, 4], [0, 0, 0], [5, 4, 0]], dtype=f64)
    assert torch.equal(single(graph), exact)
    assert graph.value is not None
    (grad,) = torch.autograd.grad(graph.value.square().sum(), value)
    assert grad.tolist() == [8.0, 4.0, 8.0, 8.0, 10.0]


def test_compressed_rows_of_a_batch(builder: str) -> None:
    exact = torch.block_diag(random_matrix(4), random_matrix(3, 1))
    matrix = exact.to_sparse_csr()
    ptr = torch.tensor([0, 4, 4, 7], dtype=torch.int32)
    graph = RaggedGraph.from_csr(matrix.crow_indices(), matrix.col_indices(), matrix.values(), ptr)
    assert graph.ptr.dtype == torch.int64
    assert graph.num_graphs == 3
    assert torch.equal(single(graph), exact)


@pytest.mark.parametrize("layout", ["coo", "uncoalesced", "csr", "csc"])
def test_torch_sparse(layout: str, builder: str) -> None:
    exact = random_matrix(8).requires_grad_()
    matrix = {
        "coo": exact.to_sparse_coo,
        "uncoalesced": lambda: exact.to_sparse_coo() * 0.5 + exact.to_sparse_coo() * 0.5,
        "csr": exact.to_sparse_csr,
        "csc": exact.to_sparse_csc,
    }[layout]()
    graph = RaggedGraph.from_sparse(matrix)
    assert torch.equal(single(graph), exact.detach())
    assert graph.value is not None
    (grad,) = torch.autograd.grad(graph.value.square().sum(), exact)
    assert torch.equal(grad, 2 * exact.detach())
    assert graph.num_graphs == 1


def test_symmetric_torch_sparse_of_a_batch(builder: str) -> None:
    block = random_matrix(4)
    exact = torch.block_diag(block + block.T, torch.zeros(3, 3, dtype=f64))
    ptr = torch.tensor([0, 4, 7])
    for matrix in (exact.to_sparse_coo(), exact.to_sparse_csr()):
        graph = RaggedGraph.from_sparse(matrix, ptr=ptr)
        assert graph.is_symmetric
        assert torch.equal(graph.ptr, ptr)
        assert torch.equal(single(graph), exact)


@pytest.mark.parametrize("layout", ["coo", "csr", "csc", "lil"])
@pytest.mark.parametrize("array", [False, True], ids=["matrix", "array"])
def test_scipy(layout: str, array: bool, builder: str) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    exact = random_matrix(8)
    matrix = (sparse.coo_array if array else sparse.coo_matrix)(exact.numpy()).asformat(layout)
    graph = RaggedGraph.from_sparse(matrix)
    assert torch.equal(single(graph), exact)
    assert graph.dtype == f64
    whole = (matrix > 0.5).astype("int64")
    counted = RaggedGraph.from_sparse(whole)
    assert counted.dtype == torch.float32
    assert torch.equal(single(counted), (exact > 0.5).double())


def read_only(array: Any) -> Any:
    array = array.copy()
    array.flags.writeable = False
    return array


@pytest.mark.filterwarnings("error")  # torch warns of memory that must not be written
@pytest.mark.parametrize("layout", ["csr", "csc", "coo"])
@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.astype(a.dtype.newbyteorder(">")),
        lambda a: a[::-1].copy()[::-1],
        lambda a: a.repeat(2)[::2],
        read_only,
    ],
    ids=["big-endian", "reversed", "strided", "read-only"],
)
def test_scipy_arrays_of_any_memory(layout: str, change: Any) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    exact = random_matrix(8)
    matrix = sparse.coo_array(exact.numpy()).asformat(layout)
    for name in ("data", *(("row", "col") if layout == "coo" else ("indices", "indptr"))):
        setattr(matrix, name, change(getattr(matrix, name)))
    assert torch.equal(single(RaggedGraph.from_sparse(matrix)), exact)


def test_scipy_arrays_longer_than_the_matrix() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    exact = random_matrix(8)
    matrix = sparse.csr_array(exact.numpy())
    matrix.data, matrix.indices = matrix.data.repeat(2), matrix.indices.repeat(2)
    exact = torch.from_numpy(matrix.toarray())
    assert torch.equal(single(RaggedGraph.from_sparse(matrix)), exact)


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64, torch.int64], ids=str)
def test_integers_that_float32_does_not_represent(dtype: torch.dtype) -> None:
    edge = torch.tensor([[0], [1]])
    exact = torch.tensor([2**15 + 1], dtype=torch.int64)
    value = RaggedGraph.from_edge_index(edge, edge_weight=exact.to(dtype)).value
    assert value is not None
    assert value.tolist() == [2**15 + 1]
    for large in (2**24 + 1, 2**53 + 1) if dtype.itemsize == 8 else ():
        with pytest.raises(ValueError, match="integers that float32 cannot represent exactly"):
            RaggedGraph.from_edge_index(edge, edge_weight=torch.tensor([large]).to(dtype))


def test_dense(builder: str) -> None:
    adj = torch.stack([random_matrix(5), random_matrix(5, 1)]).requires_grad_()
    graph = RaggedGraph.from_dense(adj)
    assert torch.equal(graph.to_dense(), adj)
    assert graph.ptr.tolist() == [0, 5, 10]
    (grad,) = torch.autograd.grad(graph.to_dense().square().sum(), adj)
    assert torch.equal(grad, 2 * adj.detach())
    alone = RaggedGraph.from_dense(adj[0])
    assert alone.num_graphs == 1
    assert torch.equal(alone.to_dense()[0], adj[0])


@pytest.mark.parametrize("kind", ["mask", "holes", "num_nodes", "nothing"])
def test_dense_takes_valid_nodes_alone(kind: str, builder: str) -> None:
    draw = torch.Generator().manual_seed(SEED)
    counts = torch.tensor([3, 0, 5])
    mask = torch.arange(5) < counts[:, None]
    if kind == "holes":
        mask = torch.rand(3, 5, generator=draw) < 0.6
    elif kind == "nothing":
        mask = torch.zeros(3, 5, dtype=torch.bool)
    adj = torch.stack([random_matrix(5, i) for i in range(3)])
    adj = torch.where(mask[:, :, None] & mask[:, None, :], adj, torch.nan)  # padding is not read
    choice = {"num_nodes": counts} if kind == "num_nodes" else {"mask": mask.int()}
    graph = RaggedGraph.from_dense(adj, **choice)
    blocks = [adj[b][mask[b]][:, mask[b]] for b in range(3)]
    assert torch.equal(single(graph), torch.block_diag(*blocks).reshape(graph.num_nodes, graph.num_nodes))
    assert graph.ptr.diff().tolist() == mask.sum(1).tolist()
    assert graph.num_nodes == int(mask.sum())


def test_dense_of_bool_has_no_values(builder: str) -> None:
    adj = random_matrix(6) > 0
    graph = RaggedGraph.from_dense(adj | adj.T)
    assert graph.value is None
    assert graph.is_symmetric
    assert torch.equal(graph.to_dense()[0], (adj | adj.T).float())


def test_objects_with_the_attributes_of_data(builder: str) -> None:
    edge_index = torch.tensor([[0, 1, 3], [1, 0, 2]])
    data = SimpleNamespace(edge_index=edge_index, num_nodes=5)
    assert RaggedGraph.from_pyg(data).ptr.tolist() == [0, 5]
    data = SimpleNamespace(edge_index=edge_index, num_nodes=5, batch=torch.tensor([0, 0, 1, 1, 2]))
    assert RaggedGraph.from_pyg(data).ptr.tolist() == [0, 2, 4, 5]
    weighted = SimpleNamespace(edge_index=edge_index, num_nodes=4, edge_weight=torch.tensor([1.0, 2.0, 3.0]))
    assert RaggedGraph.from_pyg(weighted).degree.tolist() == [1.0, 2.0, 0.0, 3.0]


def test_attributes_of_edges_are_weights_or_features() -> None:
    edge_index, attr = torch.tensor([[0, 1], [1, 0]]), torch.tensor([5.0, 6.0])
    data = SimpleNamespace(edge_index=edge_index, edge_attr=attr, num_nodes=3)
    integers = SimpleNamespace(edge_index=edge_index, edge_attr=attr.long(), num_nodes=3)
    with pytest.warns(
        UserWarning, match=r"data\.edge_attr has one integer for each edge and is not used"
    ) as said:
        assert RaggedGraph.from_pyg(integers).value is None
    assert [one.filename for one in said] == [__file__]
    for graph in (RaggedGraph.from_pyg(data), RaggedGraph.from_pyg(integers, edge_attr="weight")):
        assert graph.value is not None
        assert graph.value.tolist() == [5.0, 6.0]
        assert graph.edge_attr is None
    for one in (data, integers):
        graph = RaggedGraph.from_pyg(one, edge_attr="features")
        assert graph.value is None
        assert graph.edge_attr is not None
        assert graph.edge_attr.tolist() == [[5.0], [6.0]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (
            RaggedGraph.from_pyg(SimpleNamespace(**vars(data) | {"edge_attr": attr[:, None]})).value is None
        )
        both = SimpleNamespace(**vars(data), edge_weight=attr + 1)
        assert RaggedGraph.from_pyg(both).degree.tolist() == [6.0, 7.0, 0.0]
    with pytest.raises(ValueError, match="data must not have edge_weight with edge_attr='weight'"):
        RaggedGraph.from_pyg(both, edge_attr="weight")
    for use in ("weight", "features"):
        with pytest.raises(TypeError, match=f"data must have edge_attr with edge_attr='{use}'"):
            RaggedGraph.from_pyg(SimpleNamespace(edge_index=edge_index, num_nodes=3), edge_attr=use)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"edge_attr must have shape \[E\] = \[2\], got \(2, 1\)"):
        RaggedGraph.from_pyg(
            SimpleNamespace(edge_index=edge_index, edge_attr=attr[:, None]), edge_attr="weight"
        )


def test_objects_without_a_number_of_nodes() -> None:
    edge_index = torch.tensor([[0, 2], [1, 0]])
    assert RaggedGraph.from_pyg(SimpleNamespace(edge_index=edge_index)).num_nodes == 3
    batch = torch.tensor([0, 0, 0, 1])
    assert RaggedGraph.from_pyg(SimpleNamespace(edge_index=edge_index, batch=batch)).ptr.tolist() == [0, 3, 4]


def test_pyg(builder: str) -> None:
    geometric = pytest.importorskip("torch_geometric")
    from torch_geometric.data import Batch, Data
    from torch_geometric.utils import to_dense_adj

    draw = torch.Generator().manual_seed(SEED)
    graphs = [
        Data(
            edge_index=torch.randint(0, n, (2, 3 * n), generator=draw),
            edge_weight=torch.randint(1, 4, (3 * n,), generator=draw).float(),
            num_nodes=n + 1,
        )
        for n in (4, 7, 2)
    ]
    graphs.append(
        Data(edge_index=torch.zeros(2, 0, dtype=torch.int64), edge_weight=torch.zeros(0), num_nodes=3)
    )
    batch = Batch.from_data_list(graphs)
    graph = RaggedGraph.from_pyg(batch)
    expected = to_dense_adj(batch.edge_index, batch.batch, batch.edge_weight, batch_size=4)
    assert torch.equal(graph.to_dense(), torch.nn.functional.pad(expected, (0, 8 - expected.size(1)) * 2))
    assert torch.equal(graph.batch, batch.batch)
    assert torch.equal(graph.ptr, batch.ptr)
    one = RaggedGraph.from_pyg(graphs[0])
    assert (one.num_graphs, one.num_nodes) == (1, 5)

    edge_index = geometric.EdgeIndex(graphs[0].edge_index, sparse_size=(6, 6))
    assert RaggedGraph.from_pyg(edge_index).num_nodes == 6
    assert torch.equal(
        single(RaggedGraph.from_edge_index(edge_index, 6)), single(RaggedGraph.from_pyg(edge_index))
    )
    unsized = geometric.EdgeIndex(graphs[0].edge_index)
    assert RaggedGraph.from_pyg(unsized).num_nodes == int(graphs[0].edge_index.max()) + 1
