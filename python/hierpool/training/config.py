"""Configuration of a training run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from inspect import signature
from typing import Any

import torch

from hierpool import backends, losses
from hierpool.nn import HARD_POOLERS, POOLERS
from hierpool.nn.clusters import RATIO_OF
from hierpool.nn.readout import READOUTS
from hierpool.nn.sage import AGGREGATIONS
from hierpool.selection.largest import check_ratio

POOLER_NAMES = tuple(sorted({*POOLERS, *HARD_POOLERS}))
_WITHOUT_PARAMETERS = tuple(
    sorted(name for name, kind in HARD_POOLERS.items() if "in_channels" not in signature(kind).parameters)
)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def option(default: Any, text: str, choices: tuple[str, ...] | None = None) -> Any:
    """A dataclass field that is also a command-line option with a help text."""
    return field(default=default, metadata={"help": text, "choices": choices})


def check_at_least(config: Any, **minima: int) -> None:
    """Raise ``ValueError`` if a field is below its minimum."""
    for name, minimum in minima.items():
        if getattr(config, name) < minimum:
            raise ValueError(f"{name} must be at least {minimum}, got {getattr(config, name)}")


def check_positive(config: Any, *names: str, zero: bool = False) -> None:
    """Raise ``ValueError`` unless the fields are finite and positive; ``zero`` allows 0."""
    for name in names:
        value = getattr(config, name)
        if not (0 < value < float("inf") or (zero and value == 0)):
            raise ValueError(f"{name} must {'not be negative' if zero else 'be positive'}, got {value}")


MAX_SEED = 1 << 53  # seeds of folds, multiples of it, are 64-bit integers


def check_seed(config: Any) -> None:
    """Raise ``ValueError`` unless ``seed`` is in the range of seeds."""
    if not 0 <= config.seed <= MAX_SEED:
        raise ValueError(f"seed must be between 0 and 2^53, got {config.seed}")


# Options without a meaning for other poolers.
_OF_DIFF_POOL = (
    "embedding_channels", "temperature", "link_loss", "link_weight", "entropy_weight", "convention", "pool",
)  # fmt: skip


@dataclass(frozen=True)
class TrainConfig:
    """Configuration of a training run. The names of the fields are those of the command-line options.

    Raises:
        ValueError: a value is out of range.
    """

    dataset: str = option("MUTAG", "TU dataset")
    epochs: int = option(50, "passes over the training graphs")
    seed: int = option(0, "seed of the splits, the weights and the order of graphs")
    folds: int = option(0, "folds of the cross-validation; 0: one split into 80, 10 and 10 %%")
    batch_size: int = option(32, "graphs per step")
    batches: str = option(
        "random", "graphs that share a step: random ones, or ones of similar size", ("random", "by-size")
    )
    max_nodes_per_batch: int = option(0, "nodes per step; 0: no limit")
    # 32 graphs of 1414 nodes. It cuts batches with one of the five largest graphs of D&D, and none of smaller datasets.
    max_pairs_per_batch: int = option(
        64_000_000, "graphs per step, times the square of the nodes of the largest; 0: no limit"
    )
    lr: float = option(1e-3, "learning rate of Adam")
    weight_decay: float = option(0.0, "L2 penalty of Adam")
    clip: float = option(2.0, "maximum norm of the gradient")
    average: int = option(5, "epochs in the average of the weights that are evaluated; 1: no average")
    pooler: str = option(
        "diff",
        "pooler: diff is the network of the DiffPool paper, others are in a network of one stack for each level",
        POOLER_NAMES,
    )
    ratio: float = option(
        0.25,
        "clusters of a level, or nodes that it keeps, as a fraction of the nodes of the level before it; ec,"
        " cluster, graclus, kmis and ndp keep what they keep",
    )
    ratio_of: str = option(
        "graph",
        "nodes that the ratio refers to: those of each graph, or for all graphs those of the largest one, as in the"
        " original code; pyg implies largest",
        RATIO_OF,
    )
    levels: int = option(1, "number of pooling levels")
    precoarsen: bool = option(
        False, "pool every graph once, before training; for poolers without parameters: det, graclus, ndp"
    )
    hidden_channels: int = option(64, "width of the inner layers")
    embedding_channels: int = option(64, "width of the last layer of each stack")
    layers: int = option(3, "GraphSAGE layers of each stack")
    head_channels: int = option(50, "width of the hidden layer of the classifier")
    aggregation: str = option("mean", "aggregation of GraphSAGE layers over neighbours", AGGREGATIONS)
    readout: str = option("max", "reduction over nodes", READOUTS)
    dropout: float = option(0.0, "dropout before the last layer of the classifier")
    temperature: float = option(1.0, "temperature of the softmax over clusters")
    link_loss: str = option("frobenius", "link loss of every level", ("frobenius", "bce"))
    link_weight: float = option(1.0, "weight of the link loss; 0: it is not computed")
    entropy_weight: float = option(1.0, "weight of the entropy loss; 0: it is not computed")
    convention: str = option("pyg", "normalisation of the two losses", tuple(losses.CONVENTIONS))
    dense: bool = option(
        False, "pad batches and use a dense adjacency in the first level instead of a sparse one"
    )
    pool: str = option(
        "hierpool", "library of the pooling operator; pyg implies --dense", ("hierpool", "pyg")
    )
    dtype: str = option(
        "float32",
        "dtype of activations in training; weights, optimizer, losses and evaluation are in float32",
        tuple(DTYPES),
    )
    backend: str = option("auto", "backend of hierpool's operator", backends.NAMES)

    def __post_init__(self) -> None:
        check_seed(self)
        check_at_least(self, epochs=1, folds=0, batch_size=1, average=1, layers=1, levels=1)
        check_at_least(self, hidden_channels=1, embedding_channels=1, head_channels=1)
        check_at_least(self, max_nodes_per_batch=0, max_pairs_per_batch=0)
        check_positive(self, "lr", "clip", "temperature")
        check_positive(self, "weight_decay", "link_weight", "entropy_weight", zero=True)
        if self.folds in (1, 2):
            raise ValueError(f"folds must be 0, for one split, or at least 3, got {self.folds}")
        check_ratio(self.ratio)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        if self.pooler not in POOLER_NAMES:
            raise ValueError(f"pooler must be one of {', '.join(POOLER_NAMES)}, got {self.pooler!r}")
        if self.pooler != "diff":
            for name in _OF_DIFF_POOL:
                if getattr(self, name) != getattr(type(self), name):
                    raise ValueError(f"{name} is an option of pooler 'diff', not of {self.pooler!r}")
        if self.precoarsen and self.pooler not in _WITHOUT_PARAMETERS:
            names = ", ".join(_WITHOUT_PARAMETERS)
            raise ValueError(f"pooler must be one of {names} with precoarsen, got {self.pooler!r}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")
        if self.dtype != "float32" and self.pool != "hierpool":
            raise ValueError(
                f"dtype must be float32 with pool {self.pool!r}, whose losses are in the dtype, got {self.dtype!r}"
            )

    @property
    def dense_batches(self) -> bool:
        """True if batches are padded: by request, or because PyTorch Geometric's operator needs it."""
        return self.dense or self.pool != "hierpool"

    @property
    def clusters_of(self) -> str:
        """``ratio_of``, which is ``"largest"`` with PyTorch Geometric's operator: it has one number for all graphs."""
        return self.ratio_of if self.pool == "hierpool" else "largest"

    def identity(self) -> dict[str, Any]:
        """The values that a checkpoint must have in common with a run. The number of epochs may grow."""
        values = asdict(self) | {"dense": self.dense_batches, "ratio_of": self.clusters_of}
        del values["epochs"]
        return values
