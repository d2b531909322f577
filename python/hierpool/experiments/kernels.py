r"""Graph kernels as sparse features :math:`\Phi`, with :math:`K = \Phi \Phi^T` exactly.

A function takes a data set and returns a list of matrices ``[graphs, features]``; kernels of the parameter h, as the
number of rounds, sum the products of the first h + 1 matrices. NumPy and SciPy are imported when they are used.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from hierpool._extras import require
from hierpool.data import GraphDataset
from hierpool.experiments.features import node_labels
from hierpool.experiments.layers import EXTRA
from hierpool.graph import RaggedGraph

Features = list[Any]  # of scipy.sparse.csr_array
# Of nodes: above it, an adjacency matrix with float32 entries takes more than 16 MB.
_LARGEST_DENSE = 2000


def _numpy() -> Any:
    return require("numpy", EXTRA)


def _sparse() -> Any:
    return require("scipy.sparse", EXTRA)


def colours(dataset: GraphDataset, rounds: int) -> Iterator[Any]:
    """The colours of all nodes before and after each round of Weisfeiler-Leman refinement, int64 ``[N]`` each.

    Nodes have the same new colour if they had the same one, and their neighbours had the same multiset of colours.
    """
    np = _numpy()
    graph = RaggedGraph.collate([one.adj for one in dataset.graphs])
    col, rowptr = graph.col.long().numpy(), graph.rowptr.tolist()
    row = graph.row.long().numpy()
    current = np.concatenate([labels.numpy() for labels in node_labels(dataset)])
    yield current
    for _ in range(rounds):
        neighbours = current[col]
        content = neighbours[np.lexsort((neighbours, row))].tobytes()
        width = current.itemsize
        numbers: dict[tuple[int, bytes], int] = {}
        current = np.array(
            [
                numbers.setdefault((own, content[width * first : width * last]), len(numbers))
                for own, first, last in zip(current.tolist(), rowptr, rowptr[1:], strict=False)
            ],
            dtype=np.int64,
        )
        yield current


def _counts(owner: Any, keys: Any, graphs: int) -> Any:
    """How often each graph has each key, float64 ``[graphs, keys]``."""
    np = _numpy()
    _, columns = np.unique(keys, return_inverse=True)
    shape = (graphs, int(columns.max(initial=-1)) + 1)
    return _sparse().csr_array(
        (np.ones(len(owner)), (owner, columns)), shape=shape
    )  # sums what is there twice


def _owners(dataset: GraphDataset) -> Any:
    """Graph of each node."""
    np = _numpy()
    return np.repeat(np.arange(len(dataset.graphs)), [graph.x.size(0) for graph in dataset.graphs])


def weisfeiler_leman(dataset: GraphDataset, rounds: int) -> Features:
    """Counts of the colours of each round.

    Source: Shervashidze et al., "Weisfeiler-Lehman graph kernels", JMLR 12, 2011.
    """
    owner = _owners(dataset)
    return [_counts(owner, colour, len(dataset.graphs)) for colour in colours(dataset, rounds)]


def optimal_assignment(dataset: GraphDataset, rounds: int) -> Features:
    r"""The same counts in unary: a feature for each colour and number t, 1 if at least t nodes have the colour.

    As :math:`\min(a, b) = \sum_t [a \ge t][b \ge t]`, products are the histogram intersections of WL-OA.

    Source: Kriege, Giscard and Wilson, "On valid optimal assignment kernels", NeurIPS 2016 (arXiv:1606.01141).
    """
    np = _numpy()
    found = []
    for counts in weisfeiler_leman(dataset, rounds):
        often = counts.data.astype(np.int64)
        owner = np.repeat(counts.tocoo().row, often)
        colour = np.repeat(counts.tocoo().col.astype(np.int64), often)
        t = np.arange(len(colour)) - np.repeat(np.cumsum(often) - often, often)
        found.append(_counts(owner, colour * (t.max(initial=0) + 1) + t, counts.shape[0]))
    return found


def _pair_keys(first: Any, second: Any, third: Any, labels: int) -> Any:
    return (third.astype(_numpy().int64) * labels + first) * labels + second


def shortest_paths(dataset: GraphDataset) -> Features:
    """Counts of pairs of nodes by their labels and the length of the shortest path between them, where there is one.

    Source: Borgwardt and Kriegel, "Shortest-path kernels on graphs", ICDM 2005.
    """
    np, sparse = _numpy(), _sparse()
    shortest_path = require("scipy.sparse.csgraph", EXTRA).shortest_path
    labels = [one.numpy() for one in node_labels(dataset)]
    count = max(int(one.max(initial=0)) for one in labels) + 1
    owner, keys = [], []
    for number, (graph, label) in enumerate(zip(dataset.graphs, labels, strict=True)):
        n = len(label)
        row, col = graph.edge_index.numpy()
        adj = sparse.csr_array((np.ones(len(row)), (row, col)), shape=(n, n))
        length = shortest_path(adj, method="D", unweighted=True)
        first, second = np.nonzero(np.isfinite(length) & ~np.eye(n, dtype=bool))
        present, times = np.unique(
            _pair_keys(label[first], label[second], length[first, second], count), return_counts=True
        )
        owner.append((np.full(len(present), number), times))
        keys.append(present)
    _, columns = np.unique(np.concatenate(keys), return_inverse=True)
    rows, times = (np.concatenate(parts) for parts in zip(*owner, strict=True))
    shape = (len(dataset.graphs), int(columns.max(initial=-1)) + 1)
    return [sparse.csr_array((times.astype(float), (rows, columns)), shape=shape)]


def graphlets(dataset: GraphDataset) -> Features:
    """Counts of connected induced subgraphs of three nodes by their form and labels, of all of them.

    Source: Shervashidze et al., "Efficient graphlet kernels for large graph comparison", AISTATS 2009, which samples
    graphlets without labels.
    """
    np = _numpy()
    labels = [one.numpy() for one in node_labels(dataset)]
    rows, keys, values = [], [], []
    numbers: dict[tuple[str, int, int, int], int] = {}
    for number, (graph, label) in enumerate(zip(dataset.graphs, labels, strict=True)):
        for key, times in _of_graph(graph.edge_index.numpy(), label):
            rows.append(number)
            keys.append(numbers.setdefault(key, len(numbers)))
            values.append(times)
    shape = (len(dataset.graphs), len(numbers))
    return [_sparse().csr_array((np.array(values, dtype=float), (rows, keys)), shape=shape)]


def _of_graph(edges: Any, label: Any) -> Iterator[tuple[tuple[str, int, int, int], float]]:
    """The graphlets of a graph: the key of each and how often it is there."""
    np = _numpy()
    n = len(label)
    present, inverse = np.unique(label, return_inverse=True)
    one_hot = np.eye(len(present), dtype=np.float32)[inverse]
    adj: Any = _sparse().csr_array((np.ones(edges.shape[1], dtype=np.float32), tuple(edges)), shape=(n, n))
    adj = adj.toarray() if n <= _LARGEST_DENSE else adj
    neighbours = (adj @ one_hot).astype(np.float64)  # [n, labels]
    for centre, name in enumerate(present.tolist()):
        chosen = inverse == centre
        # Ordered pairs of different neighbours of the nodes of this label, and those of them that are joined.
        through = adj[:, chosen] @ adj[chosen]
        joined = through * adj if isinstance(adj, np.ndarray) else through.multiply(adj).tocsr()
        closed = one_hot.T @ (joined @ one_hot).astype(np.float64)
        pairs = neighbours[chosen].T @ neighbours[chosen] - np.diag(neighbours[chosen].sum(0))
        for a, b in itertools.combinations_with_replacement(range(len(present)), 2):
            path = (pairs[a, b] - closed[a, b]) / (2 if a == b else 1)
            if path:
                yield ("path", name, int(present[a]), int(present[b])), path
            if closed[a, b] and centre <= a:
                same = len({centre, a, b})
                orders = {3: 1, 2: 2, 1: 6}[same]
                yield ("triangle", name, int(present[a]), int(present[b])), closed[a, b] / orders


def grams(features: Sequence[Any]) -> Iterator[Any]:
    r"""The kernels of the first matrix of features, of the first two, and so on, float64 ``[graphs, graphs]`` each.

    They are scaled to :math:`K_{ij} / \sqrt{K_{ii} K_{jj}}`. Rows of graphs without features are 0.
    """
    np = _numpy()
    product: Any = 0.0
    for one in features:
        product = product + (one @ one.T).toarray()
        length = np.sqrt(product.diagonal())
        length[length == 0] = 1.0
        yield product / length / length[:, None]
