"""Hashes of integers, which take the place of random numbers: they are the same on every device."""

from __future__ import annotations

import torch
from torch import Tensor


def node_hash(ptr: Tensor, graph_of_node: Tensor, seed: int) -> Tensor:
    """A number for each node that depends on its index in its graph and on ``seed``; int64 ``[N]``, read unsigned."""
    local = torch.arange(graph_of_node.numel(), device=ptr.device) - ptr[graph_of_node]
    return mix(mix(torch.tensor(seed, device=ptr.device)) ^ local)


def mix(x: Tensor) -> Tensor:
    """SplitMix64 of int64, which wraps around."""
    x = x - 0x61C8864680B583EB  # plus 0x9e3779b97f4a7c15, modulo 2^64
    x = (x ^ _shifted(x, 30)) * -0x40A7B892E31B1A47
    x = (x ^ _shifted(x, 27)) * -0x6B2FB644ECCEEE15
    return x ^ _shifted(x, 31)


def mix_pair(total: Tensor) -> Tensor:
    """A hash of the sum of two results of :func:`mix`."""
    x = total * -0x40A7B892E31B1A47
    return x ^ _shifted(x, 32)


def unsigned_order(x: Tensor) -> Tensor:
    """int64 in the order that ``x`` has if it is read unsigned."""
    return x ^ torch.iinfo(torch.int64).min


def _shifted(x: Tensor, bits: int) -> Tensor:
    """A shift to the right that brings in zeros."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
