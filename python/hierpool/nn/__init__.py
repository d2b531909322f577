"""Layers for padded and ragged batches of graphs: pooling, message passing, normalisation, readout."""

from hierpool.graph.levels import Level, collate_levels
from hierpool.nn.asap import ASAPool
from hierpool.nn.asym_cheeger_cut import AsymCheegerCutPool
from hierpool.nn.cluster_pooling import ClusterPool
from hierpool.nn.decimation import NDPPool
from hierpool.nn.det_pooling import DETPool
from hierpool.nn.diff_pool import DiffPool
from hierpool.nn.dmon import DMoNPool
from hierpool.nn.dmon_pooling import DMoNPooling
from hierpool.nn.edge_pooling import EdgePool
from hierpool.nn.gtv_conv import GTVConv
from hierpool.nn.hard_pooling import HARD_POOLERS, HardPooling, HardPoolingOutput, Selected
from hierpool.nn.hosc import HOSCPool
from hierpool.nn.just_balance import JustBalancePool
from hierpool.nn.masking import select_valid
from hierpool.nn.maxcut import MaxCutPool
from hierpool.nn.merging import GraclusPool, KMISPool
from hierpool.nn.mincut import MinCutPool
from hierpool.nn.mlp import MLP
from hierpool.nn.norm import MaskedBatchNorm, SlotBatchNorm
from hierpool.nn.outputs import PoolingOutput, SelectOutput, lift
from hierpool.nn.pan_pooling import PANPool
from hierpool.nn.precoarsening import Precoarsening
from hierpool.nn.readout import readout
from hierpool.nn.registry import get_pooler
from hierpool.nn.sage import SAGEConv, SAGEStack
from hierpool.nn.score_pooling import SAGPool, ScorePooling, TopKPool
from hierpool.nn.soft_pooling import POOLERS, SoftPooling

__all__ = [
    "HARD_POOLERS",
    "MLP",
    "POOLERS",
    "ASAPool",
    "AsymCheegerCutPool",
    "ClusterPool",
    "DETPool",
    "DMoNPool",
    "DMoNPooling",
    "DiffPool",
    "EdgePool",
    "GTVConv",
    "GraclusPool",
    "HOSCPool",
    "HardPooling",
    "HardPoolingOutput",
    "JustBalancePool",
    "KMISPool",
    "Level",
    "MaskedBatchNorm",
    "MaxCutPool",
    "MinCutPool",
    "NDPPool",
    "PANPool",
    "PoolingOutput",
    "Precoarsening",
    "SAGEConv",
    "SAGEStack",
    "SAGPool",
    "ScorePooling",
    "SelectOutput",
    "Selected",
    "SlotBatchNorm",
    "SoftPooling",
    "TopKPool",
    "collate_levels",
    "get_pooler",
    "lift",
    "readout",
    "select_valid",
]
