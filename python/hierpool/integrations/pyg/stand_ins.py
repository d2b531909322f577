"""What stands in PyTorch Geometric's place while it is patched: its signatures to the letter.

They are objects of their own, so that what a program took from PyTorch Geometric can be told from what it took from
hierpool, and be given back.
"""

from __future__ import annotations

from torch import Tensor

from hierpool.integrations.pyg import dense
from hierpool.nn import dmon_pooling

Pooled = tuple[Tensor, Tensor, Tensor, Tensor]


class Settings:
    """Of the patch in force."""

    pyg_compat = False


def dense_diff_pool(
    x: Tensor, adj: Tensor, s: Tensor, mask: Tensor | None = None, normalize: bool = True
) -> Pooled:
    """:func:`hierpool.dense_diff_pool`."""
    return dense.dense_diff_pool(x, adj, s, mask, normalize)


def dense_mincut_pool(
    x: Tensor, adj: Tensor, s: Tensor, mask: Tensor | None = None, temp: float = 1.0
) -> Pooled:
    """:func:`hierpool.dense_mincut_pool`."""
    return dense.dense_mincut_pool(x, adj, s, mask, temp)


class DMoNPooling(dmon_pooling.DMoNPooling):
    """:class:`hierpool.DMoNPooling`, with the ``pyg_compat`` of the patch in force when it is made."""

    def __init__(self, channels: int | list[int], k: int, dropout: float = 0.0) -> None:
        super().__init__(channels, k, dropout, pyg_compat=Settings.pyg_compat)
