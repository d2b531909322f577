"""
A graph with a million nodes
============================

Five million undirected edges, 20 planted communities. How long does one step of a pooler take, and can its communities
be found?
"""

# %%
# The graph is drawn here; `python -m hierpool cluster` reads graphs from files.

import resource
import time

import matplotlib.pyplot as plt
import torch

import hierpool
from hierpool.data import stochastic_block_model
from hierpool.metrics import normalized_mutual_information, pooled_weights

start = time.perf_counter()
graph, labels = stochastic_block_model(1_000_000, 20, mean_degree=10, mixing=0.1)
print(f"{graph.num_nodes:,} nodes, {graph.num_edges:,} entries, drawn in {time.perf_counter() - start:.1f} s")

# %%
# One step of DMoN with 20 clusters: softmax, pooled features and graph, the loss, and the gradient to the logits.

x = torch.randn(graph.num_nodes, 16)
logits = torch.randn(graph.num_nodes, 20, requires_grad=True)
start = time.perf_counter()
record = hierpool.soft_pool(x, graph, logits, link_loss=None)
hierpool.losses.spectral_loss(record).backward()
print(f"forward and backward in {time.perf_counter() - start:.2f} s")

# %%
# `multilevel_clusters` needs no training.

start = time.perf_counter()
clusters = hierpool.multilevel_clusters(graph, 20)
seconds = time.perf_counter() - start
agreement = normalized_mutual_information(clusters, labels)
print(f"{seconds:.1f} s, mutual information with the communities {agreement:.3f}")
print(f"peak memory of this program {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")

# %%
# The pooled graph: weights between the clusters found, of which the diagonal is the weight inside.

weights = pooled_weights(graph, clusters, 20)
figure, axis = plt.subplots(figsize=(4.6, 4), layout="constrained")
image = axis.imshow(weights.log10(), cmap="viridis")
figure.colorbar(image, label="log10 of the weight")
axis.set_title("20 x 20 in place of 1,000,000 x 1,000,000", fontsize=10)
plt.show()
