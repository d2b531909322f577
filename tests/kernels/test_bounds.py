"""The interpreter's run fails where a kernel reads or writes outside of its tensors."""

from __future__ import annotations

import pytest
import torch

triton = pytest.importorskip("triton", reason="triton is not installed")

import triton.language as tl


@triton.jit
def _shift_kernel(a_ptr, out_ptr, FROM, TO, N, BN: tl.constexpr):
    """N elements, from a place of one tensor to a place of another."""
    o_n = tl.arange(0, BN)
    a = tl.load(a_ptr + FROM + o_n, mask=o_n < N, other=0)
    tl.store(out_ptr + TO + o_n, a, mask=o_n < N)


@triton.jit
def _one_kernel(a_ptr, out_ptr, FROM, TO):
    tl.store(out_ptr + TO, tl.load(a_ptr + FROM))


@triton.jit
def _add_kernel(out_ptr, TO):
    tl.atomic_add(out_ptr + TO, 1.0)


@pytest.fixture
def tensors() -> tuple[torch.Tensor, torch.Tensor]:
    """Views with other elements of their storages on both sides."""
    return torch.arange(24.0)[8:16], torch.zeros(24)[8:16]


def test_whole_tensors_are_copied(tensors: tuple[torch.Tensor, torch.Tensor]) -> None:
    a, out = tensors
    _shift_kernel[(1,)](a, out, 0, 0, 8, BN=16)
    assert torch.equal(a, out)
    _shift_kernel[(1,)](a, out, 9, 9, 0, BN=16)  # an address that is masked is not used
    _one_kernel[(1,)](a[1::3], out[1::3], 6, 3)
    assert out.tolist() == [8, 9, 10, 11, 15, 13, 14, 15]


@pytest.mark.parametrize(("start", "to", "what"), [(1, 0, "reads 1"), (-1, 0, "reads 1"), (0, 3, "writes 3")])
def test_addresses_outside(
    tensors: tuple[torch.Tensor, torch.Tensor], start: int, to: int, what: str
) -> None:
    with pytest.raises(Exception, match=f"_shift_kernel {what} addresses outside of its tensors"):
        _shift_kernel[(1,)](*tensors, start, to, 8, BN=16)


def test_scalars_and_sums_outside(tensors: tuple[torch.Tensor, torch.Tensor]) -> None:
    a, out = tensors
    with pytest.raises(Exception, match="_one_kernel reads 1"):
        _one_kernel[(1,)](a[:0], out, 0, 0)
    with pytest.raises(Exception, match="_one_kernel writes 1"):
        _one_kernel[(1,)](a[:1].expand(4), out[:2], 0, 2)
    with pytest.raises(Exception, match="_one_kernel reads 1"):
        _one_kernel[(1,)](a[:1].expand(4), out, 1, 0)
    with pytest.raises(Exception, match="_add_kernel writes 1"):
        _add_kernel[(1,)](out, 8)
