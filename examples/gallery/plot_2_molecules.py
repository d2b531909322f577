"""
Learned clusters of molecules
=============================

A network of the DiffPool paper is trained on MUTAG, 188 molecules with up to 28 atoms, for some seconds. What does it
merge?
"""

# %%
# MUTAG is in the package grakel, so that nothing is downloaded.

from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt

from hierpool.data import load_tu
from hierpool.training import TrainConfig, make_splits, plots, train_fold

dataset = load_tu("MUTAG")
config = TrainConfig(dataset="MUTAG", epochs=30)
split = make_splits(config, dataset)[0]
result = train_fold(config, dataset, split)
print(f"test accuracy {result.test_accuracy:.0%}")
print(f"always the larger class {dataset.majority_rate:.0%}")

# %%
# On the left of each pair is a molecule of the test set; atoms have the colour of their most probable cluster. On the
# right is the pooled graph, which the next layer of the network sees.

with TemporaryDirectory() as folder:
    picture = Path(folder) / "clusters.png"
    graphs = dataset.select(split.test[:3])
    plots.draw_clusters(picture, result.model, graphs, dataset="MUTAG")
    image = plt.imread(picture)
height, width = image.shape[:2]
figure = plt.figure(figsize=(9, 9 * height / width), dpi=160)
axis = figure.add_axes((0, 0, 1, 1))
axis.set_axis_off()
axis.imshow(image)
plt.show()

# %%
# The losses of training, by epoch.

epochs = [row["epoch"] for row in result.history]
figure, axis = plt.subplots(figsize=(7, 3), layout="constrained")
for name in ("task_loss", "link_loss", "entropy_loss"):
    axis.plot(epochs, [row[name] for row in result.history], label=name)
axis.set_xlabel("epoch")
axis.legend()
plt.show()
