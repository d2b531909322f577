"""The clusters of a graph: its first columns, of the K of the batch.

S is 0 in the other columns. Of these, kernels read those that fill a vector of 16 with clusters, so that the lanes of a
vector share a mask. A S and other products with S are 0 there, and need not be written beyond. Masks are exact for
gradients of outputs, which may be NaN in rows and columns that are no clusters.

Where graphs have all columns, ``clusters`` is None, and the code for it is left out.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def graph_clusters(i_b, clusters_ptr, K):
    """The number of clusters of graph ``i_b`` (a scalar or a tensor); None if ``clusters_ptr`` is None."""
    if clusters_ptr is not None:  # not checked on the host, which would have to wait for the device
        return tl.minimum(tl.maximum(tl.load(clusters_ptr + i_b), 1), K).to(tl.int32)


@triton.jit
def column_count(clusters, K):
    """``clusters``, or K if it is None."""
    if clusters is not None:
        count = clusters
    else:
        count = K
    return count


@triton.jit
def column_mask(o_k, clusters, K):
    """True for the columns ``o_k`` that are read."""
    if clusters is not None:
        K = tl.minimum(tl.cdiv(clusters, 16) * 16, K)
    return o_k < K
