"""Layers for padded batches of graphs: pooling, message passing, normalisation, readout."""

from hierpool.nn.dense_sage import DenseSAGEConv, DenseSAGEStack
from hierpool.nn.diff_pool import DiffPool, DiffPoolOutput
from hierpool.nn.masking import select_valid
from hierpool.nn.norm import MaskedBatchNorm, SlotBatchNorm
from hierpool.nn.readout import readout

__all__ = [
    "DenseSAGEConv",
    "DenseSAGEStack",
    "DiffPool",
    "DiffPoolOutput",
    "MaskedBatchNorm",
    "SlotBatchNorm",
    "readout",
    "select_valid",
]
