"""What a training run is made of; the command line is made from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hierpool import backends, losses
from hierpool.nn.readout import READOUTS
from hierpool.nn.sage import AGGREGATIONS
from hierpool.training.options import Options, option


@dataclass(frozen=True)
class TrainConfig(Options):
    """One training run. Field names are the command line's options.

    Raises:
        ValueError: a value out of its range.
    """

    dataset: str = option("MUTAG", "TU dataset")
    epochs: int = option(50, "passes over the training graphs")
    seed: int = option(0, "of splits, weights and the order of graphs")
    folds: int = option(0, "folds of a cross-validation; 0: one split into 80, 10 and 10 %%")
    batch_size: int = option(32, "graphs per step")
    lr: float = option(1e-3, "learning rate of Adam")
    weight_decay: float = option(0.0, "L2 penalty of Adam")
    clip: float = option(2.0, "largest norm of the gradient")
    average: int = option(5, "epochs over which the weights that are evaluated are averaged; 1: none are")
    ratio: float = option(0.25, "clusters of a level as a part of the nodes of the level before it")
    levels: int = option(1, "how many times to pool")
    hidden_channels: int = option(64, "width of the inner layers")
    embedding_channels: int = option(64, "width of each stack's last layer")
    layers: int = option(3, "GraphSAGE layers of each stack")
    head_channels: int = option(50, "width of the classifier's hidden layer")
    aggregation: str = option("mean", "of GraphSAGE layers over neighbours", AGGREGATIONS)
    readout: str = option("max", "reduction over nodes", READOUTS)
    dropout: float = option(0.0, "before the classifier's last layer")
    temperature: float = option(1.0, "of the softmax over clusters")
    link_loss: str = option("frobenius", "link loss of every level", ("frobenius", "bce"))
    link_weight: float = option(1.0, "weight of the link loss; 0 skips its computation")
    entropy_weight: float = option(1.0, "weight of the entropy loss; 0 skips its computation")
    convention: str = option("pyg", "normalisation of these two losses", tuple(losses.CONVENTIONS))
    dense: bool = option(
        False, "pad batches, with dense adjacency, instead of keeping the first level sparse"
    )
    pool: str = option("hierpool", "whose pooling operator; pyg's is always dense", ("hierpool", "pyg"))
    backend: str = option("auto", "of hierpool's operator", backends.NAMES)

    def __post_init__(self) -> None:
        for name, low in (("epochs", 1), ("seed", 0), ("folds", 0), ("batch_size", 1), ("average", 1)):
            if getattr(self, name) < low:
                raise ValueError(f"{name} must be at least {low}, got {getattr(self, name)}")
        for name in ("lr", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("weight_decay", "link_weight", "entropy_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")

    @property
    def pads(self) -> bool:
        """Whether batches are padded: asked for, or because the pooling operator is dense."""
        return self.dense or self.pool != "hierpool"

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree on; more epochs may be asked for later."""
        values = asdict(self) | {"dense": self.pads}
        del values["epochs"]
        return values
