"""When each pooler is the one to take, in a sentence, and the losses whose formulas belong to it."""

WHEN = {
    "diff": "The first choice for graphs of similar size, and the method that others are compared with. The link "
    "loss keeps neighbours together; without it (`link_loss=None`) the clusters follow the task alone.",
    "mincut": "Clusters should be communities: few edges leave them, and they have about equal degree. A good "
    "default for graphs with community structure.",
    "dmon": "Clusters should have a large modularity. It needs no tuning of the balance, and finds communities of "
    "a graph without labels: `hierpool cluster` uses it.",
    "jb": "Layers of message passing before the pooler already make neighbours similar, and clusters only have "
    "to be balanced. The cheapest loss.",
    "hosc": "Communities show in triangles and short walks rather than in single edges, as in social networks.",
    "acc": "Sharp, balanced clusters, together with `GTVConv`: the total variation has steps where MinCut's cut "
    "is smooth.",
    "topk": "The cheapest pooler, when a few nodes decide the label. Nodes that are dropped are lost.",
    "sag": "As Top-k, but the score of a node depends on its neighbours as well.",
    "asap": "As Top-k, but a node that is kept speaks for its neighbours, and the graph stays connected. It costs "
    "more edges.",
    "pan": "As Top-k, but nodes on many short paths count more.",
    "ec": "All nodes should stay in the graph, merged in pairs along learned edges, about half of them in each "
    "level.",
    "graclus": "Merging in pairs without parameters: it can be done once, before training.",
    "kmis": "A spread-out set of nodes, with all others merged into them. `hops` sets how coarse the graph "
    "becomes.",
    "cluster": "The number of supernodes should follow from the graph: whole components of learned edges are merged.",
    "ndp": "A coarsening of half of the nodes that keeps the spectrum of the graph, computed once, before "
    "training.",
    "maxcut": "Nodes that are kept should differ from their neighbours, as on heterophilic graphs.",
    "det": "Fixed communities of large modularity in place of learned clusters: a strong and cheap baseline.",
}
LOSSES = {
    "diff": ("link_pred_loss", "entropy_loss"),
    "mincut": ("mincut_loss", "orthogonality_loss"),
    "dmon": ("spectral_loss", "cluster_loss"),
    "jb": ("just_balance_loss",),
    "hosc": ("mincut_loss", "ho_mincut_loss", "orthogonality_loss"),
    "acc": ("totvar_loss", "asym_norm_loss"),
}
# Work of one layer beside that of the rows of features, up to a constant.
COSTS = {
    "topk": "N log N for the order of scores, and E",
    "sag": "E F for the scores, N log N for their order",
    "asap": "E F for the attention; the entries of S^T A S",
    "pan": "2 L E for the scores, N log N for their order",
    "ec": "E F for the scores, E log E for their order",
    "graclus": "E log E",
    "kmis": "E hops and N log N",
    "cluster": "E F for the scores, E for the components",
    "ndp": "some hundred products of A with a vector; the entries of the coarsened graph",
    "maxcut": "E F for each layer of the score network, N log N",
    "det": "some passes over the edges",
}
