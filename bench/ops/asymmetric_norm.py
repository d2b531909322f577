"""The asymmetric norm of S about the quantiles of its columns."""

import hierpool
from bench.harness.workload import Cost, Part
from bench.ops.calls import DENSE_TITLE, POOLED, Build, Make, on_assignment, workload


def asymmetric_norm(build: Build) -> Make:
    """One number for each graph of a padded batch."""
    return on_assignment(build, lambda s, backend: hierpool.asymmetric_norm(s, backend=backend))


PART = Part((workload("norm", f"asymmetric_norm, {DENSE_TITLE} K256", asymmetric_norm(POOLED)),))

COST = Cost("N K", "N K", "distances from a quantile of every cluster")
