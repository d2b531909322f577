"""Make the dense poolers of torch-geometric-pool use hierpool."""

from hierpool.integrations.tgp.patching import Patch, patch, unpatch

__all__ = ["Patch", "patch", "unpatch"]
