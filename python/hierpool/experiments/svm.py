"""Support vector machines on precomputed kernels."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from hierpool._extras import require
from hierpool.data import GraphDataset, Split
from hierpool.experiments.kernels import grams
from hierpool.experiments.layers import EXTRA
from hierpool.experiments.protocol import Protocol


def classify(
    features: Sequence[Any], dataset: GraphDataset, split: Split, protocol: Protocol
) -> dict[str, Any]:
    """Choose h and C on the validation graphs, train again on them as well, and test once.

    Of choices that are as good, the smallest h is taken, then the smallest C.

    Args:
        features: matrices of the kernel; h of them and one more are used.
        dataset: all graphs.
        split: graphs for training, validation and test.
        protocol: has the values of C.

    Returns:
        ``test_accuracy``, ``validation_accuracy``, ``rounds`` and ``penalty``.
    """
    svc = require("sklearn.svm", EXTRA).SVC
    y = dataset.labels.numpy()
    train, validation, test = (part.numpy() for part in split)
    best: tuple[float, int, float, Any] = (-1.0, 0, 0.0, None)
    for h, kernel in enumerate(grams(features)):
        for penalty in sorted(protocol.penalties):
            machine = svc(C=penalty, kernel="precomputed").fit(kernel[train][:, train], y[train])
            accuracy = float(machine.score(kernel[validation][:, train], y[validation]))
            if accuracy > best[0]:
                best = accuracy, h, penalty, kernel
    accuracy, h, penalty, kernel = best
    known = sorted(itertools.chain(train.tolist(), validation.tolist()))
    machine = svc(C=penalty, kernel="precomputed").fit(kernel[known][:, known], y[known])
    return {
        "test_accuracy": float(machine.score(kernel[test][:, known], y[test])),
        "validation_accuracy": accuracy,
        "rounds": h,
        "penalty": penalty,
    }
