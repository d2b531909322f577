"""What a clustering is made of; the command line is made from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hierpool import backends
from hierpool.clustering.objective import OBJECTIVES
from hierpool.training.options import Options, option


@dataclass(frozen=True)
class ClusterConfig(Options):
    """One clustering. Field names are the command line's options; a 0 leaves the choice to the program.

    Raises:
        ValueError: a value out of its range.
    """

    k: int = option(0, "clusters; 0: as many as there are known labels")
    loss: str = option("dmon", "what is minimised", tuple(OBJECTIVES))
    weight: float = option(1.0, "of the loss's second term, as a multiple of its usual weight")
    epochs: int = option(0, "passes over the nodes; 0: 100 steps, and 5 passes at least")
    seed: int = option(0, "of random features, weights and batches")
    lr: float = option(1e-2, "learning rate of Adam, which falls to 0 along a cosine")
    hidden_channels: int = option(64, "width of the graph layer")
    feature_channels: int = option(0, "random features of a node that has none; 0: about 1.25 k, 64 at least")
    products: int = option(24, "how often random features are multiplied by the adjacency matrix")
    batch_nodes: int = option(0, "nodes per step; 0: all up to 32768, fewer if memory is short")
    checkpoint_every: int = option(50, "steps between checkpoints")
    backend: str = option("auto", "of hierpool's operators", backends.NAMES)

    def __post_init__(self) -> None:
        for name, low in (
            ("k", 0), ("epochs", 0), ("seed", 0), ("hidden_channels", 1), ("feature_channels", 0),
            ("products", 1), ("batch_nodes", 0), ("checkpoint_every", 1),
        ):  # fmt: skip
            if getattr(self, name) < low:
                raise ValueError(f"{name} must be at least {low}, got {getattr(self, name)}")
        if not 0 < self.lr < float("inf"):
            raise ValueError(f"lr must be positive, got {self.lr}")
        if not 0 <= self.weight < float("inf"):
            raise ValueError(f"weight must not be negative, got {self.weight}")

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree on."""
        values = asdict(self)
        del values["checkpoint_every"]
        return values
