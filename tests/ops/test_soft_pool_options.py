"""What the options skip and choose, what is saved, and that neither threads nor instruction sets leak into it."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hierpool import SoftPoolRecord, dense_diff_pool
from tests.support.cases import Case, Inputs, Recipe, find, over
from tests.support.oracle import rounding
from tests.support.running import check, gradients_of, random_upstream, run
from tests.support.sparse import ragged

SEED = 3
f64, f32, bf16 = torch.float64, torch.float32, torch.bfloat16
RAGGED = ragged("directed-holes", "tails-shuffled", "n513-directed-sparse-unweighted")
M, SYMMETRIC = 8, 9  # outputs of the operator that the record leaves out


def call_operator(inputs: Inputs, backend: str, symmetric: bool | None = None, save: bool = True) -> Any:
    """The registered operator itself, with all its outputs."""
    return torch.ops.hierpool.soft_pool_dense(
        inputs.s, inputs.x, inputs.adj, inputs.mask, inputs.num_nodes, None, inputs.given, symmetric,
        True, True, True, False, save, backend,
    )  # fmt: skip


def assert_equal(one: SoftPoolRecord, other: SoftPoolRecord, *fields: str) -> None:
    for name in fields:
        assert torch.equal(getattr(one, name), getattr(other, name)), name


KEPT = ("s", "x", "adj", "vectors", "num_nodes", "cut_degree", "adj_sq", "total_degree")


@over(SEED, "directed-holes", "three-types", "n513-directed-sparse", *RAGGED)
def test_without_the_link_loss(case: Recipe, backend: str) -> None:
    inputs = case.make(SEED, f32)
    whole, part = inputs.pool(backend), inputs.pool(backend, link_loss=None)
    assert part.gram is None
    assert part.link_sq.isnan().all()
    assert part.link_norm.isnan().all()
    assert_equal(part, whole, *KEPT, "entropy", "total_entropy")
    with_gram = inputs.pool(backend, link_loss=None, gram=True)
    assert_equal(with_gram, whole, *KEPT, "gram")
    assert with_gram.link_sq.isnan().all()


@over(SEED, "directed-holes", "three-types", "n513-directed-sparse", *RAGGED)
def test_without_the_entropy(case: Recipe, backend: str) -> None:
    inputs = case.make(SEED, f32)
    whole, part = inputs.pool(backend), inputs.pool(backend, entropy=False)
    assert part.entropy.isnan().all()
    assert part.total_entropy.isnan()
    assert_equal(part, whole, *KEPT, "gram", "link_sq", "link_norm")


@pytest.mark.parametrize(
    "options", [{"link_loss": None}, {"link_loss": None, "gram": True}, {"entropy": False}], ids=str
)
@over(SEED, "directed-holes", "three-types", "n513", *RAGGED)
def test_gradients_of_what_is_left(case: Recipe, options: dict[str, Any], backend: str) -> None:
    """The same as with everything computed and no gradient from the fields that were skipped."""
    inputs = case.make(SEED)
    upstream: list[Tensor | None] = list(random_upstream(inputs.pool(backend), SEED))
    scalars = upstream[5]
    assert scalars is not None
    channels = scalars.size(1) // 4
    if "entropy" in options:
        upstream[6] = None
        scalars[:, 1] = 0
    else:
        upstream[7] = None
        scalars[:, 2 + 3 * channels :] = 0
        upstream[3] = upstream[3] if "gram" in options else None
    _, expected, _ = run(inputs, backend, upstream)
    _, got, _ = run(inputs, backend, upstream, **options)
    for name, one, other in zip(got._fields, got, expected, strict=True):
        assert torch.equal(one, other), name


@pytest.mark.parametrize("asked", [("x",), ("adj",), ("s",), ("x", "s"), ("adj", "s")], ids="-".join)
@over(
    SEED,
    "directed-holes",
    "three-types",
    "n513-directed-sparse",
    *ragged("directed-holes", "tails-shuffled", "n513-directed-sparse"),
)
def test_only_the_asked_gradients(case: Recipe, asked: tuple[str, ...], backend: str) -> None:
    inputs = case.make(SEED, f32)
    _, expected, upstream = run(inputs, backend)
    leaves = inputs._replace(**{name: getattr(inputs, name).detach().requires_grad_() for name in asked})
    got = gradients_of(leaves.pool(backend), leaves, upstream)
    for name in asked:
        assert torch.equal(getattr(got, name), getattr(expected, name)), name


@pytest.mark.parametrize("symmetric", [True, False, None])
@over(
    SEED,
    "base",
    "signed",
    "holes",
    "three-types-num_nodes",
    "sparse",
    "n33-k31-f32",
    "n513",
    "n700-num_nodes",
)
def test_symmetric_given_or_found(case: Case, symmetric: bool | None, backend: str) -> None:
    check(case.make(SEED), backend, symmetric=symmetric)
    check(case.make(SEED, f32), backend, symmetric=symmetric)


@pytest.mark.parametrize("adj", [f32, f64, bf16, torch.int8], ids=str)
@pytest.mark.parametrize("n", [1, 2, 31, 32, 33, 65, 513, 700])
def test_one_entry_makes_it_directed(n: int, adj: torch.dtype, finder: str) -> None:
    inputs = Case("entry", b=2, n=n, k=2, f=1, weights="integers").make(SEED, f32, adj=adj)
    assert call_operator(inputs, finder)[SYMMETRIC].tolist() == [[True], [True]]
    for i, j in ((0, n - 1), (n - 1, 0), (n // 2, n // 3), (n - 1, n - 2)):
        if i == j or min(i, j) < 0:
            continue
        changed = inputs.adj.clone()
        changed[1, i, j] += 1
        flags = call_operator(inputs._replace(adj=changed), finder)[SYMMETRIC]
        assert flags.tolist() == [[True], [False]], (i, j)


def test_entries_of_padding_do_not_make_it_directed(finder: str) -> None:
    for name in ("holes", "num_nodes", "three-types-holes"):
        case = find(name)
        inputs = case.make(SEED)
        both = inputs.valid[:, None] & inputs.valid[..., None]
        both = both if case.r is None else both[:, None]
        noise = torch.rand(inputs.adj.shape, generator=torch.Generator().manual_seed(SEED)).double()
        flags = call_operator(inputs._replace(adj=torch.where(both, inputs.adj, noise)), finder)[SYMMETRIC]
        expected = torch.where(both, inputs.adj, 0)
        assert flags.flatten().tolist() == (expected == expected.mT).flatten(-2).all(-1).flatten().tolist()


@pytest.mark.parametrize("given", [True, False])
def test_a_given_flag_is_kept(given: bool, backend: str) -> None:
    inputs = find("directed").make(SEED)
    assert call_operator(inputs, backend, symmetric=given)[SYMMETRIC].tolist() == [[given]] * 2


@pytest.mark.parametrize("kind", ["float", "float32", "float64"])
@over(SEED, "directed-holes", "n33-k31-f32", *ragged("directed-holes-shuffled"))
def test_temperature(case: Recipe, kind: str, backend: str) -> None:
    inputs = case.make(SEED)._replace(temperature=0.375)  # exact in float32
    expected = inputs.pool(backend)
    temperature = 0.375 if kind == "float" else torch.tensor(0.375, dtype=getattr(torch, kind))
    assert_equal(inputs.pool(backend, temperature=temperature), expected, *KEPT, "gram", "link_norm")
    check(inputs, backend)


@pytest.mark.parametrize("dtype", [f64, f32], ids=str)
@over(SEED, "directed", "directed-holes", "three-types", "n513", *ragged("tails-shuffled", "n513"))
def test_gradient_of_the_temperature(case: Recipe, dtype: torch.dtype, backend: str) -> None:
    inputs = case.make(SEED)
    exact, rough = (torch.tensor(0.375, dtype=d, requires_grad=True) for d in (f64, dtype))
    weights = random_upstream(inputs.pool("reference", temperature=0.375), SEED)

    def gradient(record: SoftPoolRecord, temperature: Tensor) -> Tensor:
        weighted = [(v * w).sum().double() for v, w in zip(record, weights, strict=True) if v is not None]
        return torch.autograd.grad(torch.stack(weighted).sum(), temperature)[0]

    # softmax(L / T) by torch, then S given: autograd takes the temperature from there.
    s = torch.where(inputs.valid[..., None], (inputs.s / exact).softmax(-1), 0)
    expected = gradient(inputs._replace(s=s, given=True).pool("reference"), exact)
    x, adj, logits = (t.to(dtype) for t in inputs[:3])
    got = gradient(inputs._replace(x=x, adj=adj, s=logits).pool(backend, temperature=rough), rough)
    assert got.dtype == dtype
    # Terms of both signs cancel in the sum over all logits: 100 of the whole grid's relative rounding.
    torch.testing.assert_close(
        got.double(), expected.double(), rtol=100 * rounding(inputs.terms) * torch.finfo(dtype).eps, atol=0
    )


class Recorder(TorchDispatchMode):
    """Records the arguments of the operators that pass."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.hierpool.soft_pool_dense.default:
            self.calls.append(args)
        return func(*args, **(kwargs or {}))


def test_nothing_is_saved_without_a_gradient(backend: str) -> None:
    inputs = find("directed").make(SEED)
    outputs = call_operator(inputs, backend, save=False)
    assert outputs[M].numel() == outputs[SYMMETRIC].numel() == 0
    assert call_operator(inputs, backend)[M].shape == (2, 1, 9, 4)
    with Recorder() as recorder:
        inputs.pool(backend)
        with torch.no_grad():
            inputs.leaves().pool(backend)
        inputs.leaves().pool(backend)
    assert [call[12] for call in recorder.calls] == [False, False, True]


def test_values_do_not_depend_on_what_is_saved(backend: str) -> None:
    for case in (*map(find, ("directed-holes", "three-types", "n513-directed-sparse")), *RAGGED):
        inputs = case.make(SEED, f32)
        for one, other in zip(inputs.pool(backend), inputs.leaves().pool(backend), strict=True):
            assert one is not None
            assert torch.equal(one, other)  # type: ignore[arg-type]


def test_save_false_cannot_be_differentiated(backend: str) -> None:
    with pytest.raises(RuntimeError, match="save=False and cannot be differentiated"):
        call_operator(find("base").make(SEED).leaves(), backend, save=False)


@over(SEED, "base", "holes")
def test_saved_are_two_matrices_of_the_size_of_s(case: Case, backend: str) -> None:
    leaves = case.make(SEED).leaves()
    saved: list[Tensor] = []

    def pack(t: Tensor) -> Tensor:
        saved.append(t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        leaves.pool(backend, temperature=0.5)
    inputs = {t.data_ptr() for t in leaves[:4] if isinstance(t, Tensor)}
    own = [t for t in saved if t.data_ptr() not in inputs]
    large = [t for t in own if t.numel() >= case.b * case.n * case.k]
    assert [tuple(t.shape) for t in large] == [(case.b, case.n, case.k), (case.b, 1, case.n, case.k)]
    assert all(t.numel() <= case.b * case.k * case.k for t in own if t.numel() < large[0].numel())


@pytest.mark.parametrize("through", ["dispatcher", "eager"])
@pytest.mark.parametrize("field", ["link_norm", "x", "adj", "total_entropy"])
@over(SEED, "base", *ragged("base", "tails-shuffled"))
def test_second_derivative_is_an_error(case: Recipe, field: str, through: str, backend: str) -> None:
    """Also where the upstream gradient is a constant, and where the sum has another, differentiable part."""
    leaves = case.make(SEED).leaves()
    with Recorder() if through == "dispatcher" else nullcontext():
        record = leaves.pool(backend)
    loss = getattr(record, field).sum() + leaves.s.pow(3).sum()
    (grad,) = torch.autograd.grad(loss, leaves.s, create_graph=True)
    with pytest.raises(RuntimeError, match=r"soft_pool_(dense|csr) has no second derivative"):
        torch.autograd.grad(grad.square().sum(), leaves.s)


@pytest.mark.parametrize("asked", ["s", "x", "adj"])
@pytest.mark.parametrize("output", range(4), ids=["x", "adj", "link_loss", "ent_loss"])
def test_second_derivative_of_the_drop_in_is_an_error(output: int, asked: str, backend: str) -> None:
    inputs = find("base").make(SEED)
    leaf = getattr(inputs, asked).requires_grad_()
    value = dense_diff_pool(inputs.x, inputs.adj, inputs.s, backend=backend)[output]
    loss = value.sum() + leaf.pow(3).sum()
    (grad,) = torch.autograd.grad(loss, leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="soft_pool_dense has no second derivative"):
        torch.autograd.grad(grad.square().sum(), leaf)


@pytest.mark.parametrize("dtype", [f64, f32, bf16], ids=str)
@over(
    SEED,
    *("holes", "num_nodes", "three-types-holes", "n513", "n1100", "n700-num_nodes", "n900-holes"),
    *ragged(
        "many", "tails-shuffled", "complete-n182", "n513", "n513-directed-sparse-unweighted", "n700-num_nodes"
    ),
)
def test_threads_change_no_bit(case: Recipe, dtype: torch.dtype, native_isa: str) -> None:
    inputs = case.make(SEED, dtype)
    expected, expected_grads, upstream = run(inputs, native_isa)
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        record, grads, _ = run(inputs, native_isa, upstream)
        for one, other in zip((*record, *grads), (*expected, *expected_grads), strict=True):
            assert torch.equal(one, other), threads  # type: ignore[arg-type]


MEMORY = """
import resource, sys
import torch
import hierpool

N, K, F = 6000, 8, 4
dtype, padding, symmetric, backend = getattr(torch, sys.argv[1]), sys.argv[2], eval(sys.argv[3]), sys.argv[4]
torch.set_num_threads(2)

def step(adj, n, mask):
    x, s = (torch.randn(1, n, width, requires_grad=True) for width in (F, K))
    record = hierpool.soft_pool(x, adj, s, mask=mask, symmetric=symmetric, backend=backend)
    (record.link_norm + record.total_entropy + record.adj.sum() + record.x.sum() + record.volume.sum()).backward()

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

step(torch.ones(1, 40, 40, dtype=dtype), 40, None)
adj = torch.empty(1, N, N, dtype=dtype)
for row in adj[0]:
    row.random_(0, 3)
mask = torch.arange(N)[None] % 50 != 7 if padding == "holes" else None
before = peak()
step(adj, N, mask)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
@pytest.mark.parametrize("symmetric", [None, True])
@pytest.mark.parametrize("padding", ["all", "holes"])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_no_temporary_of_n_by_n(dtype: str, padding: str, symmetric: bool | None, native: str) -> None:
    arguments = (dtype, padding, str(symmetric), native)
    result = subprocess.run(
        [sys.executable, "-c", MEMORY, *arguments], capture_output=True, text=True, check=True
    )
    # A quarter of N x N float32; the tensors of N x K and the tiles of 256 rows take a tenth.
    assert int(result.stdout) < 6000 * 6000 * 4 // 4
