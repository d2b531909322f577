"""The binary cross-entropy of A and S S^T."""

import hierpool
from bench.harness.precision import TF32
from bench.harness.workload import Part
from bench.ops.calls import DENSE_TITLE, PAIRS, Build, Make, on_assignment, workload


def link_bce(build: Build) -> Make:
    """One number for a padded batch whose A is symmetric: one half of S S^T is enough, K flops for two nodes."""
    return on_assignment(
        build, lambda s, adj, backend: hierpool.link_bce(s, adj, symmetric=True, backend=backend),
        graphwise=False, pairs=True, flops=1,
    )  # fmt: skip


PART = Part((workload("link-bce", f"link_bce, {DENSE_TITLE} K64, TF32", link_bce(PAIRS), TF32),))
