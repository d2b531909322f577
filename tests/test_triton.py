"""Whether the Triton kernels can run: every reason why they cannot, in the words a user is told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import hierpool
from hierpool import RaggedGraph, _triton, backends
from tests.support.running import INTERPRETED

OP = "soft_pool_dense"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What was found out is forgotten before and after; the kernels are taken for installed."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    cached = (_triton._missing, _triton._device_reason)
    for function in cached:
        function.cache_clear()
    monkeypatch.setattr(_triton, "version", lambda: "3.7.1")
    yield
    for function in cached:
        function.cache_clear()


@pytest.fixture
def a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    monkeypatch.setattr(torch.version, "hip", None)


def reason(op: str = OP, device: str = "cuda", wide: bool = False) -> str | None:
    return _triton.unavailable_reason(op, device, wide)


@pytest.mark.usefixtures("a_device")
def test_they_run_on_a_device() -> None:
    for op in _triton.OPS:
        assert reason(op) is None
        assert backends.select(op, "cuda").name == "triton"
        assert backends.available(op, "cuda") == ["triton", "reference"]


@pytest.mark.usefixtures("a_device")
def test_float64_goes_to_the_reference() -> None:
    assert reason(wide=True) == "the kernels are for float32, bfloat16 and float16, not for float64"
    assert backends.select(OP, "cuda", wide=True).name == "reference"
    with pytest.raises(
        RuntimeError, match=r"backend 'triton' cannot run soft_pool_dense on cuda: .* not for float64"
    ):
        backends.select(OP, "cuda", "triton", wide=True)


@pytest.mark.usefixtures("a_device")
def test_operators_without_a_kernel() -> None:
    assert set(backends.OPS) - set(_triton.OPS) == {"csr", "cut_pool", "linear_maps", "unit_rows"}
    assert reason("unit_rows") == "there is no Triton kernel of it"
    assert backends.select("unit_rows", "cuda").name == "reference"


@pytest.mark.usefixtures("a_device")
def test_what_has_to_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_triton, "version", lambda: None)
    assert reason() == "triton is not installed; pip install 'hierpool[triton]' brings it"
    _triton._missing.cache_clear()
    monkeypatch.setattr(_triton, "version", lambda: "3.4.0+git1")
    assert reason() == "the kernels need triton 3.5 or newer, this is triton 3.4.0+git1"
    _triton._missing.cache_clear()
    monkeypatch.setattr(_triton, "version", lambda: "3.10.0")
    monkeypatch.setattr(_triton.util, "find_spec", lambda name: None)
    assert reason() == "the package hierpool_kernels, which is installed beside hierpool, cannot be found"


@pytest.mark.usefixtures("a_device")
def test_a_device_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (7, 5))
    assert reason() == "the kernels need compute capability 8.0 (Ampere) or newer, device 0 has 7.5"
    assert backends.select(OP, "cuda").name == "reference"


def test_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    assert reason() == "this torch is built without CUDA"
    _triton._device_reason.cache_clear()
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    assert reason() == "torch finds no CUDA device"


@pytest.mark.parametrize("device", ["cpu", "mps", "meta"])
def test_other_devices(device: str) -> None:
    text = reason(device=device)
    assert text is not None
    assert text.startswith(f"the kernels run on CUDA tensors, not on {device};")
    assert "TRITON_INTERPRET=1" in text


def test_the_interpreter_takes_tensors_of_the_cpu_if_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert reason(device="cpu", wide=True) is None
    assert backends.select(OP, "cpu").name != "triton"
    assert backends.select(OP, "cpu", "triton").name == "triton"
    (verdict,) = (v for v in backends.explain(("cpu",)) if (v.op, v.backend) == (OP, "triton"))
    assert not verdict.runs
    assert verdict.reason.startswith("runs if it is named; ")


@pytest.mark.skipif(INTERPRETED, reason="the kernels run in Triton's interpreter")
def test_a_named_backend_raises_its_reason() -> None:
    x, s = torch.rand(1, 3, 2), torch.rand(1, 3, 2)
    graph = RaggedGraph.from_edge_index(torch.tensor([[0, 1], [1, 2]]), 3)
    calls = {
        "soft_pool_dense": lambda: hierpool.soft_pool(x, torch.ones(1, 3, 3), s, backend="triton"),
        "soft_pool_csr": lambda: hierpool.soft_pool(x[0], graph, s[0], backend="triton"),
        "spmm": lambda: hierpool.spmm(graph, x[0], backend="triton"),
        "link_bce": lambda: hierpool.link_bce(s, torch.ones(1, 3, 3), backend="triton"),
        "total_variation": lambda: hierpool.total_variation(s, torch.ones(1, 3, 3), backend="triton"),
        "edge_distances": lambda: hierpool.edge_distances(graph, x[0], backend="triton"),
    }
    for op, call in calls.items():
        with pytest.raises(
            RuntimeError, match=f"backend 'triton' cannot run {op} on cpu: the kernels run on CUDA"
        ):
            call()
