"""Tensors of kinds that no function takes, in place of every tensor argument of every public function and layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.public import Example, examples

# Arguments of the shape of a tensor of ones.
ODD: dict[str, Callable[[Tensor], Any]] = {
    "float8": lambda t: t.to(torch.float8_e4m3fn),
    "complex": lambda t: t.to(torch.complex64),
    "quantised": lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.quint8),
    "nested": lambda t: torch.nested.nested_tensor(list(t), layout=torch.strided),
    "jagged": lambda t: torch.nested.nested_tensor(list(t), layout=torch.jagged),
    "coo": Tensor.to_sparse,
    "csr": Tensor.to_sparse_csr,
    "long double": lambda t: np.ones(t.shape, np.longdouble),
    "list": lambda t: [0.5],
}
NAMES = ("x", "adj", "s", "mask")
OF_POOLERS = ("logits", "assign_x")
UNUSED = {("SlotBatchNorm", "mask")}


def replaceable() -> list[Any]:
    """Examples and the names of their tensors, but edges."""
    return [
        pytest.param(example, name, id=f"{example}-{name}")
        for example in examples()
        if not example.options
        for name, value in (
            example.arguments()
            | dict.fromkeys(OF_POOLERS if example.is_pooler and not example.is_hard else ())
        ).items()
        if name in OF_POOLERS
        or (name in NAMES and isinstance(value, Tensor) and value.dtype is not torch.int64)
        if (example.name, name) not in UNUSED
    ]


@pytest.mark.filterwarnings("ignore")  # of PyTorch about the kinds of tensors
@pytest.mark.parametrize(("example", "name"), replaceable())
def test_the_argument_is_named(example: Example, name: str) -> None:
    call, given = example.make(dtype=torch.float32), example.arguments(dtype=torch.float32)
    ones = torch.ones(given["x" if name in OF_POOLERS else name].shape)
    for kind, make in ODD.items():
        try:
            call(**(given | {name: make(ones)}))
        except (TypeError, ValueError) as error:
            message = str(error)
        else:
            message = "no error"
        assert name in message.split(), f"{kind}: {message}"
