"""Layers for padded and ragged batches of graphs: pooling, message passing, normalisation, readout."""

from hierpool.nn.asym_cheeger_cut import AsymCheegerCutPool
from hierpool.nn.cut_pools import DMoNPool, HOSCPool, JustBalancePool, MinCutPool
from hierpool.nn.diff_pool import DiffPool
from hierpool.nn.dmon_pooling import DMoNPooling
from hierpool.nn.gtv_conv import GTVConv
from hierpool.nn.masking import select_valid
from hierpool.nn.mlp import MLP
from hierpool.nn.norm import MaskedBatchNorm, SlotBatchNorm
from hierpool.nn.readout import readout
from hierpool.nn.registry import POOLERS, get_pooler
from hierpool.nn.sage import SAGEConv, SAGEStack
from hierpool.nn.soft_pooling import SoftPooling
from hierpool.nn.src import PoolingOutput, SelectOutput, lift

__all__ = [
    "MLP",
    "POOLERS",
    "AsymCheegerCutPool",
    "DMoNPool",
    "DMoNPooling",
    "DiffPool",
    "GTVConv",
    "HOSCPool",
    "JustBalancePool",
    "MaskedBatchNorm",
    "MinCutPool",
    "PoolingOutput",
    "SAGEConv",
    "SAGEStack",
    "SelectOutput",
    "SlotBatchNorm",
    "SoftPooling",
    "get_pooler",
    "lift",
    "readout",
    "select_valid",
]
