"""Multilevel clustering in plain Python: the moves of ``csrc/cpu/selection_multilevel.cpp``, one by one."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from hierpool.contract import ClusteringGoal, Csr

_ROUNDS = 16
_STALL = 0.02  # share of nodes that are merged, below which a level is the last
_TOLERANCE = 1 / 16  # part of its terms by which the gain of a queued pair may have changed
_MASK = 2**64 - 1


class _Objective(NamedTuple):
    """The gain of a node in a cluster, from the weight of the edges between them and both volumes."""

    scale: float
    resolution: float
    largest: int

    def gain(self, weight: float, volume: float, of_cluster: float) -> float:
        return self.scale * weight - self.resolution * volume * of_cluster


@dataclass
class _Level:
    """A graph without self-loops: the weights of the neighbours of each node, in the order of their numbers."""

    rows: list[dict[int, float]]
    volume: list[float]
    size: list[int]
    parent: list[int] = field(default_factory=list)


def multilevel_clusters(
    graph: Csr, ptr: Tensor, goal: ClusteringGoal, start: Tensor | None, cycles: int, seed: int
) -> Tensor:
    """The cluster of each node in its graph."""
    rowptr, col = graph.rowptr.tolist(), graph.col.tolist()
    value = [1.0] * len(col) if graph.value is None else graph.value.tolist()
    found: list[int] = []
    firsts = ptr.tolist()
    for b, (first, last) in enumerate(pairwise(firsts)):
        rows: list[dict[int, float]] = []
        volume = []
        for i in range(first, last):
            entries = range(rowptr[i], rowptr[i + 1])
            rows.append({col[e] - first: value[e] for e in entries if col[e] != i and value[e] != 0})
            volume.append(_total(value[e] for e in entries))
        level = _Level(rows, volume, [1] * len(rows))
        labels = [] if start is None else start[first:last].tolist()
        found += _Multilevel(level, goal, b, seed).run(labels, cycles)
    return torch.tensor(found, dtype=torch.int64)


class _Multilevel:
    """One graph."""

    def __init__(self, finest: _Level, goal: ClusteringGoal, b: int, seed: int) -> None:
        self.levels, self.exact, self.seed = [finest], goal.exact, _mix(seed & _MASK)
        self.most = min(int(goal.most[b]), len(finest.rows))
        largest, total = int(goal.largest[b]), _total(finest.volume)
        if goal.cut:
            self.joining = _Objective(total, 1.0, max(largest // 2, 1))
            self.moving = _Objective(1.0, 0.0, largest)
        else:
            self.joining = self.moving = _Objective(total, goal.resolution, largest)

    def run(self, label: list[int], cycles: int) -> list[int]:
        if not self.levels[0].rows:
            return []
        for _ in range(cycles):
            del self.levels[1:]
            label = self._refined(self._coarsened(_renumbered(label)))
        return _renumbered(label)

    def _order(self, level: _Level) -> list[int]:
        self.seed = _mix(self.seed)
        return _random_order(len(level.rows), self.seed)

    def _coarsened(self, label: list[int]) -> list[int]:
        """Add levels; the labels of the last one, from those of the first, or new ones if there are none."""
        is_new = not label
        while True:
            level = self.levels[-1]
            nodes = len(level.rows)
            level.parent = list(range(nodes))
            moves = _Moves(level, level.parent, self.joining)
            least = self.most if self.exact and is_new else 1
            moves.join(self._order(level), least, None if is_new else label)
            if nodes - moves.used <= _STALL * sum(map(bool, level.rows)):
                break
            level.parent = _renumbered(level.parent)
            if not is_new:
                label = [c for _, c in sorted(dict(zip(level.parent, label, strict=True)).items())]
            self.levels.append(_coarser(level, moves.used))
        if not is_new:
            return label
        count = len(self.levels[-1].rows)
        if not self.exact or count <= self.most:
            return list(range(count))
        merging = self.joining._replace(largest=self.moving.largest)
        return _renumbered(_Merge(self.levels[-1], merging).run(self.most))

    def _refined(self, label: list[int]) -> list[int]:
        """The labels of the first level, after moves on all levels from the last one on."""
        for level in reversed(self.levels):
            if level is not self.levels[-1]:
                label = [label[c] for c in level.parent]
            moves = _Moves(level, label, self.moving)
            moves.balance(self.most)
            moves.improve(self._order(level), self.exact, self.most)
        return label


class _Moves:
    """Moves of single nodes of a level, which change ``label``."""

    def __init__(self, level: _Level, label: list[int], objective: _Objective) -> None:
        nodes = len(level.rows)
        self.level, self.label, self.objective = level, label, objective
        self.volume, self.size, self.members = [0.0] * nodes, [0] * nodes, [0] * nodes
        for i, c in enumerate(label):
            self.volume[c] += level.volume[i]
            self.size[c] += level.size[i]
            self.members[c] += 1
        self.free = [c for c in reversed(range(nodes)) if not self.members[c]]
        self.used = nodes - len(self.free)

    def join(self, order: list[int], least: int, within: list[int] | None) -> None:
        """Single nodes join their best neighbours, until ``least`` clusters are left."""
        for i in order:
            if self.used <= least:
                return
            if self.members[self.label[i]] == 1:
                to, gain, own = self._best_other(i, within)
                if gain > own:
                    self._move(i, to)

    def improve(self, order: list[int], keep: bool, most: int) -> None:
        """Move nodes to better clusters, without emptying one if ``keep``."""
        queue, waits = order, set(order)
        for _ in range(_ROUNDS):
            following: list[int] = []
            for i in queue:
                waits.discard(i)
                single = self.members[self.label[i]] == 1
                if keep and single:
                    continue
                to, gain, own = self._best_other(i)
                if not single and self.used < most and gain < 0:
                    to, gain = self.free[-1], 0.0
                if gain <= own:
                    continue
                self._move(i, to)
                for j in self.level.rows[i]:
                    if j not in waits and self.label[j] != to:
                        waits.add(j)
                        following.append(j)
            queue = following

    def balance(self, most: int) -> None:
        """Move nodes out of clusters that are too large, at the least loss."""
        for _ in range(_ROUNDS):
            candidates = []
            for i in range(len(self.label)):
                if self._is_too_large(i):
                    to, gain, own = self._best_other(i)
                    candidates.append(((own if to < 0 else own - gain) / self.level.size[i], i))
            lightest = [(size, c) for c, size in enumerate(self.size) if self.members[c]]
            heapq.heapify(lightest)
            moved = False
            for _, i in sorted(candidates):
                if not self._is_too_large(i):
                    continue
                to = self._best_other(i)[0]
                if to < 0:
                    to = self._lightest_with_room(i, lightest)
                if to < 0 and self.used < most:
                    to = self.free[-1]
                    heapq.heappush(lightest, (0, to))
                if to >= 0:
                    self._move(i, to)
                    moved = True
            if not moved:
                return

    def _is_too_large(self, i: int) -> bool:
        c = self.label[i]
        return self.size[c] > self.objective.largest and self.members[c] > 1

    def _best_other(self, i: int, within: list[int] | None = None) -> tuple[int, float, float]:
        """The best neighbouring cluster with room for node i, or -1, its gain, and that of its own cluster."""
        own, volume = self.label[i], self.level.volume[i]
        room = self.objective.largest - self.level.size[i]
        weights: dict[int, float] = {}
        for j, weight in self.level.rows[i].items():
            if within is None or within[j] == within[i]:
                weights[self.label[j]] = weights.get(self.label[j], 0.0) + weight
        own_gain = self.objective.gain(weights.pop(own, 0.0), volume, self.volume[own] - volume)
        best, most = -1, -torch.inf
        for c, weight in weights.items():
            gain = self.objective.gain(weight, volume, self.volume[c])
            if self.size[c] <= room and gain > most:
                best, most = c, gain
        return best, most, own_gain

    def _lightest_with_room(self, i: int, heap: list[tuple[int, int]]) -> int:
        while self.size[heap[0][1]] != heap[0][0]:
            heapq.heapreplace(heap, (self.size[heap[0][1]], heap[0][1]))
        size, c = heap[0]
        return c if size + self.level.size[i] <= self.objective.largest else -1

    def _move(self, i: int, to: int) -> None:
        old = self.label[i]
        if not self.members[to]:
            self.used += 1
            self.free.pop()
        for c, sign in ((to, 1), (old, -1)):
            self.members[c] += sign
            self.volume[c] += sign * self.level.volume[i]
            self.size[c] += sign * self.level.size[i]
        if not self.members[old]:
            self.used -= 1
            self.volume[old] = 0.0
            self.free.append(old)
        self.label[i] = to


class _Merge:
    """Merging of the nodes of a level, best pairs first."""

    def __init__(self, level: _Level, objective: _Objective) -> None:
        self.objective, self.weights = objective, [dict(row) for row in level.rows]
        self.volume, self.size, self.stamp = [*level.volume], [*level.size], [0] * len(level.rows)
        self.smallest = [(v, s, i, 0) for i, (v, s) in enumerate(zip(level.volume, level.size, strict=True))]
        self.pairs = [(-self._gain(i, j), i, j) for i, row in enumerate(self.weights) for j in row if i < j]
        heapq.heapify(self.smallest)
        heapq.heapify(self.pairs)

    def run(self, count: int) -> list[int]:
        """The cluster of each node."""
        cluster = list(range(len(self.weights)))
        for _ in range(len(cluster) - count):
            into, merged = self._merge(*self._next_pair())
            cluster[merged] = into
        for i, c in enumerate(cluster):
            while cluster[c] != c:
                c = cluster[c]
            cluster[i] = c
        return cluster

    def _gain(self, a: int, b: int) -> float:
        return self.objective.gain(self.weights[a][b], self.volume[a], self.volume[b])

    def _next_pair(self) -> tuple[int, int]:
        self._settle()
        first, second = self._pop_smallest(), self._pop_smallest()
        heapq.heappush(self.smallest, first)
        heapq.heappush(self.smallest, second)
        fits = first[1] + second[1] <= self.objective.largest
        apart = self.objective.gain(0.0, first[0], second[0])
        if self.pairs and (not fits or -self.pairs[0][0] >= apart):
            return self.pairs[0][1], self.pairs[0][2]
        return min(first[2], second[2]), max(first[2], second[2])

    def _settle(self) -> None:
        while self.pairs:
            before, a, b = -self.pairs[0][0], self.pairs[0][1], self.pairs[0][2]
            exist = self.stamp[a] >= 0 and self.stamp[b] >= 0
            if exist and self.size[a] + self.size[b] <= self.objective.largest:
                now = self._gain(a, b)
                apart = self.objective.resolution * self.volume[a] * self.volume[b]
                if before - now <= _TOLERANCE * (self.objective.scale * self.weights[a][b] + apart):
                    return
                heapq.heapreplace(self.pairs, (-now, a, b))
            else:
                heapq.heappop(self.pairs)

    def _pop_smallest(self) -> tuple[float, int, int, int]:
        while self.stamp[self.smallest[0][2]] != self.smallest[0][3]:
            heapq.heappop(self.smallest)
        return heapq.heappop(self.smallest)

    def _merge(self, a: int, b: int) -> tuple[int, int]:
        """Merge the node with fewer neighbours into the other one, which is returned first."""
        if len(self.weights[a]) < len(self.weights[b]):
            a, b = b, a
        self.volume[a] += self.volume[b]
        self.size[a] += self.size[b]
        self.stamp[a] += 1
        self.stamp[b] = -1
        heapq.heappush(self.smallest, (self.volume[a], self.size[a], a, self.stamp[a]))
        for j, weight in self.weights[b].items():
            del self.weights[j][b]
            if j != a:
                self.weights[j][a] = self.weights[a][j] = self.weights[a].get(j, 0.0) + weight
                heapq.heappush(self.pairs, (-self._gain(a, j), min(a, j), max(a, j)))
        self.weights[b] = {}
        return a, b


def _coarser(fine: _Level, count: int) -> _Level:
    """The graph of the ``count`` clusters ``fine.parent``."""
    sums: list[dict[int, float]] = [{} for _ in range(count)]
    volume, size = [0.0] * count, [0] * count
    for i, c in enumerate(fine.parent):
        volume[c] += fine.volume[i]
        size[c] += fine.size[i]
        for j, weight in fine.rows[i].items():
            other = fine.parent[j]
            if other != c:
                sums[c][other] = sums[c].get(other, 0.0) + weight
    for c, row in enumerate(sums):  # exactly symmetric, as sums in another order may not be
        for other in row:
            if other > c:
                sums[other][c] = row[other]
    return _Level([dict(sorted(row.items())) for row in sums], volume, size)


def _renumbered(labels: list[int]) -> list[int]:
    """Labels in the order of their first nodes."""
    number: dict[int, int] = {}
    return [number.setdefault(c, len(number)) for c in labels]


def _total(values: Iterable[float]) -> float:
    """The sum, term by term."""
    total = 0.0
    for value in values:
        total += value
    return total


def _mix(x: int) -> int:
    """SplitMix64."""
    x = (x + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ x >> 27) * 0x94D049BB133111EB) & _MASK
    return x ^ x >> 31


def _random_order(nodes: int, seed: int) -> list[int]:
    order = list(range(nodes))
    for i in range(nodes, 1, -1):
        seed = _mix(seed)
        order[i - 1], order[seed % i] = order[seed % i], order[i - 1]
    return order
