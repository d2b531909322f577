"""MinCut and DMoN pooling as one operator against :mod:`hierpool.losses` and :mod:`hierpool.connect`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hierpool import RaggedGraph, losses, soft_pool
from hierpool.backends.native import _library
from hierpool.connect import postprocess_adj
from hierpool.ops.cut_pool import cut_pool
from hierpool.ops.cut_terms import Kind, crossed_cluster_loss
from hierpool.ops.linear_maps import linear_maps
from tests.support.ragged import both_forms
from tests.support.running import INTERPRETED

SIZES = (6, 9, 0, 1, 4)
FEATURES, K = 4, 3
BACKENDS = ("triton",) if INTERPRETED else ("native", "reference")

Leaves = dict[str, Tensor]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "native" and (reason := _library.unavailable_reason()) is not None:
        pytest.skip(f"native backend: {reason}")
    return str(request.param)


class Problem:
    """A batch in one of its forms, and the tensors that it is made of."""

    def __init__(self, sparse: bool, directed: bool, dtype: torch.dtype = torch.float64) -> None:
        batch = both_forms(SIZES, FEATURES, directed=directed, weighted=True)
        self.sparse, self.graph = sparse, batch.graph.to(dtype=dtype)
        self.mask = None if sparse else batch.mask
        draw = torch.Generator().manual_seed(2)
        logits = torch.randn(*batch.mask.shape, K, generator=draw, dtype=torch.float64)
        x = batch.x
        value = self.graph.value
        assert value is not None
        self.leaves: Leaves = {
            "x": batch.nodes if sparse else x,
            "s": logits[batch.mask] if sparse else logits,
            "adj": value.clone() if sparse else batch.adj,
        }
        self.maps: Leaves = {
            "w1": torch.randn(5, FEATURES, generator=draw, dtype=torch.float64),
            "b1": torch.randn(5, generator=draw, dtype=torch.float64),
            "w2": torch.randn(K, 5, generator=draw, dtype=torch.float64),
            "b2": torch.randn(K, generator=draw, dtype=torch.float64),
        }
        for tensors in (self.leaves, self.maps):
            for name, tensor in tensors.items():
                tensors[name] = tensor.to(dtype).detach().clone().requires_grad_()

    def adjacency(self) -> Tensor | RaggedGraph:
        value = self.leaves["adj"]
        return self.graph.with_value(value) if self.sparse else value

    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        return [(self.maps["w1"], self.maps["b1"]), (self.maps["w2"], self.maps["b2"])]


def composed(problem: Problem, kind: str, maps: bool, selu: bool, **options: Any) -> list[Tensor]:
    """X', A', the losses, S and sizes."""
    x, s = problem.leaves["x"], problem.leaves["s"]
    if maps:
        s = linear_maps(x, problem.pairs(), problem.mask)
    record = soft_pool(
        x,
        problem.adjacency(),
        s,
        mask=problem.mask,
        link_loss=None,
        gram=True,
        backend="reference",
        **options,
    )
    out = postprocess_adj(record.adj, remove_self_loops=True, degree_norm=True)
    if kind == "mincut":
        terms = [losses.mincut_loss(record), losses.orthogonality_loss(record)]
    else:
        cluster = (crossed_cluster_loss if kind == "crossed" else losses.cluster_loss)(record)
        terms = [losses.spectral_loss(record), losses.orthogonality_loss(record), cluster]
    return [F.selu(record.x) if selu else record.x, out, *terms, record.s, record.size]


def fused(problem: Problem, kind: str, maps: bool, selu: bool, backend: str, **options: Any) -> list[Tensor]:
    """X', A', the losses and S; for MinCut, sizes."""
    x, s, adj = problem.leaves["x"], problem.leaves["s"], problem.adjacency()
    losses_of = ("first", "ortho") if kind == "mincut" else ("first", "ortho", "cluster")
    wanted = ("x", "adj", *losses_of, "s", *(("size",) if kind == "mincut" else ()))
    logits = problem.pairs() if maps else s
    which = {"mincut": Kind.MINCUT, "dmon": Kind.DMON, "crossed": Kind.DMON_CROSSED}[kind]
    return list(cut_pool(which, wanted, x, adj, logits, problem.mask, selu=selu, backend=backend, **options))


def upstream(outputs: list[Tensor]) -> list[Tensor]:
    draw = torch.Generator().manual_seed(3)
    return [torch.randn(t.shape, generator=draw, dtype=torch.float64).to(t.dtype) for t in outputs]


def gradients(outputs: list[Tensor], leaves: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(outputs, leaves, upstream(outputs), retain_graph=True, allow_unused=True))


CASES = [
    (kind, maps, selu)
    for kind, maps, selu in (
        ("mincut", False, False),
        ("dmon", False, False),
        ("dmon", True, True),
        ("crossed", False, True),
        ("crossed", True, False),
    )
]


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(("kind", "maps", "selu"), CASES)
def test_equals_the_formulas(
    backend: str, kind: str, maps: bool, selu: bool, sparse: bool, directed: bool
) -> None:
    problem = Problem(sparse, directed)
    got = fused(problem, kind, maps, selu, backend)
    expected = composed(problem, kind, maps, selu)[: len(got)]
    torch.testing.assert_close(got, expected)
    leaves = [problem.leaves["x"], problem.leaves["adj"]]
    leaves += list(problem.maps.values()) if maps else [problem.leaves["s"]]
    torch.testing.assert_close(gradients(got, leaves), gradients(expected, leaves))
    # Each output alone: the others have no gradient.
    for ours, theirs in zip(got, expected, strict=True):
        found, wanted = gradients([ours], leaves), gradients([theirs], leaves)
        for one, other, leaf in zip(found, wanted, leaves, strict=True):
            one, other = (torch.zeros_like(leaf) if g is None else g for g in (one, other))
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("wanted", ["x", "adj", "s", "w1", "b2"])
def test_gradient_of_one_input_alone(backend: str, wanted: str, sparse: bool) -> None:
    """A directed graph, of which the backward needs the transpose."""
    problem = Problem(sparse, True)
    every = {**problem.leaves, **problem.maps}
    maps = wanted in problem.maps
    expected = gradients(composed(problem, "dmon", maps, True)[:6], [every[wanted]])
    for name, tensor in every.items():
        tensor.requires_grad_(name == wanted)
    got = fused(problem, "dmon", maps, True, backend)
    pairs = [(t, w) for t, w in zip(got, upstream(got), strict=True) if t.requires_grad]
    outputs, weights = zip(*pairs, strict=True)
    torch.testing.assert_close(torch.autograd.grad(outputs, every[wanted], weights), tuple(expected))
    for tensor in every.values():
        tensor.requires_grad_(False)
    assert not any(t.requires_grad for t in fused(problem, "dmon", maps, True, backend))


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("kind", ["mincut", "dmon"])
def test_a_temperature_that_is_learned(backend: str, kind: str, sparse: bool) -> None:
    problem = Problem(sparse, False)
    temperature = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    got = fused(problem, kind, False, False, backend, temperature=temperature)
    expected = composed(problem, kind, False, False, temperature=temperature)[: len(got)]
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(gradients(got, [temperature]), gradients(expected, [temperature]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(("kind", "maps", "selu"), CASES)
def test_error_is_that_of_plain_torch(
    backend: str, kind: str, maps: bool, selu: bool, sparse: bool, dtype: torch.dtype
) -> None:
    exact, problem = Problem(sparse, False), Problem(sparse, False, dtype)
    for name, tensor in {**problem.leaves, **problem.maps}.items():
        ({**exact.leaves, **exact.maps})[name].data = tensor.detach().double()
    got = fused(problem, kind, maps, selu, backend)
    truth = composed(exact, kind, maps, selu)[: len(got)]
    plain = composed(problem, kind, maps, selu)[: len(got)]
    assert [t.dtype for t in got[:-1]] == [dtype] * (len(got) - 1)
    leaves = ["x", "s"] if not maps else ["x", *problem.maps]
    pick = [({**p.leaves, **p.maps}) for p in (problem, exact)]
    results = [
        (*got, *gradients(got, [pick[0][name] for name in leaves])),
        (*plain, *gradients(plain, [pick[0][name] for name in leaves])),
        (*truth, *gradients(truth, [pick[1][name] for name in leaves])),
    ]
    # Another exponential may round S of 16 bits to its neighbour, on which all sums are defined.
    largest = max(float(t.detach().abs().max()) for t in results[2]) if backend == "triton" else 0.0
    for ours, theirs, wanted in zip(*results, strict=True):
        assert ours.isfinite().all()
        scale = max(float(wanted.detach().abs().max()), largest)
        errors = [(t.double() - wanted).abs().max() for t in (ours, theirs)]
        assert errors[0] <= 2 * errors[1] + 8 * torch.finfo(dtype).eps * scale


def test_features_and_weights_apart_in_memory(backend: str) -> None:
    problem = Problem(False, False)
    x = torch.stack([problem.leaves["x"].detach()] * 2, -1)[..., 0].requires_grad_()
    w = problem.maps["w1"].detach().t().contiguous().t().requires_grad_()
    expected = fused(problem, "dmon", True, True, backend)
    wanted = gradients(expected, [problem.leaves["x"], problem.maps["w1"]])
    problem.leaves["x"], problem.maps["w1"] = x, w
    got = fused(problem, "dmon", True, True, backend)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(gradients(got, [x, w]), wanted)


def test_padding_reaches_nothing(backend: str) -> None:
    results = []
    for filling in (0.0, float("nan")):
        problem = Problem(False, False)
        assert problem.mask is not None
        with torch.no_grad():
            problem.leaves["x"].masked_fill_(~problem.mask[..., None], filling)
        got = fused(problem, "dmon", True, True, backend)
        results.append((*got, *gradients(got, [problem.leaves["x"], *problem.maps.values()])))
    for clean, dirty in zip(*results, strict=True):
        assert torch.equal(clean, dirty)


def test_maps_that_do_not_fit_are_refused(backend: str) -> None:
    problem = Problem(False, False)
    problem.leaves["x"] = problem.leaves["x"][..., :3]
    with pytest.raises(ValueError, match="x must have 4 features in its last dimension"):
        fused(problem, "dmon", True, True, backend)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_not_positive_is_refused(backend: str, sparse: bool, value: float) -> None:
    problem = Problem(sparse, False)
    with pytest.raises(ValueError, match="temperature must be positive and finite"):
        fused(problem, "mincut", False, False, backend, temperature=torch.tensor(value))
