"""What calls need of the host of a GPU: at most these launches, allocations and kernels of torch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

pytest.importorskip("triton", reason="triton is not installed")

import hierpool
from bench.__main__ import main
from bench.harness.launches import Counts, count, host_us, without_device
from bench.ops import launches
from bench.ops.launches import CALLS, measure
from hierpool import _tracing
from hierpool.backends.reference import graph_build
from hierpool.backends.triton import _availability
from hierpool.graph import build
from hierpool_kernels.core.launch import launch, watch
from hierpool_kernels.core.tensors import workspace
from tests.support.waiting import counted

# (launches, allocations, kernels of torch), forward and backward. A change may lower them.
LIMITS = {
    "dense_diff_pool, mask": ((2, 10, 4), (1, 3, 0)),
    "dense_diff_pool": ((2, 10, 1), (1, 3, 0)),
    "dense_mincut_pool, mask": ((4, 15, 4), (2, 6, 0)),
    "DMoNPooling, mask": ((4, 15, 8), (2, 7, 7)),
    "soft_pool, CSR": ((2, 11, 3), (1, 3, 0)),
    "diff_pool, CSR": ((2, 11, 3), (1, 3, 2)),
    "spmm": ((2, 2, 0), (2, 2, 0)),
}


class Sizes(TorchDispatchMode):
    """The shapes of the results of all operations."""

    def __init__(self) -> None:
        super().__init__()
        self.results: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self.results.append(tuple(out.shape))
        return out


@pytest.fixture
def no_device() -> Iterator[None]:
    with without_device():
        yield


@pytest.mark.usefixtures("no_device")
@pytest.mark.parametrize("name", CALLS)
def test_a_call_needs_no_more(name: str) -> None:
    row = measure(CALLS[name](hierpool))
    for found, limits in zip((row.forward, row.backward), LIMITS[name], strict=True):
        assert all(is_ <= most for is_, most in zip(found, limits, strict=True)), (found, limits)


@pytest.mark.usefixtures("no_device")
@pytest.mark.parametrize("name", CALLS)
def test_a_call_waits_for_nothing_so_that_it_can_be_captured(name: str) -> None:
    forward, leaves = CALLS[name](hierpool)

    def both() -> None:
        results = [t for t in forward() if t.requires_grad]
        torch.autograd.grad(results, leaves, [torch.ones_like(t) for t in results])

    both()
    _, waits, sorts = counted(both)
    assert (waits, sorts) == ([], [])


@pytest.mark.usefixtures("no_device")
def test_what_is_allocated_follows_from_shapes() -> None:
    sizes = []
    for nodes in (24, 1, 10, 24):  # the first call makes constants
        mask = torch.arange(24) < torch.tensor([[24], [nodes]])
        x, s = torch.randn(2, 24, 8, requires_grad=True), torch.randn(2, 24, 15, requires_grad=True)
        adj = (torch.rand(2, 24, 24) < nodes / 24).float()
        with mock.patch.object(_tracing, "is_in_torch_dispatch_mode", return_value=False), Sizes() as found:
            results = hierpool.dense_mincut_pool(x, adj, s, mask)
            torch.autograd.grad([t.sum() for t in results], (x, s))
        sizes.append(found.results)
    assert sizes[1] == sizes[2] == sizes[3]
    assert len(sizes[0]) > 20


@pytest.mark.usefixtures("no_device")
def test_link_bce_takes_the_transpose_that_the_graph_keeps() -> None:
    graph = hierpool.RaggedGraph.from_edge_index(torch.tensor([[0, 1, 2], [1, 2, 0]]), 3)
    s = torch.rand(3, 2, requires_grad=True)

    def both() -> None:
        torch.autograd.grad(hierpool.link_bce(s, graph), s)

    with mock.patch.object(build, "_backend", return_value=graph_build):
        assert [len(counted(both)[2]) for _ in range(3)] == [1, 0, 0]


@pytest.mark.usefixtures("no_device")
def test_every_launch_reaches_the_driver() -> None:
    forward, _ = CALLS["spmm"](hierpool)
    with watch() as calls:
        counts, _ = count(forward)
    assert [call.name for call in calls] == ["_long_rows_kernel", "_spmm_kernel"]
    assert counts.launches == 2


@pytest.mark.parametrize(("current", "entered"), [(0, [1]), (1, [])])
def test_a_kernel_is_launched_on_the_device_of_its_tensors(
    monkeypatch: pytest.MonkeyPatch, current: int, entered: list[int]
) -> None:
    found: list[int] = []
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext(found.append(device.index)))
    kernel = SimpleNamespace(run=lambda *arguments, grid, warmup: None)
    with FakeTensorMode():
        tensor = torch.empty(2, device="cuda:1")
    launch(kernel, (1,), None, tensor)
    assert found == entered
    launch(kernel, (1,), None, torch.empty(2))
    assert found == entered


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_parts_of_a_workspace_are_aligned_and_apart(dtype: torch.dtype) -> None:
    sizes, doubles = (33, 0, 7), (5, 1)
    for parts in (
        workspace(torch.empty(0), dtype, *sizes),
        workspace(torch.empty(0), dtype, *sizes, doubles=doubles),
    ):
        assert [part.dtype for part in parts] == [dtype] * 3 + [torch.float64] * (len(parts) - 3)
        begins = [part.storage_offset() * part.itemsize for part in parts]
        assert all(begin % 128 == 0 for begin in begins)
        ends = [begin + part.nbytes for begin, part in zip(begins, parts, strict=True)]
        assert all(begin >= end for begin, end in zip(begins[1:], ends, strict=False))
        wanted = (*sizes, *doubles)[: len(parts)]
        assert all(part.numel() >= size for part, size in zip(parts, wanted, strict=True))


@pytest.mark.usefixtures("no_device")
def test_what_counts_as_a_kernel() -> None:
    a = torch.ones(4, 6)
    assert count(lambda: (a.mT.view(2, 3, 4), a[:, 1:], a.detach(), a.expand(2, 4, 6)))[0] == Counts(0, 0, 0)
    assert count(lambda: (torch.empty(3), a.new_empty(3), torch.empty_like(a)))[0] == Counts(0, 3, 0)
    assert count(lambda: (a + 1, a.clone(), a.contiguous(), a.zero_()))[0] == Counts(0, 0, 3)


def test_the_time_of_a_call() -> None:
    times: list[None] = []
    assert 0 < host_us(lambda: times.append(None), calls=20) < 1e4
    assert len(times) == 20


def test_the_command_prints_a_row_for_each_call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("torch_geometric")
    monkeypatch.setattr(launches, "host_us", lambda call: 12.0)
    monkeypatch.setattr(launches, "CALLS", {name: CALLS[name] for name in ("spmm", "dense_diff_pool")})
    assert main(["launches"]) == 0
    _, spmm, dense, *_ = (re.split(r"  +", line) for line in capsys.readouterr().out.splitlines())
    name, forward, backward, *rest = spmm
    assert (name, rest) == ("spmm", ["12", "12", *["-"] * 4])
    assert all(re.fullmatch(r"[1-9] \+ 0, [1-9]", counts) for counts in (forward, backward))
    assert all(re.fullmatch(r"0 \+ [1-9]\d, 0", counts) for counts in dense[-4:-2])


def test_the_interpreter_has_no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_availability, "interpreted", lambda: True)
    with pytest.raises(RuntimeError, match="without TRITON_INTERPRET=1"), without_device():
        pass
