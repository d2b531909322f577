"""Training of a graph classifier: configuration, loop, checkpoints, logs and plots."""

from hierpool.training.checkpoint import CheckpointError
from hierpool.training.config import TrainConfig
from hierpool.training.loop import FoldResult, build_model, make_splits, train_fold

__all__ = ["CheckpointError", "FoldResult", "TrainConfig", "build_model", "make_splits", "train_fold"]
