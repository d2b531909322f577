"""The kernels on a CUDA device: values, gradients, and what only a device can show.

Small shapes, compared with the truth of `tests.support.oracle` on the CPU; `test_large` has large ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import hierpool
from hierpool import SoftPoolRecord
from tests.support import running
from tests.support.cases import Case, Inputs, find, over
from tests.support.oracle import Gradients, truth
from tests.support.running import assert_fields, assert_gradients, gradients_of, random_upstream
from tests.support.sparse import Ragged, RaggedCase, ragged

SEED = 3
f64, f32, bf16, f16 = torch.float64, torch.float32, torch.bfloat16, torch.float16
TF32_EPS = 2.0**-10  # of an operand that is cut off

# ---- from the CPU to the device and back ----------------------------------------------------------------------------


def on(t: Tensor, device: torch.device) -> Tensor:
    """``t`` on the device, with its strides."""
    whole = t.new_empty(0).set_(t.untyped_storage())
    return whole.to(device).as_strided(t.size(), t.stride(), t.storage_offset())


def moved(inputs: Inputs | Ragged, device: torch.device) -> Inputs | Ragged:
    """The same inputs on the device, as leaves that need a gradient."""
    if isinstance(inputs, Ragged):
        inputs.graph.transposed()  # which the graph keeps
        graph = inputs.graph.to(device)
        x, s = on(inputs.x, device), on(inputs.s, device)
        return inputs._replace(x=x, adj=graph.value, s=s, graph=graph).leaves()
    tensors = {name: on(t, device) for name, t in inputs._asdict().items() if isinstance(t, Tensor)}
    return inputs._replace(**tensors).leaves()


def step(leaves: Inputs | Ragged, upstream: Sequence[Tensor], backend: str = "triton") -> tuple[Tensor, ...]:
    """All fields and gradients, on the device."""
    record = leaves.pool(backend)
    wanted = [t for t in leaves[:3] if t is not None and t.requires_grad]
    fields = [field for field in record if field is not None]
    return (*(field.detach() for field in fields), *torch.autograd.grad(fields, wanted, upstream))


def upstream_of(leaves: Inputs | Ragged) -> list[Tensor]:
    return [u.to(leaves.s.device) for u in random_upstream(leaves.pool("triton"), 1)]


def run_on(
    inputs: Inputs | Ragged, device: torch.device, backend: str, upstream: Sequence[Tensor] | None = None
) -> tuple[SoftPoolRecord, Gradients, Sequence[Tensor]]:
    """What the backend computes on the device, brought back to the CPU."""
    leaves = moved(inputs, device)
    record = leaves.pool(backend)
    upstream = random_upstream(record, 1) if upstream is None else upstream
    grads = gradients_of(record, leaves, [u.to(device) for u in upstream])
    cpu = [None if t is None else t.detach().cpu() for t in record]
    return SoftPoolRecord(*cpu), Gradients(*(g.cpu() for g in grads)), upstream


def check(inputs: Inputs | Ragged, device: torch.device) -> None:
    """Values and gradients against the truth, by the rule of every other backend."""
    record, gradients, upstream = run_on(inputs, device, "triton")
    plain_record, plain_gradients, _ = run_on(inputs, device, "reference", upstream)
    exact = truth(inputs, record.s, upstream)
    assert_fields(record, exact, inputs, plain_record)
    assert_gradients(gradients, exact, inputs, plain_gradients)


def assert_same_bits(one: Sequence[Tensor], other: Sequence[Tensor]) -> None:
    assert len(one) == len(other)
    for i, (a, b) in enumerate(zip(one, other, strict=True)):
        assert torch.equal(a, b), f"tensor {i} differs by {float((a - b).abs().max()):.3e}"


WIDE = Case(
    "wide", b=2, n=150, k=300, f=40, directed=True, density=0.3, valid="num_nodes"
)  # several tiles of K
DEVICE_CASES = [find("directed-holes"), RaggedCase(replace(find("directed-holes"), name="holes-csr"))]
on_both_layouts = over(SEED, *DEVICE_CASES)

# ---- values and gradients -------------------------------------------------------------------------------------------


@over(
    SEED, "directed-holes", "three-types-num_nodes", "strided", "given", "temperature", "n20-k70-f130", "n513",
    "no-nodes", "no-features", "more-clusters-than-nodes", WIDE,
)  # fmt: skip
def test_dense_in_float32(case: Case, device: torch.device) -> None:
    check(case.make(SEED, f32), device)


@pytest.mark.parametrize("dtype", [bf16, f16])
@over(SEED, "directed-holes", "n20-k70-f130", WIDE)
def test_dense_in_half_precision(case: Case, dtype: torch.dtype, device: torch.device) -> None:
    check(case.make(SEED, dtype), device)


@pytest.mark.parametrize("adj", [torch.bool, torch.int8, bf16])
def test_dense_with_an_adjacency_of_another_dtype(adj: torch.dtype, device: torch.device) -> None:
    check(find("ones").make(SEED, f32, f16, adj), device)


@over(
    SEED, *ragged("directed-holes", "n513-directed-sparse", "tails-unweighted", "directed-holes-int64-shuffled"),
    RaggedCase(replace(WIDE, name="wide")),
)  # fmt: skip
def test_sparse_in_float32(case: RaggedCase, device: torch.device) -> None:
    check(case.make(SEED, f32), device)


@pytest.mark.parametrize("dtype", [bf16, f16])
@over(SEED, *ragged("directed-holes"))
def test_sparse_in_half_precision(case: RaggedCase, dtype: torch.dtype, device: torch.device) -> None:
    check(case.make(SEED, dtype), device)


@over(SEED, "n20-k70-f130", "n513", *ragged("n513-directed-sparse"))
def test_tf32(case: Any, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_float32_matmul_precision("high")
    monkeypatch.setattr(running, "_accumulation_eps", lambda inputs: TF32_EPS)
    check(case.make(SEED, f32), device)


@over(SEED, *ragged("directed-holes"))
@pytest.mark.parametrize("transpose", [False, True])
def test_spmm(case: RaggedCase, transpose: bool, device: torch.device) -> None:
    inputs = case.make(SEED)
    expected = hierpool.spmm(inputs.graph, inputs.x, transpose=transpose, backend="reference")
    graph = inputs.graph.to(device, f32)
    got = hierpool.spmm(graph, inputs.x.to(device, f32), transpose=transpose, backend="triton")
    torch.testing.assert_close(got.cpu().double(), expected, rtol=1e-5, atol=1e-5)


@on_both_layouts
def test_link_bce(case: Any, device: torch.device) -> None:
    inputs = case.make(SEED)
    s = inputs.s.softmax(-1)
    options = {} if isinstance(inputs, Ragged) else {"mask": inputs.mask}
    graph = inputs.graph if isinstance(inputs, Ragged) else inputs.adj
    expected = hierpool.link_bce(s, graph, **options, backend="reference")
    options = {name: mask.to(device) for name, mask in options.items()}
    got = hierpool.link_bce(s.to(device, f32), graph.to(device, f32), **options, backend="triton")
    torch.testing.assert_close(got.cpu().double(), expected, rtol=1e-5, atol=1e-5)


@on_both_layouts
def test_total_variation(case: Any, device: torch.device) -> None:
    inputs = case.make(SEED)
    options = {} if isinstance(inputs, Ragged) else {"mask": inputs.mask}
    graph = inputs.graph if isinstance(inputs, Ragged) else inputs.adj
    expected = hierpool.total_variation(inputs.s, graph, **options, backend="reference")
    options = {name: mask.to(device) for name, mask in options.items()}
    got = hierpool.total_variation(
        inputs.s.to(device, f32), graph.to(device, f32), **options, backend="triton"
    )
    torch.testing.assert_close(got.variation.cpu().double(), expected.variation, rtol=1e-4, atol=1e-4)
    assert torch.equal(got.entries.cpu().double(), expected.entries)


@over(SEED, *ragged("directed-holes"))
def test_edge_distances(case: RaggedCase, device: torch.device) -> None:
    inputs = case.make(SEED)
    expected = hierpool.edge_distances(inputs.graph, inputs.x, backend="reference")
    graph = inputs.graph.to(device, f32)
    got = hierpool.edge_distances(graph, inputs.x.to(device, f32), backend="triton")
    torch.testing.assert_close(got.cpu().double(), expected, rtol=1e-5, atol=1e-5)


# ---- what a device adds ---------------------------------------------------------------------------------------------


@on_both_layouts
def test_two_runs_have_the_same_bits(case: Any, device: torch.device) -> None:
    leaves = moved(case.make(SEED, f32), device)
    upstream = upstream_of(leaves)
    assert_same_bits(step(leaves, upstream), step(leaves, upstream))


@on_both_layouts
def test_every_element_is_written(case: Any, device: torch.device) -> None:
    leaves = moved(case.make(SEED, f32), device)
    upstream = upstream_of(leaves)
    expected = step(leaves, upstream)
    torch.use_deterministic_algorithms(True)  # new memory is NaN
    try:
        got = step(leaves, upstream)
    finally:
        torch.use_deterministic_algorithms(False)
    assert_same_bits(got, expected)


@on_both_layouts
def test_nothing_waits_for_the_device(case: Any, device: torch.device) -> None:
    leaves = moved(case.make(SEED, f32), device)
    upstream = upstream_of(leaves)
    step(leaves, upstream)
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(leaves, upstream)
    finally:
        torch.cuda.set_sync_debug_mode(before)


@on_both_layouts
def test_graph_replay_has_the_same_bits(case: Any, device: torch.device) -> None:
    leaves = moved(case.make(SEED, f32), device)
    upstream = upstream_of(leaves)
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        step(leaves, upstream)
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step(leaves, upstream)
    with torch.no_grad():
        leaves.s.mul_(0.5)  # replays read what is there then
    graph.replay()
    torch.cuda.synchronize(device)
    assert_same_bits(captured, step(leaves, upstream))


@on_both_layouts
def test_kernels_run_on_the_current_stream(case: Any, device: torch.device) -> None:
    leaves = moved(case.make(SEED, f32), device)
    upstream = upstream_of(leaves)
    expected = step(leaves, upstream)
    values = leaves.s.detach().clone()
    with torch.no_grad():
        leaves.s.zero_()
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        torch.cuda._sleep(200_000_000)  # cycles in which another stream would read zeros
        with torch.no_grad():
            leaves.s.copy_(values)
        got = step(leaves, upstream)
    side.synchronize()
    assert_same_bits(got, expected)


@on_both_layouts
def test_tensors_of_another_device_than_the_current_one(case: Any, device: torch.device) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("there is one CUDA device, a second one is needed")
    other = torch.device("cuda", (device.index + 1) % torch.cuda.device_count())
    inputs = case.make(SEED, f32)
    here, there = (moved(inputs, where) for where in (device, other))
    upstream = upstream_of(here)
    got = step(there, [u.to(other) for u in upstream])
    assert all(t.device == other for t in got)
    assert_same_bits([t.to(device) for t in got], step(here, upstream))


@pytest.mark.parametrize("layout", ["dense", "sparse"])
def test_compiles_into_one_graph(layout: str, device: torch.device) -> None:
    case = DEVICE_CASES[layout == "sparse"]
    leaves = moved(case.make(SEED, f32), device)

    def loss(x: Tensor, s: Tensor) -> Tensor:
        record = leaves._replace(x=x, s=s).pool("triton")
        return record.x.square().sum() + record.adj.square().mean() + record.link_norm + record.total_entropy

    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True)
    expected, got = (function(leaves.x, leaves.s) for function in (loss, compiled))
    torch.testing.assert_close(got, expected)
    for a, b in zip(
        torch.autograd.grad(got, (leaves.x, leaves.s)),
        torch.autograd.grad(expected, (leaves.x, leaves.s)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


# ---- which backend --------------------------------------------------------------------------------------------------


def test_auto_takes_the_kernels_but_not_for_float64(device: torch.device) -> None:
    from hierpool_kernels.core.launch import watch

    inputs = find("directed-holes").make(SEED)
    with watch() as calls:
        moved(inputs._replace(x=inputs.x.float(), adj=inputs.adj.float(), s=inputs.s.float()), device).pool()
    assert calls
    wide = moved(inputs, device)
    with watch() as calls:
        record = wide.pool()
    assert not calls
    torch.testing.assert_close(record.x.cpu(), inputs.pool("reference").x)
    with pytest.raises(RuntimeError, match="not float64"):
        wide.pool("triton")
