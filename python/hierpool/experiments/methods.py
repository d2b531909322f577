"""The methods of the comparison by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from hierpool.data import GraphDataset, Split
from hierpool.experiments import features, kernels, networks
from hierpool.experiments.protocol import Protocol
from hierpool.experiments.svm import classify
from hierpool.experiments.training import Outcome, train
from hierpool.nn import HARD_POOLERS, POOLERS, Precoarsening

Transform = Callable[[GraphDataset], GraphDataset]


@dataclass(frozen=True)
class Task:
    """One run of a method."""

    dataset: GraphDataset
    split: Split
    protocol: Protocol
    seed: int  # of the weights and the order of graphs
    time_limit: float | None = None  # seconds


@dataclass(frozen=True)
class Method:
    """A method.

    Attributes:
        name: its name in options and results.
        title: its name in tables.
        group: heading in tables.
        prepare: what is computed once for a data set and all folds, from the data set and the protocol.
        run: the outcome of a task, from what ``prepare`` returned.
        is_random: whether results depend on the seed.
        in_paper: whether it is run with the protocol of the paper, too.
    """

    name: str
    title: str
    group: str
    prepare: Callable[[GraphDataset, Protocol], Any]
    run: Callable[[Any, Task], Outcome]
    is_random: bool = True
    in_paper: bool = False


METHODS: dict[str, Method] = {}


def _add(method: Method) -> None:
    METHODS[method.name] = method


# ---- networks -------------------------------------------------------------------------------------------------------


def _same(dataset: GraphDataset, protocol: Protocol) -> GraphDataset:
    return dataset


def _precoarsened(pooler: str, dataset: GraphDataset, protocol: Protocol) -> GraphDataset:
    """The data set with its levels, which training would compute in every epoch anew."""
    net: Any = networks.pool_net(pooler)(dataset, protocol)
    return Precoarsening(net.pools[0], protocol.levels)(dataset)


def _train(
    build: networks.Build, transform: Transform | None, dense: bool, dataset: GraphDataset, task: Task
) -> Outcome:
    """Train the network on a split, with attributes scaled by its training graphs."""
    is_fair = task.protocol.name == "fair"
    known = task.split.train if is_fair else torch.cat([task.split.train, task.split.validation])
    dataset = features.standardized(dataset, known)
    if transform is not None:
        dataset = transform(dataset)
    torch.manual_seed(task.seed)
    net = build(dataset, task.protocol)
    return train(net, dataset, task.split, task.protocol, task.seed, dense=dense, time_limit=task.time_limit)


def _network(
    name: str,
    title: str,
    group: str,
    build: networks.Build,
    *,
    transform: Transform | None = None,
    prepare: Callable[[GraphDataset, Protocol], GraphDataset] = _same,
    dense: bool = False,
    in_paper: bool = False,
) -> None:
    _add(Method(name, title, group, prepare, partial(_train, build, transform, dense), in_paper=in_paper))


# ---- what is not a network ------------------------------------------------------------------------------------------


def _majority(dataset: GraphDataset, task: Task) -> Outcome:
    y = dataset.labels
    found = int(y[task.split.train].bincount().argmax())
    rates = {name: float((y[part] == found).double().mean()) for name, part in task.split._asdict().items()}
    return {"test_accuracy": rates["test"], "validation_accuracy": rates["validation"]}


def _kernel(name: str, title: str, compute: Callable[[GraphDataset, Protocol], Sequence[Any]]) -> None:
    def run(prepared: Sequence[Any], task: Task) -> Outcome:
        return classify(prepared, task.dataset, task.split, task.protocol)

    _add(Method(name, title, "Graph kernels with a support vector machine", compute, run, is_random=False))


# ---- the table ------------------------------------------------------------------------------------------------------

BASELINES = "Baselines that ignore edges"
FLAT = "Message passing and a readout"
DIFF = "DiffPool"
POOLING = "Other poolers, in one network"
PAIR = "DiffPool with one number of clusters for all graphs"

_add(Method("majority", "majority class", BASELINES, _same, _majority, is_random=False))
_network("perceptron", "perceptron on summed features", BASELINES, networks.perceptron)

_kernel("wl", "1-WL subtree", lambda data, how: kernels.weisfeiler_leman(data, how.rounds))
_kernel("wl-oa", "WL-OA", lambda data, how: kernels.optimal_assignment(data, how.rounds))
_kernel("shortest-path", "shortest path", lambda data, how: kernels.shortest_paths(data))
_kernel("graphlet", "graphlets of 3 nodes", lambda data, how: kernels.graphlets(data))

for _kind in ("mean", "max", "sum"):
    _network(f"graphsage-{_kind}", f"GraphSAGE, {_kind}", FLAT, networks.graph_sage(_kind))
_network(
    "graphsage-supernode",
    "GraphSAGE, supernode",
    FLAT,
    networks.graph_sage_supernode,
    transform=features.with_supernode,
)
_network("gin", "GIN", FLAT, networks.gin)
_network("ecc", "ECC", FLAT, networks.ecc, transform=features.with_edge_labels)
_network("set2set", "Set2Set", FLAT, networks.set2set)
_network("sortpool", "SortPool", FLAT, networks.sort_pool)

_network("diffpool", "DiffPool", DIFF, networks.diff_pool(), in_paper=True)
_network("diffpool-nolp", "DiffPool-NoLP", DIFF, networks.diff_pool(link_loss=None), in_paper=True)
_network(
    "diffpool-det",
    "DiffPool-DET",
    DIFF,
    networks.pool_net("det"),
    prepare=partial(_precoarsened, "det"),
    in_paper=True,
)
_network("diffpool-s2v", "S2V + DiffPool", DIFF, networks.structure2vec_diff_pool, in_paper=True)

_TITLES = {
    "acc": "AsymCheegerCut", "asap": "ASAP", "cluster": "ClusterPool", "dmon": "DMoN", "ec": "EdgePool",
    "graclus": "Graclus", "hosc": "HOSC", "jb": "JustBalance", "kmis": "k-MIS", "maxcut": "MaxCut", "mincut": "MinCut",
    "ndp": "NDP", "pan": "PAN", "sag": "SAG", "topk": "Top-K",
}  # fmt: skip
# Poolers whose levels are the same in every epoch.
_FIXED = ("graclus", "ndp")

for _pooler in sorted({*POOLERS, *HARD_POOLERS} - {"diff", "det"}):
    _network(
        _pooler,
        _TITLES.get(_pooler, _pooler),
        POOLING,
        networks.pool_net(_pooler),
        prepare=partial(_precoarsened, _pooler) if _pooler in _FIXED else _same,
    )

_network("diffpool-one-k", "hierpool's operator", PAIR, networks.diff_pool_one_k("hierpool"))
_network("diffpool-one-k-pyg", "PyG's operator", PAIR, networks.diff_pool_one_k("pyg"), dense=True)


def select(names: Sequence[str] | None) -> list[Method]:
    """The methods of these names, or all, in the order of the table.

    Raises:
        ValueError: a name is unknown.
    """
    for name in names or ():
        if name not in METHODS:
            raise ValueError(f"methods must be from {', '.join(METHODS)}, got {name!r}")
    return [method for method in METHODS.values() if names is None or method.name in names]
