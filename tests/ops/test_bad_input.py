"""Bad arguments: each a ValueError or TypeError that names the argument, what was given and what was expected."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch

from hierpool import (
    RaggedGraph,
    asymmetric_norm,
    dense_diff_pool,
    diff_pool,
    edge_distances,
    link_bce,
    soft_pool,
    spmm,
    total_variation,
    walk_cut,
)

B, N, K, F = 2, 4, 3, 5
EDGES = torch.tensor([[0, 1, 2], [1, 2, 3]])
FLOATS = "float32, float64, bfloat16, float16"
ones = torch.ones
VE, TE = ValueError, TypeError


def graph() -> RaggedGraph:
    return RaggedGraph.from_edge_index(EDGES, N)


# Good arguments of each function: of a padded batch, and of a ragged one.
PADDED: dict[Callable[..., Any], dict[str, Any]] = {
    soft_pool: {"x": ones(B, N, F), "adj": ones(B, N, N), "s": torch.zeros(B, N, K)},
    dense_diff_pool: {"x": ones(B, N, F), "adj": ones(B, N, N), "s": torch.zeros(B, N, K)},
    link_bce: {"s": torch.full((B, N, K), 0.3), "adj": ones(B, N, N)},
    total_variation: {"s": torch.full((B, N, K), 0.3), "adj": ones(B, N, N)},
    asymmetric_norm: {"s": torch.full((B, N, K), 0.3)},
}
RAGGED: dict[Callable[..., Any], dict[str, Any]] = {
    soft_pool: {"x": ones(N, F), "adj": graph(), "s": torch.zeros(N, K)},
    diff_pool: {"x": ones(N, F), "edge_index": EDGES, "s": torch.zeros(N, K)},
    link_bce: {"s": ones(N, K), "adj": graph()},
    total_variation: {"s": ones(N, K), "adj": graph()},
    asymmetric_norm: {"s": ones(N, K), "graph": graph()},
    spmm: {"graph": graph(), "x": ones(N, 2)},
    edge_distances: {"graph": graph(), "x": ones(N, 2)},
}

SCORES = (soft_pool, link_bce, total_variation, asymmetric_norm)  # of an assignment
MATRICES = (link_bce, total_variation)  # of an adjacency without types of edges
POOLS = (soft_pool, diff_pool)
PRODUCTS = (spmm, edge_distances)
NAMES = "backend must be one of 'auto', 'native', 'triton', 'reference', got "
POSITIVE = "temperature must be positive and finite"

Row = tuple[Any, str, Any, type[Exception], tuple[str, ...]]
OF_PADDED: list[Row] = [
    (SCORES, "s", ones(K), VE, ("s must have shape [B, N, K]", "(3,)")),
    (asymmetric_norm, "s", ones(N, K), VE, ("s must have shape [B, N, K]", "(4, 3)")),
    (SCORES, "s", ones(B, N, 0), VE, ("s must have at least one cluster", "(2, 4, 0)")),
    (SCORES, "s", ones(B, N, K, dtype=torch.int32), TE, ("s must have dtype " + FLOATS, "got int32")),
    (SCORES, "s", ones(B, N, K).to_sparse(), TE, ("s must be a dense (strided) tensor", "sparse_coo", "s.to_dense()")),
    (SCORES, "s", [1.0], TE, ("s must be a torch.Tensor, got list",)),
    (SCORES, "mask", ones(B, N + 1), VE, ("mask must have shape [B, N] = [2, 4]", "(2, 5)")),
    (SCORES, "mask", ones(B, N, 1), VE, ("mask must have shape [B, N] = [2, 4]", "(2, 4, 1)")),
    (SCORES, "mask", ones(N + 1), VE, ("mask must have shape [B, N] = [2, 4]", "(5,)")),
    (SCORES, "mask", ones(1, N + 1), VE, ("mask must have shape [B, N] = [2, 4]", "(1, 5)")),
    (SCORES, "mask", torch.tensor(1.0), VE, ("mask must have shape [B, N] = [2, 4]", "()")),
    (SCORES, "mask", [1], TE, ("mask must be a torch.Tensor, got list",)),
    (SCORES, "mask", ones(B, N, device="meta"), VE, ("mask must be on the device of s, cpu, got meta",)),
    (SCORES, "num_nodes", torch.tensor([5, 1]), VE, ("num_nodes must lie between 0 and N = 4", "from 1 to 5")),
    (SCORES, "num_nodes", torch.tensor([-1, 2]), VE, ("num_nodes must lie between 0 and N = 4", "from -1 to 2")),
    (SCORES, "num_nodes", ones(B), TE, ("num_nodes must have dtype int64", "got float32")),
    (SCORES, "num_nodes", torch.tensor([1]), VE, ("num_nodes must have shape [B] = [2]", "(1,)")),
    (SCORES, "num_nodes", torch.ones(B, 1, dtype=torch.int64), VE, ("num_nodes must have shape [B]", "(2, 1)")),
    (SCORES, "num_nodes", torch.tensor(3), VE, ("num_nodes must have shape [B] = [2]", "()")),
    (SCORES, "num_nodes", [1], TE, ("num_nodes must be a torch.Tensor, got list",)),
    (SCORES, "num_nodes", torch.ones(B, dtype=torch.int64, device="meta"), VE, ("num_nodes must be on the device",)),
    ((*SCORES, dense_diff_pool), "backend", "gpu", VE, (NAMES + "'gpu'",)),
    (SCORES, "backend", None, VE, (NAMES + "None",)),
    (soft_pool, "x", ones(N + 1, F), VE, ("x must have shape [B, N, F] = [2, 4, F]", "(5, 5)")),
    (soft_pool, "x", ones(1, N + 1, F), VE, ("x must have shape [B, N, F] = [2, 4, F]", "(1, 5, 5)")),
    (soft_pool, "x", ones(B, N + 1, F), VE, ("x must have shape", "[2, 4, F]", "(2, 5, 5)")),
    (soft_pool, "x", ones(B + 1, N, F), VE, ("x must have shape", "[2, 4, F]", "(3, 4, 5)")),
    *((soft_pool, "x", ones(B, N, F).to(dtype), TE, ("x must have dtype " + FLOATS, f"got {name}"))
      for dtype, name in ((torch.int64, "int64"), (torch.bool, "bool"), (torch.complex64, "complex64"))),
    (soft_pool, "x", [1.0], TE, ("x must be a torch.Tensor, got list",)),
    (soft_pool, "x", ones(B, N, F).to_sparse(), TE, ("x must be a dense (strided) tensor", "x.to_dense()")),
    (soft_pool, "x", ones(B, N, F, device="meta"), VE, ("x must be on the device of s", "cpu", "got meta")),
    (soft_pool, "adj", ones(N, N + 1), VE, ("adj must have shape", "[2, 4, 4]", "(4, 5)")),
    (soft_pool, "adj", ones(B, N, N + 1), VE, ("adj must have shape", "[2, 4, 4]", "(2, 4, 5)")),
    (soft_pool, "adj", ones(B, N + 1, N), VE, ("adj must have shape", "[2, 4, 4]", "(2, 5, 4)")),
    (soft_pool, "adj", ones(1, N, N + 1), VE, ("adj must have shape", "[2, 4, 4]", "(1, 4, 5)")),
    (soft_pool, "adj", ones(B + 1, N, N), VE, ("adj must have shape", "[2, 4, 4]", "(3, 4, 4)")),
    (soft_pool, "adj", ones(B, 0, N, N), VE, ("adj must have at least one edge type", "(2, 0, 4, 4)")),
    (soft_pool, "adj", ones(1, B, 1, N, N), VE, ("adj must have shape", "(1, 2, 1, 4, 4)")),
    (soft_pool, "adj", ones(B, N, N, dtype=torch.complex64), TE, ("adj must have dtype", "bool, int8, uint8")),
    ((soft_pool, *MATRICES), "adj", ones(B, N, N).long(), TE, ("adj must have dtype float32", "int8", "got int64")),
    ((soft_pool, *MATRICES), "adj", ones(B, N, N, device="meta"),
         VE, ("adj must be on the device of s, cpu, got meta",)),
    (soft_pool, "adj", [1.0], TE, ("adj must be a torch.Tensor, got list",)),
    *(((soft_pool, *MATRICES), "adj", ones(B, N, N).to_sparse(layout=layout), TE,
       ("adj must be a dense (strided) tensor", f"got layout {layout}", "adj.to_dense()"))
      for layout in (torch.sparse_coo, torch.sparse_csr)),
    (MATRICES, "adj", ones(B, N, N + 1), VE, ("adj must have shape [B, N, N] = [2, 4, 4] to match s",)),
    (MATRICES, "adj", ones(1, N + 1, N), VE, ("adj must have shape [B, N, N] = [2, 4, 4] to match s", "(1, 5, 4)")),
    (MATRICES, "adj", ones(B, 1, N, N), VE, ("adj must have shape [B, N, N] = [2, 4, 4] to match s",)),
    (soft_pool, "assignment", "hard", VE, ("assignment must be one of 'softmax', 'given', got 'hard'",)),
    (soft_pool, "assignment", None, VE, ("assignment must be one of 'softmax', 'given', got None",)),
    (soft_pool, "link_loss", "bce", VE, ("link_loss must be one of None, 'frobenius', got 'bce'",)),
    (soft_pool, "link_loss", True, VE, ("link_loss must be one of None, 'frobenius', got True",)),
    (soft_pool, "gram", False,
         VE, ("gram must be True or None with link_loss='frobenius', got False", "pass link_loss=None")),
    *((soft_pool, name, value, TE, (f"{name} must be True, False or None", f"got {value!r}"))
      for name in ("symmetric", "gram") for value in (1, "yes")),
    *((soft_pool, "entropy", value,
         TE, ("entropy must be True or False", f"got {value!r}")) for value in (None, 1, "yes")),
    (soft_pool, "temperature", ones(1), VE, ("temperature must be a float or a 0-d tensor", "(1,)")),
    (soft_pool, "temperature", "hot", TE, ("temperature must be a float or a 0-d tensor", "str")),
    (soft_pool, "temperature", True, TE, ("temperature must be a float or a 0-d tensor", "bool")),
    (soft_pool, "temperature", torch.tensor(2), TE, ("temperature must have dtype", "int64")),
    (soft_pool, "temperature", torch.tensor(2.0, device="meta"), VE, ("temperature must be on the device of s",)),
    (link_bce, "symmetric", 1, TE, ("symmetric must be True, False or None, got 1",)),
    (link_bce, "eps", 0.0, VE, ("eps must be finite and at least 1.2e-38, got 0.0",)),
    (link_bce, "eps", float("nan"), VE, ("eps must be finite and at least 1.2e-38",)),
    (link_bce, "eps", float("inf"), VE, ("eps must be finite and at least 1.2e-38",)),
    (link_bce, "eps", 1, TE, ("eps must be a float, got int",)),
    (link_bce, "normalize", "mean", VE, ("normalize must be one of None, 'numel', 'valid', got 'mean'",)),
    (asymmetric_norm, "graph", ones(2, 3), TE, ("graph must be a RaggedGraph or None, got Tensor",)),
    (dense_diff_pool, "mask", ones(B, N + 1), VE, ("mask must be viewable as [B, N] = [2, 4]", "(2, 5)")),
    (dense_diff_pool, "mask", [1], TE, ("mask must be a torch.Tensor", "list")),
    (dense_diff_pool, "adj", ones(B, 1, N, N), VE, ("adj must have shape [B, N, N] or [N, N]", "(2, 1, 4, 4)")),
    (dense_diff_pool, "adj", None, TE, ("adj must be a torch.Tensor", "NoneType")),
    (dense_diff_pool, "x", ones(F), VE, ("x must have shape", "(5,)")),
    (dense_diff_pool, "s", torch.zeros(K), VE, ("s must have shape", "(3,)")),
    (dense_diff_pool, "s", [0], TE, ("s must be a torch.Tensor", "list")),
]  # fmt: skip
KNOWN = ("must be None with a RaggedGraph", "got")
OF_RAGGED: list[Row] = [
    (SCORES, "s", ones(N + 1, K), VE, ("s must have shape [N, K] = [4, K] to match the graph", "(5, 3)")),
    (SCORES, "s", ones(1, N, K), VE, ("s must have shape [N, K] = [4, K] to match the graph", "(1, 4, 3)")),
    (SCORES, "s", ones(N), VE, ("s must have shape [N, K] = [4, K] to match the graph", "(4,)")),
    (SCORES, "s", ones(N, 0), VE, ("s must have at least one cluster", "(4, 0)")),
    (SCORES, "mask", ones(1, N), VE, ("mask " + KNOWN[0], KNOWN[1])),
    (SCORES, "num_nodes", torch.tensor([N]), VE, ("num_nodes " + KNOWN[0], KNOWN[1])),
    *(((soft_pool, link_bce), "symmetric", value,
         VE, ("symmetric " + KNOWN[0], f"got {value}")) for value in (True, False)),
    (MATRICES, "s", ones(N, K, device="meta"), VE, ("adj must be on the device of s, meta, got cpu",)),
    (asymmetric_norm, "s", ones(N, K, device="meta"), VE, ("graph must be on the device of s, meta, got cpu",)),
    (soft_pool, "x", ones(1, N, F), VE, ("x must have shape [N, F] = [4, F] to match the graph", "(1, 4, 5)")),
    (soft_pool, "x", ones(N + 1, F), VE, ("x must have shape [N, F] = [4, F] to match the graph", "(5, 5)")),
    (soft_pool, "x", ones(N), VE, ("x must have shape [N, F] = [4, F] to match the graph", "(4,)")),
    (soft_pool, "x", ones(N, F, device="meta"), VE, ("x must be on the device of s", "cpu", "got meta")),
    *((POOLS, name, ones(N, F if name == "x" else K).to(dtype),
         TE, (f"{name} must have dtype " + FLOATS, f"got {given}"))
      for name, dtype, given in (("x", torch.int64, "int64"), ("x", torch.bool, "bool"), ("s", torch.int32, "int32"),
                                 ("s", torch.complex64, "complex64"))),
    *((POOLS, name, [[1.0]], TE, (f"{name} must be a torch.Tensor", "got list")) for name in ("x", "s")),
    *((POOLS, name, ones(N, F if name == "x" else K).to_sparse(), TE,
       (f"{name} must be a dense (strided) tensor", "sparse_coo", f"{name}.to_dense()")) for name in ("x", "s")),
    (POOLS, "link_loss", "l1", VE, ("link_loss must be", "'frobenius'", "got 'l1'")),
    ((*POOLS, *PRODUCTS), "backend", "cuda", VE, (NAMES + "'cuda'",)),
    (diff_pool, "normalize", "mean", VE, ("normalize must be", "'pyg', 'valid'", "got 'mean'")),
    (diff_pool, "symmetric", 1, TE, ("symmetric must be True, False or None", "got 1")),
    (diff_pool, "drop", 0.1, VE, ("drop must be None unless sparse_output=True, got 0.1",)),
    (diff_pool, "edge_index", EDGES.T.contiguous(), VE, ("edge_index must have shape [2, E]", "(3, 2)")),
    (diff_pool, "edge_index", EDGES.float(), TE, ("edge_index must have dtype int64 or int32",)),
    (diff_pool, "edge_weight", ones(2), VE, ("edge_weight must have shape [E] = [3]", "(2,)")),
    (diff_pool, "batch", torch.zeros(3).long(), VE, ("batch must have shape [num_nodes] = [4]",)),
    (diff_pool, "edge_index", EDGES + 6, VE, ("edge_index[0][0] is 6, but there are 4 nodes",)),
    (diff_pool, "batch", torch.tensor([0, 0, 1, 1]), VE, ("an edge joins node 1 of graph 0 to node 2 of graph 1",)),
    (PRODUCTS, "graph", ones(4, 4), TE, ("graph must be a RaggedGraph, got Tensor",)),
    (PRODUCTS, "x", [1.0], TE, ("x must be a torch.Tensor, got list",)),
    (PRODUCTS, "x", ones(4, 2).long(), TE, ("x must have dtype float32, float64",)),
    (PRODUCTS, "x", ones(4), VE, ("x must have shape [N, F] = [4, F], got (4,)",)),
    (PRODUCTS, "x", ones(3, 2), VE, ("x must have shape [N, F] = [4, F], got (3, 2)",)),
    (PRODUCTS, "x", ones(4, 2, device="meta"), VE, ("x must be on the device of the graph, cpu, got meta",)),
    (spmm, "transpose", None, TE, ("transpose must be True or False, got None",)),
]  # fmt: skip


def rows(table: Iterable[Row], good: dict[Callable[..., Any], dict[str, Any]]) -> Iterable[Any]:
    for i, (functions, name, value, kind, fragments) in enumerate(table):
        for function in functions if isinstance(functions, tuple) else (functions,):
            arguments = good[function] | {name: value}
            yield pytest.param(function, arguments, kind, fragments, id=f"{function.__name__}-{name}-{i}")


def assert_raises(
    kind: type[Exception], fragments: tuple[str, ...], function: Callable[..., Any], **arguments: Any
) -> None:
    with pytest.raises(kind) as caught:
        function(**arguments)
    message = str(caught.value)
    for fragment in fragments:
        assert fragment in message, f"{fragment!r} is not in {message!r}"


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize(
    ("function", "arguments", "kind", "fragments"), [*rows(OF_PADDED, PADDED), *rows(OF_RAGGED, RAGGED)]
)
def test_bad_argument(
    function: Callable[..., Any], arguments: dict[str, Any], kind: type[Exception], fragments: tuple[str, ...]
) -> None:
    assert_raises(kind, fragments, function, **arguments)


@pytest.mark.parametrize("function", SCORES)
def test_both_mask_and_num_nodes(function: Callable[..., Any]) -> None:
    both = {"mask": ones(B, N), "num_nodes": torch.ones(B, dtype=torch.int64)}
    message = "at most one of mask and num_nodes must be given, got both"
    assert_raises(VE, (message,), function, **PADDED[function], **both)


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_values_are_checked_on_every_backend(backend: str) -> None:
    counts = torch.tensor([2, N + 1])
    fragments = ("num_nodes must lie between 0 and N = 4", "from 2 to 5")
    assert_raises(VE, fragments, soft_pool, **PADDED[soft_pool], num_nodes=counts, backend=backend)


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")], ids=str)
def test_temperature(value: float, backend: str) -> None:
    calls = [(soft_pool, PADDED[soft_pool]), *((function, RAGGED[function]) for function in POOLS)]
    for function, arguments in calls:
        for temperature in (value, torch.tensor(value)):
            given = arguments | {"temperature": temperature, "backend": backend}
            assert_raises(VE, (POSITIVE, f"got {value}"), function, **given)


def test_temperature_of_a_given_assignment() -> None:
    fragments = ("temperature must be 1 with assignment='given', got",)
    for arguments in (PADDED[soft_pool], RAGGED[soft_pool]):
        for temperature in (0.5, torch.tensor(1.0)):
            given = arguments | {"temperature": temperature, "assignment": "given"}
            assert_raises(VE, fragments, soft_pool, **given)


def test_devices_of_a_ragged_batch_disagree() -> None:
    meta = {"x": ones(N, F, device="meta"), "s": torch.zeros(N, K, device="meta"), "adj": graph()}
    assert_raises(VE, ("adj must be on the device of s", "meta", "got cpu"), soft_pool, **meta)


def test_what_a_graph_knows_is_not_said_again_to_diff_pool() -> None:
    alone = {
        "edge_weight": ones(3),
        "batch": torch.zeros(N).long(),
        "ptr": torch.tensor([0, N]),
        "batch_size": 1,
    }
    for name, value in (alone | {"symmetric": True}).items():
        fragments = (f"{name} must be None if edge_index is a RaggedGraph", "got")
        assert_raises(VE, fragments, diff_pool, **(RAGGED[diff_pool] | {"edge_index": graph(), name: value}))
    matrix = torch.sparse_coo_tensor(EDGES, ones(3), (N, N), check_invariants=True)
    for name in ("edge_weight", "batch", "batch_size"):
        fragments = (f"{name} must be None if edge_index is a sparse matrix",)
        given = RAGGED[diff_pool] | {"edge_index": matrix, name: alone[name]}
        assert_raises(VE, fragments, diff_pool, **given)


def test_walk_cut() -> None:
    s, adj = PADDED[link_bce].values()
    assert_raises(
        VE, ("mask must be None with a RaggedGraph",), walk_cut, **RAGGED[link_bce], mask=ones(1, N)
    )
    assert_raises(VE, ("adj must have shape [B, N, N]",), walk_cut, s=s, adj=adj[:, 1:])
    assert_raises(TE, ("symmetric must be True, False or None",), walk_cut, s=s, adj=adj, symmetric=1)


def test_a_device_without_kernels() -> None:
    """Plain PyTorch takes it; a backend that is named says why it does not."""
    sparse = {
        "x": ones(N, F),
        "s": torch.zeros(N, K),
        "adj": RaggedGraph.from_edge_index(EDGES, N, symmetric=False),
    }
    reason = "backend 'native' cannot run soft_pool on meta: the C++ kernels run on CPU tensors, not on meta"
    for arguments in (PADDED[soft_pool], sparse):
        meta = {name: value.to("meta") for name, value in arguments.items()}
        with pytest.raises(RuntimeError, match=re.escape(reason)):
            soft_pool(**meta, backend="native")
    record = soft_pool(**{name: value.to("meta") for name, value in PADDED[soft_pool].items()})
    assert (record.adj.shape, record.adj.device.type) == ((B, K, K), "meta")


def test_unknown_instruction_set(native: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIERPOOL_CPU_ISA", "sse9")
    expected = "HIERPOOL_CPU_ISA must be one of scalar, avx2, avx512, amx, got 'sse9'"
    with pytest.raises(ValueError, match=re.escape(expected)):
        soft_pool(**PADDED[soft_pool], backend=native)
