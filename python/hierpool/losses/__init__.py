r"""Auxiliary losses of soft poolers, computed from the record of :func:`hierpool.soft_pool`.

Every loss is a function of the record's sums over each graph. Its cost does not depend on the number of nodes or edges.
Records of dense batches, of several edge types and of ragged batches are supported. 0/0 (an empty batch, a graph
without valid nodes, a graph without edges) is 0, with gradient 0.

===============  ==================================================  ==========================================
method           losses; weight 1 in the paper unless given          needs, besides the record
===============  ==================================================  ==========================================
DiffPool         :func:`link_pred_loss`, :func:`entropy_loss`        ``link_loss="frobenius"``, ``entropy=True``
MinCut           :func:`mincut_loss`, :func:`orthogonality_loss`     ``gram=True``
DMoN             :func:`spectral_loss`, :func:`cluster_loss`
TVGNN            :func:`totvar_loss`, :func:`asym_norm_loss`         :func:`hierpool.total_variation`,
                                                                     the norm that the second loss names
Just Balance     :func:`just_balance_loss`                           ``gram=True``
HOSC             :math:`(1 - \alpha) / K` :func:`mincut_loss`,         ``gram=True``, :func:`hierpool.walk_cut`
                 :math:`\alpha / K` :func:`ho_mincut_loss`, 0.1
                 :func:`orthogonality_loss` or
                 :func:`hosc_orthogonality_loss`
===============  ==================================================  ==========================================

Names and values are those of torch-geometric-pool ("tgp"), where its values are finite.

Arguments that reproduce the DiffPool losses of each library (the tests compare values with the installed libraries):

==========================================  ==================================  =============================
library                                     :func:`link_pred_loss`              :func:`entropy_loss`
==========================================  ==================================  =============================
paper                                       ``"mean_graph"``, ``None``          ``"mean_graph"``, ``"valid"``
PyG ``dense_diff_pool``                     ``"global"``, ``"numel"``           ``"global"``, ``"padded"``
PyG, ``normalize=False``                    ``"global"``, ``None``              ``"global"``, ``"padded"``
tgp batched                                 ``"global"``, ``None``              ``"global"``, ``"valid"``
tgp batched, ``normalize_loss=True``        ``"global"``, ``"numel"``           ``"global"``, ``"valid"``
tgp unbatched, ``normalize_loss=True``      ``"global"``, ``"valid"``           ``"global"``, ``"valid"``
Spektral                                    ``"mean_graph"``, ``None``          ``"global"``, ``"padded"``
DGL example, second level on                ``"mean_graph"``, ``"valid"``       ``"mean_graph"``, ``None``
original code, 2020                         cross-entropy, ``"valid"``          none
==========================================  ==================================  =============================

The cross-entropy of the original code is a sum over all pairs of nodes; see :func:`hierpool.link_bce`.

The record's entropy has no epsilon inside the logarithm. That of the libraries differs from it by less than
``K * eps`` per node (``eps`` 1e-15 in PyG, 1e-8 in tgp, 1e-7 in Spektral).

For a ragged batch, normalisations by padded rows use the padding of a dense batch: the nodes of the largest graph.

Sources: DiffPool, Ying et al., NeurIPS 2018 (arXiv:1806.08804), section 3.3; MinCut, Bianchi, Grattarola, Alippi,
"Spectral Clustering with Graph Neural Networks for Graph Pooling", ICML 2020 (arXiv:1907.00481), equations 8 and 9;
DMoN, Tsitsulin, Palowitch, Perozzi, Müller, "Graph Clustering with Graph Neural Networks", JMLR 24, 2023
(arXiv:2006.16904), equation 8; TVGNN, Hansen, Bianchi, "Total Variation Graph Neural Networks", ICML 2023
(arXiv:2211.06218); Just Balance, Bianchi, "Simplifying Clustering with Graph Neural Networks", NLDL 2023
(arXiv:2207.08779); HOSC, Duval, Malliaros, "Higher-order Clustering and Pooling for Graph Neural Networks", CIKM 2022
(arXiv:2209.03473).
"""

from hierpool.losses.balance import (
    asym_norm_loss,
    cluster_loss,
    hosc_orthogonality_loss,
    just_balance_loss,
    orthogonality_loss,
)
from hierpool.losses.cuts import ho_mincut_loss, mincut_loss, spectral_loss, totvar_loss
from hierpool.losses.links import CONVENTIONS, REDUCTIONS, Convention, entropy_loss, link_pred_loss

__all__ = [
    "CONVENTIONS",
    "REDUCTIONS",
    "Convention",
    "asym_norm_loss",
    "cluster_loss",
    "entropy_loss",
    "ho_mincut_loss",
    "hosc_orthogonality_loss",
    "just_balance_loss",
    "link_pred_loss",
    "mincut_loss",
    "orthogonality_loss",
    "spectral_loss",
    "totvar_loss",
]
