"""Bad arguments: each a ValueError or TypeError that names the argument, what was given and what was expected."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool import dense_diff_pool, soft_pool

B, N, K, F = 2, 4, 3, 5


def arguments() -> dict[str, Any]:
    return {"x": torch.ones(B, N, F), "adj": torch.ones(B, N, N), "s": torch.zeros(B, N, K)}


def assert_raises(
    kind: type[Exception], fragments: tuple[str, ...], function: Callable, **changes: Any
) -> None:
    with pytest.raises(kind) as caught:
        function(**(arguments() | changes))
    message = str(caught.value)
    for fragment in fragments:
        assert fragment in message, f"{fragment!r} is not in {message!r}"


SHAPES = [
    ("x", torch.ones(N, F), ("x must have shape [B, N, F] = [2, 4, F]", "(4, 5)")),
    ("x", torch.ones(B, N + 1, F), ("x must have shape", "[2, 4, F]", "(2, 5, 5)")),
    ("x", torch.ones(B + 1, N, F), ("x must have shape", "[2, 4, F]", "(3, 4, 5)")),
    ("adj", torch.ones(N, N), ("adj must have shape", "[2, 4, 4]", "(4, 4)")),
    ("adj", torch.ones(B, N, N + 1), ("adj must have shape", "[2, 4, 4]", "(2, 4, 5)")),
    ("adj", torch.ones(B, N + 1, N), ("adj must have shape", "[2, 4, 4]", "(2, 5, 4)")),
    ("adj", torch.ones(1, N, N), ("adj must have shape", "[2, 4, 4]", "(1, 4, 4)")),
    ("adj", torch.ones(B, 0, N, N), ("adj must have at least one edge type", "(2, 0, 4, 4)")),
    ("adj", torch.ones(1, B, 1, N, N), ("adj must have shape", "(1, 2, 1, 4, 4)")),
    ("s", torch.zeros(N, K), ("s must have shape [B, N, K]", "(4, 3)")),
    ("s", torch.zeros(B, N, 0), ("s must have at least one cluster", "(2, 4, 0)")),
    ("mask", torch.ones(B, N + 1), ("mask must have shape [B, N] = [2, 4]", "(2, 5)")),
    ("mask", torch.ones(B, N, 1), ("mask must have shape [B, N] = [2, 4]", "(2, 4, 1)")),
    ("mask", torch.ones(N), ("mask must have shape [B, N] = [2, 4]", "(4,)")),
    ("num_nodes", torch.ones(B + 1, dtype=torch.int64), ("num_nodes must have shape [B] = [2]", "(3,)")),
    ("num_nodes", torch.ones(B, 1, dtype=torch.int64), ("num_nodes must have shape [B] = [2]", "(2, 1)")),
    ("num_nodes", torch.tensor(3), ("num_nodes must have shape [B] = [2]", "()")),
]


@pytest.mark.parametrize(
    ("name", "value", "fragments"), SHAPES, ids=[f"{name}-{tuple(value.shape)}" for name, value, _ in SHAPES]
)
def test_shape(name: str, value: Tensor, fragments: tuple[str, ...]) -> None:
    assert_raises(ValueError, fragments, soft_pool, **{name: value})


DTYPES = [
    ("x", torch.int64, "float32, float64, bfloat16, float16"),
    ("x", torch.bool, "float32, float64, bfloat16, float16"),
    ("x", torch.complex64, "float32, float64, bfloat16, float16"),
    ("adj", torch.int64, "bool, int8, uint8"),
    ("adj", torch.complex64, "bool, int8, uint8"),
    ("s", torch.int32, "float32, float64, bfloat16, float16"),
]


@pytest.mark.parametrize(("name", "dtype", "expected"), DTYPES, ids=str)
def test_dtype(name: str, dtype: torch.dtype, expected: str) -> None:
    value = arguments()[name].to(dtype)
    given = f"got {str(dtype).removeprefix('torch.')}"
    assert_raises(TypeError, (f"{name} must have dtype", expected, given), soft_pool, **{name: value})


def test_dtype_of_num_nodes() -> None:
    fragments = ("num_nodes must have dtype int64", "got float32")
    assert_raises(TypeError, fragments, soft_pool, num_nodes=torch.ones(B))


@pytest.mark.parametrize("name", ["x", "adj", "s", "mask", "num_nodes"])
def test_not_a_tensor(name: str) -> None:
    fragments = (f"{name} must be a torch.Tensor", "got list")
    assert_raises(TypeError, fragments, soft_pool, **{name: [[1.0]]})


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr], ids=str)
@pytest.mark.parametrize("name", ["x", "adj", "s"])
def test_sparse_layout(name: str, layout: torch.layout) -> None:
    value = arguments()[name].to_sparse(layout=layout)
    fragments = (f"{name} must be a dense (strided) tensor", f"got layout {layout}", f"{name}.to_dense()")
    assert_raises(TypeError, fragments, soft_pool, **{name: value})


@pytest.mark.parametrize("name", ["x", "adj", "mask", "num_nodes", "temperature"])
def test_device_disagrees(name: str) -> None:
    values = arguments() | {
        "mask": torch.ones(B, N),
        "num_nodes": torch.ones(B, dtype=torch.int64),
        "temperature": torch.tensor(2.0),
    }
    fragments = (f"{name} must be on the device of s", "cpu", "got meta")
    assert_raises(ValueError, fragments, soft_pool, **{name: values[name].to("meta")})


def test_mask_and_num_nodes() -> None:
    both = {"mask": torch.ones(B, N), "num_nodes": torch.ones(B, dtype=torch.int64)}
    assert_raises(ValueError, ("mask and num_nodes", "give one of them"), soft_pool, **both)


@pytest.mark.parametrize("counts", [[-1, 2], [2, N + 1]], ids=str)
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_num_nodes_out_of_range(counts: list[int], backend: str) -> None:
    fragments = ("num_nodes must lie between 0 and N = 4", f"from {min(counts)} to {max(counts)}")
    assert_raises(ValueError, fragments, soft_pool, num_nodes=torch.tensor(counts), backend=backend)


CHOICES = [
    ("assignment", "hard", "'softmax', 'given'"),
    ("assignment", None, "'softmax', 'given'"),
    ("link_loss", "bce", "None, 'frobenius'"),
    ("link_loss", True, "None, 'frobenius'"),
    ("backend", "cuda", "'auto', 'native', 'triton', 'reference'"),
    ("backend", None, "'auto', 'native', 'triton', 'reference'"),
]


@pytest.mark.parametrize(("name", "value", "expected"), CHOICES, ids=str)
def test_unknown_choice(name: str, value: object, expected: str) -> None:
    fragments = (f"{name} must be one of", expected, f"got {value!r}")
    assert_raises(ValueError, fragments, soft_pool, **{name: value})


def test_gram_is_needed_by_the_link_loss() -> None:
    fragments = ("gram=False", "link_loss='frobenius'", "pass link_loss=None")
    assert_raises(ValueError, fragments, soft_pool, gram=False)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")], ids=str)
def test_temperature_as_a_number(value: float) -> None:
    fragments = ("temperature must be positive and finite", f"got {value}")
    assert_raises(ValueError, fragments, soft_pool, temperature=value)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")], ids=str)
def test_temperature_as_a_tensor(value: float) -> None:
    fragments = ("temperature must be positive and finite", f"got {value}")
    assert_raises(ValueError, fragments, soft_pool, temperature=torch.tensor(value))


def test_temperature_of_another_shape_or_type() -> None:
    fragments = ("temperature must be a float or a 0-d tensor", "(1,)")
    assert_raises(ValueError, fragments, soft_pool, temperature=torch.ones(1))
    assert_raises(TypeError, ("temperature must be a float", "got str"), soft_pool, temperature="1")
    assert_raises(TypeError, ("temperature must be a float", "got bool"), soft_pool, temperature=True)
    integer = torch.tensor(2)
    assert_raises(TypeError, ("temperature must have dtype", "got int64"), soft_pool, temperature=integer)


@pytest.mark.parametrize("temperature", [0.5, torch.tensor(0.5)], ids=["float", "tensor"])
def test_temperature_of_a_given_assignment(temperature: float | Tensor) -> None:
    fragments = ("temperature has no meaning with assignment='given'",)
    assert_raises(ValueError, fragments, soft_pool, temperature=temperature, assignment="given")


def test_named_backend_that_cannot_run_says_why() -> None:
    meta = {name: value.to("meta") for name, value in arguments().items()}
    reason = (
        "backend 'native' cannot run soft_pool_dense on meta: the C++ kernels run on CPU tensors, not on meta"
    )
    with pytest.raises(RuntimeError, match=re.escape(reason)):
        soft_pool(**meta, backend="native")
    record = soft_pool(**meta)
    assert record.adj.shape == (B, K, K)
    assert record.adj.device.type == "meta"


def test_unknown_instruction_set(native: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIERPOOL_CPU_ISA", "sse9")
    expected = "HIERPOOL_CPU_ISA must be one of scalar, avx2, avx512, got 'sse9'"
    with pytest.raises(ValueError, match=re.escape(expected)):
        soft_pool(**arguments(), backend=native)


DROP_IN = [
    ("mask", torch.ones(B, N + 1), ValueError, ("mask must be viewable as [B, N] = [2, 4]", "(2, 5)")),
    ("mask", [1], TypeError, ("mask must be a torch.Tensor", "list")),
    ("adj", torch.ones(B, 1, N, N), ValueError, ("adj must have shape [B, N, N] or [N, N]", "(2, 1, 4, 4)")),
    ("adj", None, TypeError, ("adj must be a torch.Tensor", "NoneType")),
    ("x", torch.ones(F), ValueError, ("x must have shape", "(5,)")),
    ("s", torch.zeros(K), ValueError, ("s must have shape", "(3,)")),
    ("s", [0], TypeError, ("s must be a torch.Tensor", "list")),
    ("backend", "gpu", ValueError, ("backend must be one of", "'gpu'")),
]


@pytest.mark.parametrize(
    ("name", "value", "kind", "fragments"),
    DROP_IN,
    ids=[f"{name}-{kind.__name__}" for name, _, kind, _ in DROP_IN],
)
def test_drop_in(name: str, value: object, kind: type[Exception], fragments: tuple[str, ...]) -> None:
    assert_raises(kind, fragments, dense_diff_pool, **{name: value})


@pytest.mark.parametrize("value", [1, "yes"], ids=repr)
@pytest.mark.parametrize("name", ["symmetric", "gram"])
def test_flag(name: str, value: object) -> None:
    assert_raises(
        TypeError, (f"{name} must be True, False or None", f"got {value!r}"), soft_pool, **{name: value}
    )


@pytest.mark.parametrize("value", [None, 1, "yes"])
def test_entropy_is_a_bool(value):
    assert_raises(TypeError, ("entropy must be True or False", f"got {value!r}"), soft_pool, entropy=value)
