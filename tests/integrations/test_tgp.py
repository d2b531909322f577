"""torch-geometric-pool with the patch and without: the same values and gradients in every mode."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.support.tgp import import_tgp
from tests.support.tgp_poolers import (
    MODES,
    POOLERS,
    RAW,
    Batch,
    K,
    assert_same,
    both,
    call,
    make_batch,
    make_pooler,
    results,
)

tgp_losses = import_tgp("tgp.utils.losses")

FLAGS: dict[str, dict[str, Any]] = {
    "default": {},
    "raw": RAW,
    "scaled": {"edge_weight_norm": True},
    "not transposed": {"adj_transpose": False},
}
# What a pooler has besides; its first loss keeps its weight.
EXTRA: dict[str, list[dict[str, Any]]] = {
    "DiffPool": [{"normalize_loss": True, "link_loss_coeff": 0.3, "ent_loss_coeff": 2.0}],
    "MinCutPooling": [{"cut_loss_coeff": 0.3, "ortho_loss_coeff": 2.0}],
    "DMoNPooling": [{"spectral_loss_coeff": 0.3, "cluster_loss_coeff": 2.0, "ortho_loss_coeff": 0.7}],
    "AsymCheegerCutPooling": [{"totvar_coeff": 0.785, "balance_coeff": 0.514}],
    "JustBalancePooling": [{"normalize_loss": False, "loss_coeff": 0.3}],
    "HOSCPooling": [
        {"alpha": 0.0},
        {"alpha": 1.0, "mu": 0.0},
        {"hosc_ortho": True, "mu": 0.4},
    ],
}


@pytest.fixture
def no_eps(monkeypatch: pytest.MonkeyPatch) -> None:
    """tgp's losses without the 1e-8 in their logarithms and denominators, which ours do not have."""
    monkeypatch.setattr(tgp_losses, "eps", 1e-100)


def compare(name: str, mode: str, options: dict[str, Any], b: Batch, tolerance: float) -> None:
    pooler = make_pooler(name, mode, b.x.dtype, **options)
    assert_same(*both(lambda: results(*call(pooler, b, mode))), tolerance)


def options_of(name: str, flags: dict[str, Any]) -> dict[str, Any]:
    """HOSC takes its first-order cut from what post-processing leaves, which is another test."""
    return {**flags, **RAW, "edge_weight_norm": False} if name == "HOSCPooling" else flags


@pytest.fixture
def exact(request: pytest.FixtureRequest, name: str) -> None:
    """The eps in the root of Just Balance is ours as well."""
    if name != "JustBalancePooling":
        request.getfixturevalue("no_eps")


@pytest.mark.parametrize("sparse_output", [False, True], ids=["dense out", "sparse out"])
@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", POOLERS)
@pytest.mark.usefixtures("exact")
def test_values_and_gradients(name: str, mode: str, flags: str, sparse_output: bool) -> None:
    options = {**options_of(name, FLAGS[flags]), "sparse_output": sparse_output}
    compare(name, mode, options, make_batch(), 1e-10)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "extra"), [(name, extra) for name in POOLERS for extra in EXTRA[name]])
@pytest.mark.usefixtures("exact")
def test_weights_of_losses(name: str, extra: dict[str, Any], mode: str) -> None:
    # They take the root of the number of nodes in float32.
    tolerance = 1e-7 if "hosc_ortho" in extra and mode != "unbatched" else 1e-10
    compare(name, mode, options_of(name, extra), make_batch(seed=1), tolerance)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", POOLERS)
def test_eps_of_theirs_is_all_that_remains(name: str, mode: str) -> None:
    compare(name, mode, options_of(name, {}), make_batch(seed=2), 3e-8 * K)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", POOLERS)
def test_float32(name: str, mode: str) -> None:
    compare(name, mode, options_of(name, {}), make_batch(torch.float32, seed=3), 2e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", POOLERS)
def test_one_graph_without_batch_or_weights(name: str, mode: str) -> None:
    b = make_batch(torch.float32, sizes=(9,))
    pooler = make_pooler(name, mode, torch.float32, **options_of(name, {}))

    def run() -> dict[str, Any]:
        x = (b.dense_x if mode == "dense" else b.x).clone().requires_grad_()
        out = pooler(x, (b.adj != 0).float() if mode == "dense" else b.edge_index)
        seen = results(out, {"x": x, **dict(pooler.named_parameters())})
        return {**seen, "lifted": pooler(x=out.x, so=out.so, lifting=True)}

    assert_same(*both(run), 2e-5)


@pytest.mark.parametrize("sparse_output", [False, True], ids=["dense out", "sparse out"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("lift", ["precomputed", "transpose", "inverse"])
def test_lifting(lift: str, mode: str, sparse_output: bool) -> None:
    b = make_batch(torch.float32)
    options = {"lift": lift, "sparse_output": sparse_output}
    pooler = make_pooler("DiffPool", mode, torch.float32, **options)

    def run() -> dict[str, Any]:
        out, _ = call(pooler, b, mode)
        batch = None if mode == "dense" else b.batch
        lifted = pooler(x=out.x, so=out.so, batch=batch, batch_pooled=out.batch, lifting=True)
        return {"lifted": lifted}

    assert_same(*both(run), 1e-3 if lift == "inverse" else 1e-5)


@pytest.mark.parametrize("name", POOLERS)
@pytest.mark.usefixtures("exact")
def test_sparse_matrices_of_torch(name: str) -> None:
    b = make_batch()
    n = b.x.size(0)
    matrix = torch.sparse_coo_tensor(b.edge_index, b.edge_weight, (n, n)).coalesce()
    for mode in ("sparse", "unbatched"):
        pooler = make_pooler(name, mode, sparse_output=True, **options_of(name, RAW))

        def run(pooler: Any = pooler) -> dict[str, Any]:
            out = pooler(b.x, matrix, batch=b.batch)
            edges = out.edge_index
            return {
                "x": out.x,
                "edges": edges.to_dense() if edges.is_sparse else edges,
                "form": torch.tensor(edges.is_sparse),
                "weight": out.edge_weight,
                **out.loss,
            }

        if name == "HOSCPooling" and mode == "unbatched":  # their loss compares parts of their sparse matrix
            with pytest.raises(NotImplementedError):
                run()
            continue
        assert_same(*both(run), 1e-10)


@pytest.mark.parametrize("name", POOLERS)
@pytest.mark.usefixtures("exact")
def test_dropout_draws_the_same_numbers(name: str) -> None:
    b = make_batch()
    for mode in MODES:
        pooler = make_pooler(name, mode, dropout=0.5, **options_of(name, {})).train()

        def run(pooler: Any = pooler, mode: str = mode) -> dict[str, Any]:
            torch.manual_seed(3)
            return results(*call(pooler, b, mode))

        assert_same(*both(run), 1e-10)


@pytest.mark.parametrize("name", POOLERS)
@pytest.mark.usefixtures("exact")
def test_two_levels(name: str) -> None:
    """The second takes the dense adjacency that the first made, with its gradient."""
    b = make_batch()
    first, second = (make_pooler(name, "dense", **options_of(name, {})) for _ in range(2))

    def run() -> dict[str, Any]:
        x = b.x.clone().requires_grad_()
        out = first(x, b.edge_index, b.edge_weight, batch=b.batch)
        again = second(out.x, out.edge_index)
        return results(again, {"x": x, **dict(first.named_parameters())})

    assert_same(*both(run), 1e-9)
