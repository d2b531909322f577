"""Layers for padded and ragged batches of graphs: pooling, message passing, normalisation, readout."""

from hierpool.nn.asym_cheeger_cut import AsymCheegerCutPool
from hierpool.nn.diff_pool import DiffPool
from hierpool.nn.dmon import DMoNPool
from hierpool.nn.dmon_pooling import DMoNPooling
from hierpool.nn.gtv_conv import GTVConv
from hierpool.nn.hosc import HOSCPool
from hierpool.nn.just_balance import JustBalancePool
from hierpool.nn.masking import select_valid
from hierpool.nn.mincut import MinCutPool
from hierpool.nn.mlp import MLP
from hierpool.nn.norm import MaskedBatchNorm, SlotBatchNorm
from hierpool.nn.outputs import PoolingOutput, SelectOutput, lift
from hierpool.nn.readout import readout
from hierpool.nn.registry import get_pooler
from hierpool.nn.sage import SAGEConv, SAGEStack
from hierpool.nn.soft_pooling import POOLERS, SoftPooling

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
