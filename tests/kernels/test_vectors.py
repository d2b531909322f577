"""A dense A whose side is a multiple of 16 is read in vectors that may reach beyond the last node of a graph."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="triton is not installed")

from hierpool.backends.triton import _layout
from hierpool_kernels.core.adjacency import Csr, Dense, strides_of, vector_of
from hierpool_kernels.core.launch import watch
from tests.support import link, variation
from tests.support.cases import Case, Inputs
from tests.support.running import check, run

SEED = 17
f32, bf16 = torch.float32, torch.bfloat16
N = 272  # a whole tile of columns, and a vector
CASE = Case("vectors", b=2, n=N, k=5, f=3, directed=True, valid="num_nodes", sizes=(N, 257))


def with_holes(inputs: Inputs, *rows: int) -> Inputs:
    """The same graphs with a mask in place of sizes, in which these rows of the first are no nodes."""
    mask = inputs.valid.clone()
    mask[0, list(rows)] = False
    return inputs._replace(mask=mask, num_nodes=None)


INPUTS = {
    "sizes": lambda dtype: CASE.make(SEED, dtype),
    "mask": lambda dtype: with_holes(CASE.make(SEED, dtype)),
    "hole-behind-whole-tiles": lambda dtype: with_holes(CASE.make(SEED, dtype), 260),
    "hole-in-front": lambda dtype: with_holes(CASE.make(SEED, dtype), 255),
    "transposed": lambda dtype: replace(CASE, layout="transposed").make(SEED, dtype),
    "types": lambda dtype: replace(CASE, r=2).make(SEED, dtype),
}


def spoil(adj: Tensor, valid: Tensor) -> Tensor:
    """A with NaN wherever one of the nodes is none, laid out as it is: sums may depend on that."""
    both = valid[:, None] & valid[..., None]
    return adj.detach().clone().masked_fill_(~(both if adj.dim() == 3 else both[:, None]), torch.nan)


@pytest.mark.parametrize(("name", "dtype"), [*((name, f32) for name in INPUTS), ("mask", bf16)])
def test_soft_pooling(name: str, dtype: torch.dtype) -> None:
    inputs = INPUTS[name](dtype)
    with watch() as calls:
        check(inputs, "triton")
    assert {call.options["VECTOR"] for call in calls if "VECTOR" in call.options} == {16}
    clean, grads, upstream = run(inputs, "triton")
    dirty, dirty_grads, _ = run(inputs._replace(adj=spoil(inputs.adj, inputs.valid)), "triton", upstream)
    assert all(torch.equal(a, b) for a, b in zip(clean[:8], dirty[:8], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(grads, dirty_grads, strict=True))


def test_a_mask_of_integers_gives_the_bits_of_one_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As kernels of sm_100 take it."""
    inputs = INPUTS["hole-in-front"](f32)
    out, grads, upstream = run(inputs, "triton")
    monkeypatch.setattr(_layout, "wide_mask", lambda target: True)
    with watch() as calls:
        other, other_grads, _ = run(inputs, "triton", upstream)
    tensors = [t for call in calls for t in call.arguments if isinstance(t, Tensor)]
    assert {t.dtype for t in tensors if t.shape == inputs.mask.shape} == {torch.int32}
    assert all(torch.equal(a, b) for a, b in zip((*out[:8], *grads), (*other[:8], *other_grads), strict=True))


@pytest.mark.parametrize(
    "values", [lambda *a: link.values(*a, upstream=-1.7), variation.padded_values], ids=["link", "variation"]
)
@pytest.mark.parametrize("valid", ["num_nodes", "holes"])
def test_losses(values, valid: str) -> None:
    inputs = link.make(Case("small", b=2, n=48, k=5, directed=True, valid=valid), SEED, f32)
    link.check(inputs, "triton")
    with watch() as calls:
        clean, dirty = (
            values(one, "triton") for one in (inputs, inputs._replace(adj=spoil(inputs.adj, inputs.valid)))
        )
    assert {call.options["VECTOR"] for call in calls if "VECTOR" in call.options} == {16}
    assert all(torch.equal(a, b) for a, b in zip(clean, dirty, strict=True))


@pytest.mark.parametrize(("n", "vector"), [(16, 16), (48, 16), (8, 1), (20, 1), (33, 1)])
def test_only_whole_vectors_are_read(n: int, vector: int) -> None:
    a = torch.zeros(2, n, n)
    assert vector_of(a) == Dense(a).vector == vector
    assert vector_of(a.mT) == vector
    assert Csr(a, a, None).vector == 1


def test_strides_of_graphs_count_vectors() -> None:
    a = torch.zeros(2, 3, 48, 48)
    assert strides_of(a) == Dense(a).strides == (3 * 48 * 3, 48 * 3, 48, 1)
    assert strides_of(a.mT) == (3 * 48 * 3, 48 * 3, 1, 48)
    other = torch.zeros(2 * 48 * 48 + 8).as_strided((2, 48, 48), (48 * 48 + 8, 48, 1))
    assert (vector_of(other), strides_of(other)) == (1, other.stride())
    assert strides_of(a[..., :33, :33]) == a.stride()
