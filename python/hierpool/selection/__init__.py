"""Selection of nodes and of pairs of nodes: what graph pooling without learned clusters keeps or merges.

Results do not depend on the number of threads, on the device, on other graphs of the batch or on the order of edges.
"""

from hierpool.selection.candidates import cluster_candidates
from hierpool.selection.connected import components
from hierpool.selection.heavy_edges import heavy_edge_clusters
from hierpool.selection.independent import mis
from hierpool.selection.largest import Kept, topk
from hierpool.selection.matching import match
from hierpool.selection.multilevel import multilevel_clusters
from hierpool.selection.propagation import propagate
from hierpool.selection.spectral import spectral_sign

__all__ = [
    "Kept",
    "cluster_candidates",
    "components",
    "heavy_edge_clusters",
    "match",
    "mis",
    "multilevel_clusters",
    "propagate",
    "spectral_sign",
    "topk",
]
