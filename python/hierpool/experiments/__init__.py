"""Comparison of methods of graph classification: a queue of runs, their protocol, and the table made of them."""

from hierpool.experiments.folds import make_folds, read_folds
from hierpool.experiments.methods import METHODS, Method
from hierpool.experiments.protocol import PROTOCOLS, Protocol, read_protocol
from hierpool.experiments.queue import Run

__all__ = [
    "METHODS",
    "PROTOCOLS",
    "Method",
    "Protocol",
    "Run",
    "make_folds",
    "read_folds",
    "read_protocol",
]
