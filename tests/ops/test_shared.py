"""Arguments that all graphs share, of every function of padded batches."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from hierpool.integrations.pyg.patching import NAMES
from tests.support.public import Example, examples
from tests.support.running import BACKENDS
from tests.support.shared import assert_shared_is_expanded

# Those with a counterpart in PyTorch Geometric have its shapes of results: tests/integrations/test_pyg_shared.py.
FUNCTIONS = [
    example
    for example in examples(layers=False)
    if not example.is_sparse and example.name not in NAMES and "backend" in example.parameters
]


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
@pytest.mark.parametrize("example", FUNCTIONS, ids=str)
def test_results_and_gradients_are_those_of_copies(example: Example, backend: Any) -> None:
    assert_shared_is_expanded(example, partial(example.make(), backend=backend))
