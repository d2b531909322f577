"""
One graph, pooled by every pooler
=================================

Sixty points in the plane, each joined with the four nearest. Poolers with learned clusters give every node a share of
every cluster; the others keep nodes, or merge them. The pictures show the second sort, with the weights that layers are
made with.
"""

# %%
# Nodes in grey are dropped. A circle is a node of the coarsened graph, at the mean place of its nodes, which have its
# colour. Dark lines are the edges of the coarsened graph.

import matplotlib.pyplot as plt
import torch

from examples.every_pooler import draw, points, pooled
from hierpool.nn import HARD_POOLERS, MinCutPool, SAGEConv

position, graph = points()
names = sorted(HARD_POOLERS)
rows = -(-len(names) // 3)
figure, axes = plt.subplots(rows, 3, figsize=(10, 3.4 * rows), layout="constrained")
for axis in axes.flat[len(names) :]:
    axis.set_axis_off()
for axis, name in zip(axes.flat, names, strict=False):
    draw(axis, name, position, graph, pooled(name, position, graph))

# %%
# A soft pooler learns its clusters. Here nothing but its own losses is minimised: no labels. `MinCutPool` finds
# balanced regions with few edges between them. Each pooler has such a picture on :doc:`its page </pooler/index>`.

torch.manual_seed(0)
conv, pool = SAGEConv(2, 32), MinCutPool(32, k=6)
optimizer = torch.optim.Adam([*conv.parameters(), *pool.parameters()], lr=0.01)
for _ in range(200):
    out = pool(conv(4 * position - 2, graph).relu(), graph)
    optimizer.zero_grad()
    sum(out.loss.values()).backward()
    optimizer.step()

figure, axis = plt.subplots(figsize=(5, 4.4), layout="constrained")
axis.set_axis_off()
for i, j in graph.to_edge_index()[0].T.tolist():
    axis.plot(*position[[i, j]].T.tolist(), color="0.8", linewidth=0.8, zorder=1)
axis.scatter(
    *position.T.tolist(), c=out.so.s.argmax(1).tolist(), cmap="tab10", vmin=0, vmax=9, s=60, zorder=2
)
axis.set_title("MinCutPool, 6 clusters")
plt.show()
