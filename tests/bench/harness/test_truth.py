"""Wrong results are refused, and right ones are not."""

from __future__ import annotations

import pytest
import torch

from bench.harness import truth
from tests.bench.toys import loaded, off, small_batch


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_right_result_is_accepted(symmetric):
    pool, batch = loaded("pyg"), small_batch(symmetric=symmetric)
    verdict = truth.verify(pool, batch, truth.truth_of(batch, pool))
    assert verdict.ok, verdict.failures
    assert len(verdict.errors) == 4 + 2 * 5


@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize(("value", "gradient"), [(1e-4, 0.0), (0.0, 1e-2), (float("nan"), 0.0)])
def test_a_slightly_wrong_result_is_refused(which, value, gradient):
    right, batch = loaded("pyg"), small_batch()
    verdict = truth.verify(off(right, which, value, gradient), batch, truth.truth_of(batch, right))
    assert not verdict.ok
    name = batch.output_names[which]
    assert all(name in failure or "from all" in failure for failure in verdict.failures)


def test_only_peers_are_allowed_the_drift_of_a_float32_norm(monkeypatch):
    right, batch = loaded("pyg"), small_batch()
    monkeypatch.setattr(truth, "norm_drift", lambda entries: 1e-3)
    true = truth.truth_of(batch, right)
    link, adj = (off(right, batch.output_names.index(name), value=5e-4) for name in ("link", "adj"))
    assert truth.verify(link, batch, true, fp32_norm=True).ok
    assert not truth.verify(link, batch, true).ok
    assert not truth.verify(adj, batch, true, fp32_norm=True).ok


def test_another_shape_is_refused():
    verdict = truth.Verdict()
    verdict.judge("x", torch.zeros(2, 3), torch.zeros(3, 2), 1.0)
    assert verdict.failures == ["x: shape (2, 3), expected (3, 2)"]
