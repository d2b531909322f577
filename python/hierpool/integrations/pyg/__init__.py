"""Replace poolers of PyTorch Geometric."""

from hierpool.integrations.pyg.patching import Patch, patch, unpatch

__all__ = ["Patch", "patch", "unpatch"]
