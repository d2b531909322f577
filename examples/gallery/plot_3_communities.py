"""
Communities from losses alone
=============================

A graph with planted communities, and no labels: the loss of DMoN finds them, because it is the negative modularity of a
soft assignment.
"""

# %%
# 600 nodes in 6 communities, of which 20 % of the edges leave. The network sees the rows of the adjacency.

import matplotlib.pyplot as plt
import torch

import hierpool
from hierpool.data import stochastic_block_model
from hierpool.metrics import normalized_mutual_information
from hierpool.nn import DMoNPool, SAGEConv

graph, labels = stochastic_block_model(600, 6, mean_degree=14, mixing=0.2, shuffle=False)
torch.manual_seed(2)
x = torch.randn(600, 32)
for _ in range(4):  # diffused noise: nodes of a community become similar
    x = torch.nn.functional.normalize(hierpool.spmm(graph, x), dim=1)

conv, pool = SAGEConv(32, 64), DMoNPool(64, k=6)
optimizer = torch.optim.Adam([*conv.parameters(), *pool.parameters()], lr=0.01)
losses, agreement = [], []
for _ in range(200):
    out = pool(conv(x, graph).relu(), graph)
    loss = sum(out.loss.values())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
    agreement.append(normalized_mutual_information(out.so.s.argmax(1), labels))
print(f"mutual information with the communities: {agreement[-1]:.2f}")

# %%
# The loss falls, and the agreement with the communities, which the network has never seen, rises.

figure, axis = plt.subplots(figsize=(7, 3), layout="constrained")
axis.plot(losses, label="loss")
axis.plot(agreement, label="mutual information with the communities")
axis.set_xlabel("step")
axis.legend()

# %%
# Nodes are ordered by community on the left and by learned cluster on the right. Blocks are communities.

figure, axes = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
adj = graph.to_dense()[0]
cluster = out.so.s.argmax(1)
for axis, order, title in (
    (axes[0], torch.randperm(600), "in any order"),
    (axes[1], cluster.argsort(), "in the order of learned clusters"),
):
    axis.imshow(adj[order][:, order] > 0, cmap="Greys", interpolation="nearest")
    axis.set_title(f"adjacency, {title}", fontsize=10)
    axis.set_axis_off()
plt.show()
