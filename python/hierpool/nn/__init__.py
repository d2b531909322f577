"""Layers for padded and ragged batches of graphs: pooling, message passing, normalisation, readout."""

from hierpool.nn.diff_pool import DiffPool, DiffPoolOutput
from hierpool.nn.masking import select_valid
from hierpool.nn.norm import MaskedBatchNorm, SlotBatchNorm
from hierpool.nn.readout import readout
from hierpool.nn.sage import SAGEConv, SAGEStack

__all__ = [
    "DiffPool",
    "DiffPoolOutput",
    "MaskedBatchNorm",
    "SAGEConv",
    "SAGEStack",
    "SlotBatchNorm",
    "readout",
    "select_valid",
]
