"""Configuration of a clustering."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hierpool import backends
from hierpool.clustering.objective import OBJECTIVES
from hierpool.training.config import check_at_least, check_positive, check_seed, option


@dataclass(frozen=True)
class ClusterConfig:
    """Configuration of a clustering. The names of the fields are those of the command-line options.

    :func:`hierpool.clustering.resolve` replaces zeros by values that suit the graph.

    Raises:
        ValueError: a value is out of range.
    """

    k: int = option(0, "number of clusters; 0: as many as there are known labels")
    loss: str = option("dmon", "loss to minimise", tuple(OBJECTIVES))
    weight: float = option(1.0, "weight of the second term of the loss, relative to its usual weight")
    epochs: int = option(0, "passes over the nodes; 0: at least 100 steps and 5 passes")
    seed: int = option(0, "seed of random features, weights and batches")
    lr: float = option(1e-2, "initial learning rate of Adam, which falls to 0 along a cosine")
    hidden_channels: int = option(64, "width of the graph layer")
    feature_channels: int = option(
        0, "number of random features if nodes have none; 0: about 1.25 k, at least 64"
    )
    products: int = option(24, "products of random features with the adjacency matrix")
    batch_nodes: int = option(0, "nodes per step; 0: all up to 32768, fewer if memory is short")
    checkpoint_every: int = option(50, "steps between checkpoints")
    backend: str = option("auto", "backend of hierpool's operators", backends.NAMES)

    def __post_init__(self) -> None:
        check_seed(self)
        check_at_least(self, k=0, epochs=0, feature_channels=0, batch_nodes=0)
        check_at_least(self, hidden_channels=1, products=1, checkpoint_every=1)
        check_positive(self, "lr")
        check_positive(self, "weight", zero=True)

    def identity(self) -> dict[str, Any]:
        """The values that a checkpoint must have in common with a run."""
        values = asdict(self)
        del values["checkpoint_every"]
        return values

    def stated(self) -> dict[str, Any]:
        """The part of :meth:`identity` that does not depend on the graph."""
        of_graph = ("k", "epochs", "feature_channels", "batch_nodes")
        return {name: value for name, value in self.identity().items() if value or name not in of_graph}
