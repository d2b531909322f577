"""Who is watching a call: a compiler or a tracer, which must see registered operators instead of their short cuts."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import is_in_torch_dispatch_mode


def seen() -> bool:
    """Whether somebody watches who must see the operator: a compiler, a tracer."""
    return torch.compiler.is_compiling() or is_in_torch_dispatch_mode()
