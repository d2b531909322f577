"""Training a graph classifier: configuration, loop, checkpoints, records."""

from hierpool.training.checkpoint import CheckpointError
from hierpool.training.config import TrainConfig
from hierpool.training.loop import FoldResult, build_model, train_fold

__all__ = ["CheckpointError", "FoldResult", "TrainConfig", "build_model", "train_fold"]
