"""Checks an installed hierpool; run by a Python of its environment, in a folder that holds no sources.

python smoke.py native|reference FOLDER
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch
import torch_geometric.nn as pyg

import hierpool


def values() -> None:
    """Values and gradients are those of PyTorch Geometric, also of the compiled function."""
    torch.manual_seed(0)
    x, s = torch.randn(3, 20, 8, dtype=torch.float64), torch.randn(3, 20, 5, dtype=torch.float64)
    mask = torch.arange(20) < torch.tensor([[20], [13], [7]])
    adj = (torch.rand(3, 20, 20) < 0.3).double() * mask[:, None] * mask[:, :, None]
    compiled = torch.compile(hierpool.dense_diff_pool, fullgraph=True, backend="aot_eager")
    results = []
    for function in (pyg.dense_diff_pool, hierpool.dense_diff_pool, compiled):
        logits = s.clone().requires_grad_()
        out = function(x, adj, logits, mask)
        sum(part.square().sum() for part in out).backward()
        results.append([*out, logits.grad])
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-9, atol=1e-9)


def backend(name: str) -> None:
    """The backend that runs CPU tensors."""
    found = {v.backend for v in hierpool.explain(("cpu",)) if v.runs and v.op == "soft_pool"}
    assert found == {name}, found


def commands(folder: Path) -> None:
    """`info` and `train`."""
    start = [sys.executable, "-m", "hierpool"]
    said = subprocess.run([*start, "info"], capture_output=True, text=True, check=True).stdout
    assert said.startswith("hierpool")
    options = ["--dataset", "MUTAG", "--epochs", "2", "--no-pictures", "--threads", "1", "--overwrite"]
    subprocess.run(
        [*start, "train", *options, "--out", str(folder)], capture_output=True, text=True, check=True
    )
    assert 0 <= json.loads((folder / "metrics.json").read_text())["test_accuracy_mean"] <= 1


if __name__ == "__main__":
    assert "site-packages" in hierpool.__file__, hierpool.__file__
    backend(sys.argv[1])
    values()
    commands(Path(sys.argv[2]))
    print(
        f"hierpool {hierpool.__version__}, torch {torch.__version__}, {sys.argv[1]}: values, compile, info, train"
    )
