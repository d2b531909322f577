"""The poolers beside those of torch-geometric-pool: values and gradients, and where they differ on purpose."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool.nn import POOLERS, get_pooler
from tests.support.poolers import SIZES, Batch, F, K, make_batch
from tests.support.tgp import import_tgp

# Of HOSC, where post-processing is off: else its first-order cut is taken from what post-processing leaves.
RAW: dict[str, Any] = {"remove_self_loops": False, "degree_norm": False}
CASES = [(name, RAW if name == "hosc" else {}) for name in POOLERS]
CASES += [("diff", {"normalize_loss": True}), ("hosc", {**RAW, "hosc_ortho": True, "alpha": 0.3})]
CASES += [
    ("mincut", {"remove_self_loops": False}),
    ("dmon", {"edge_weight_norm": True, "ortho_loss_coeff": 0.5}),
]
CASES += [("jb", {"normalize_loss": False, "loss_coeff": 0.7})]


def pair(name: str, dtype: torch.dtype = torch.float64, **options: Any) -> tuple[Any, Any]:
    """A pooler of theirs and ours with the same weights."""
    theirs = (
        import_tgp("tgp.poolers").get_pooler(name, in_channels=[F, 5], k=K, act="relu", **options).to(dtype)
    )
    ours = get_pooler(name, in_channels=[F, 5], k=K, act="relu", **options).to(dtype)
    mlp = theirs.selector.mlp
    ours.assignment.load_state_dict(mlp.state_dict())
    return theirs, ours


def gradients(out: Any, parameters: list[Tensor]) -> tuple[Tensor, ...]:
    weights = torch.linspace(0.5, 1.5, out.x.numel(), dtype=out.x.dtype).view(out.x.shape)
    loss = (out.x * weights).sum() + (out.edge_index * out.edge_index.detach().cos()).sum()
    return torch.autograd.grad(loss + sum(out.get_loss_value()), parameters)


def assert_equal(theirs: Any, ours: Any, theirs_out: Any, ours_out: Any, tolerance: float) -> None:
    options = {"rtol": tolerance, "atol": tolerance}
    torch.testing.assert_close(ours_out.x, theirs_out.x, **options)
    torch.testing.assert_close(ours_out.edge_index, theirs_out.edge_index, **options)
    assert set(ours_out.loss) <= set(theirs_out.loss)  # without those whose coefficient is 0
    for name, loss in theirs_out.loss.items():
        torch.testing.assert_close(ours_out.loss.get(name, 0 * loss), loss, **options)
    torch.testing.assert_close(
        gradients(ours_out, list(ours.assignment.parameters())),
        gradients(theirs_out, list(theirs.selector.mlp.parameters())),
        **options,
    )


def with_edges(dtype: torch.dtype = torch.float64) -> Batch:
    """All graphs of a batch that have edges: without one, tgp loses a graph or divides by 0."""
    b = make_batch(dtype)
    kept = torch.tensor([True, False, True, False])
    nodes = kept[b.batch]
    place = nodes.cumsum(0) - 1
    edges = nodes[b.edge_index[0]]
    number = kept.cumsum(0) - 1
    return Batch(
        b.x[nodes], place[b.edge_index[:, edges]], b.edge_weight[edges], number[b.batch[nodes]], b.padded[kept],
        b.adj[kept], b.mask[kept],
    )  # fmt: skip


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 2e-7), (torch.float32, 2e-5)])
def test_sparse_batches(name: str, options: dict[str, Any], dtype: torch.dtype, tolerance: float) -> None:
    b = with_edges(dtype)
    for suffix in ("", "_u"):
        theirs, ours = pair(name + suffix, dtype, **options)
        theirs_out = theirs(b.x, b.edge_index, b.edge_weight, batch=b.batch)
        ours_out = ours(b.x, b.edge_index, b.edge_weight, batch=b.batch)
        assert_equal(theirs, ours, theirs_out, ours_out, tolerance)
        s = theirs_out.so.s if suffix else theirs_out.so.s[b.mask]
        torch.testing.assert_close(ours_out.so.s, s, rtol=tolerance, atol=tolerance)
        assert torch.equal(ours_out.mask, theirs_out.mask)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_dense_batches(name: str, options: dict[str, Any]) -> None:
    b = with_edges()
    theirs, ours = pair(name, **options, adj_transpose=False)
    theirs_out, ours_out = theirs(b.padded, b.adj, mask=b.mask), ours(b.padded, b.adj, mask=b.mask)
    assert_equal(theirs, ours, theirs_out, ours_out, 2e-7)
    assert len(list(ours_out)) == len(list(theirs_out)) == 7
    for how in ("precomputed", "transpose", "inverse"):
        theirs, ours = pair(name, **options, lift=how)
        x = ours_out.x.float() if how == "inverse" else ours_out.x  # their pseudo-inverse is float32
        lifted = theirs(x, so=theirs_out.so, lifting=True)
        got = ours(x, so=ours_out.so, lifting=True)
        tolerance = 1e-4 if how == "inverse" else 1e-12
        torch.testing.assert_close(got, lifted, rtol=tolerance, atol=tolerance)


def test_the_first_order_cut_of_hosc_is_not_lost() -> None:
    """tgp takes it from the pooled adjacency without its diagonal, whose trace is 0."""
    b = with_edges()
    theirs, ours = pair("hosc", alpha=0.0)
    args, options = (b.x, b.edge_index, b.edge_weight), {"batch": b.batch}
    assert theirs(*args, **options).loss["hosc_loss"] == 0
    raw_theirs, _ = pair("hosc", alpha=0.0, **RAW)
    raw_theirs.load_state_dict(theirs.state_dict())
    expected = raw_theirs(*args, **options).loss["hosc_loss"]
    assert expected < -0.1
    torch.testing.assert_close(ours(*args, **options).loss["hosc_loss"], expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", POOLERS)
def test_a_last_graph_without_edges_keeps_its_place(name: str) -> None:
    """tgp's unbatched way returns one adjacency matrix less than graphs."""
    b = make_batch()
    theirs, ours = pair(f"{name}_u", **RAW)
    ours_out = ours(b.x, b.edge_index, b.edge_weight, batch=b.batch)
    assert ours_out.adj.shape == (len(SIZES), K, K)
    assert not ours_out.adj[3].any()
    try:
        theirs_out = theirs(b.x, b.edge_index, b.edge_weight, batch=b.batch)
    except RuntimeError:  # HOSC stumbles over it itself
        return
    assert theirs_out.x.size(0) == len(SIZES)
    assert theirs_out.edge_index.size(0) == len(SIZES) - 1


def test_unsorted_nodes_are_theirs() -> None:
    """tgp's dense way returns other clusters for another order of nodes."""
    b = with_edges()
    theirs, ours = pair("mincut")
    order = torch.randperm(len(b.x), generator=torch.Generator().manual_seed(1))
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    sorted_args = (b.x, b.edge_index, b.edge_weight)
    args = (b.x[order], place[b.edge_index], b.edge_weight)
    expected = ours(*sorted_args, batch=b.batch)
    torch.testing.assert_close(ours(*args, batch=b.batch[order]).x, expected.x)
    torch.testing.assert_close(theirs(*sorted_args, batch=b.batch).x, expected.x)
    assert not torch.allclose(theirs(*args, batch=b.batch[order]).x, expected.x)


def test_a_link_loss_of_zero_has_a_finite_gradient() -> None:
    """tgp's sparse way takes the root of 0 there."""
    n = 4
    edge_index = torch.ones(n, n).nonzero().t()
    weight = torch.ones(n * n, dtype=torch.float64)  # given, as theirs are float32 otherwise
    x = torch.ones(n, F, dtype=torch.float64)
    theirs, ours = pair("diff_u")
    for pooler, mlp in ((theirs, theirs.selector.mlp), (ours, ours.assignment)):
        with torch.no_grad():
            for p in mlp.parameters():
                p.zero_()
            mlp.lins[-1].bias[0] = 1000.0
        out = pooler(x, edge_index, weight, batch=torch.zeros(n, dtype=torch.int64))
        assert out.loss["link_loss"] == 0
        finite = torch.autograd.grad(out.loss["link_loss"], mlp.lins[-1].bias)[0].isfinite().all()
        assert finite == (pooler is ours)


@pytest.mark.parametrize("name", POOLERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_small_parameters_work(name: str, dtype: torch.dtype) -> None:
    """tgp mixes them with float32 and raises."""
    b = with_edges(dtype)
    theirs, ours = pair(name, dtype)
    assert ours(b.x, b.edge_index, batch=b.batch).x.isfinite().all()
    with pytest.raises(RuntimeError, match="type"):
        theirs(b.x, b.edge_index, batch=b.batch)


@pytest.mark.parametrize("name", POOLERS)
def test_a_typo_is_an_error(name: str) -> None:
    """tgp drops keywords that it does not know."""
    get = import_tgp("tgp.poolers").get_pooler
    assert get(name, in_channels=F, k=K, raito=0.5) is not None
    with pytest.raises(TypeError, match="raito"):
        get_pooler(name, in_channels=F, k=K, raito=0.5)
