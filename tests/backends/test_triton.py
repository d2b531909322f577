"""Whether the Triton kernels can run: every reason why they cannot, in the words a user is told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from hierpool import backends
from hierpool.backends.triton import _availability
from tests.support.calls import Example, examples
from tests.support.running import INTERPRETED

OP = "soft_pool"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What was found out is forgotten before and after; the kernels are taken for installed."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    cached = (_availability._missing, _availability._device_reason)
    for function in cached:
        function.cache_clear()
    monkeypatch.setattr(_availability, "version", lambda: "3.7.1")
    yield
    for function in cached:
        function.cache_clear()


@pytest.fixture
def a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    monkeypatch.setattr(torch.version, "hip", None)


def reason(device: str = "cuda", has_float64: bool = False) -> str | None:
    return _availability.unavailable_reason(device, has_float64)


@pytest.mark.usefixtures("a_device")
def test_they_run_on_a_device() -> None:
    assert reason() is None
    for op in backends.operators_of("triton"):
        assert backends.select(op, "cuda") == "triton"
        assert backends.available(op, "cuda") == ["triton", "reference"]


@pytest.mark.usefixtures("a_device")
def test_float64_goes_to_the_reference() -> None:
    assert reason(has_float64=True) == "the kernels take float32, bfloat16 and float16, not float64"
    assert backends.select(OP, "cuda", has_float64=True) == "reference"
    with pytest.raises(RuntimeError, match=r"backend 'triton' cannot run soft_pool on cuda: .* not float64"):
        backends.select(OP, "cuda", "triton", has_float64=True)


@pytest.mark.usefixtures("a_device")
def test_operators_without_a_kernel() -> None:
    without = set(backends.operators()) - backends.operators_of("triton")
    of_graphs = {
        "coalesce",
        "graph_assign",
        "graph_build",
        "graph_contract",
        "graph_product",
        "kron",
        "selection",
    }
    of_graphs |= {"triple_product"}
    of_layers = {
        "cut_pool",
        "edge_pool",
        "linear_maps",
        "scored_pool",
        "sage_stack",
        "segment_max",
        "spmm_max",
    }
    assert without == of_graphs | of_layers
    assert backends.select("sage_stack", "cuda") == "reference"
    with pytest.raises(
        RuntimeError,
        match="backend 'triton' cannot run sage_stack on cuda: the triton backend does not have this",
    ):
        backends.select("sage_stack", "cuda", "triton")


@pytest.mark.usefixtures("a_device")
def test_what_has_to_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_availability, "version", lambda: None)
    assert reason() == "triton is not installed; install it with: pip install 'hierpool[triton]'"
    _availability._missing.cache_clear()
    monkeypatch.setattr(_availability, "version", lambda: "3.4.0+git1")
    assert reason() == "the kernels need triton 3.5 or newer, this is triton 3.4.0+git1"
    _availability._missing.cache_clear()
    monkeypatch.setattr(_availability, "version", lambda: "3.10.0")
    monkeypatch.setattr(_availability.util, "find_spec", lambda name: None)
    assert (
        reason()
        == "the package hierpool_kernels, which is part of the installation of hierpool, cannot be found"
    )


@pytest.mark.usefixtures("a_device")
def test_a_device_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (7, 5))
    assert reason() == "the kernels need compute capability 8.0 (Ampere) or newer, device 0 has 7.5"
    assert backends.select(OP, "cuda") == "reference"


def test_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    assert reason() == "this torch is built without CUDA"
    _availability._device_reason.cache_clear()
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    assert reason() == "torch does not find a CUDA device"


@pytest.mark.parametrize("device", ["cpu", "mps", "meta"])
def test_other_devices(device: str) -> None:
    text = reason(device=device)
    assert text is not None
    assert text.startswith(f"the kernels run on CUDA tensors, not on {device};")
    assert "TRITON_INTERPRET=1" in text


def test_the_interpreter_takes_tensors_of_the_cpu_if_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert reason("cpu", has_float64=True) is None
    assert backends.select(OP, "cpu") != "triton"
    assert backends.select(OP, "cpu", "triton") == "triton"
    (verdict,) = (v for v in backends.explain(("cpu",)) if (v.op, v.backend) == (OP, "triton"))
    assert not verdict.runs
    assert verdict.reason.startswith("runs if it is named; ")


@pytest.mark.skipif(INTERPRETED, reason="the kernels run in Triton's interpreter")
@pytest.mark.parametrize("example", examples("dense", "ragged"), ids=str)
def test_a_named_backend_raises_its_reason(example: Example) -> None:
    if example.name not in backends.operators_of("triton"):
        return  # another reason: test_operators_without_a_kernel
    with pytest.raises(
        RuntimeError, match=f"backend 'triton' cannot run {example.name} on cpu: the kernels run on CUDA"
    ):
        example.run(example.draw(), {}, "triton")
