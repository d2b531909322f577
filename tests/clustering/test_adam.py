"""Adam of clustering against PyTorch's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from hierpool.clustering.adam import Adam


def test_it_is_adam_also_after_a_resumption() -> None:
    torch.manual_seed(0)
    nets = [nn.Sequential(nn.Linear(5, 4), nn.SELU(), nn.Linear(4, 3)) for _ in range(3)]
    for net in nets[1:]:
        net.load_state_dict(nets[0].state_dict())
    theirs = torch.optim.Adam(nets[0].parameters(), lr=0.1)
    ours, resumed = (Adam(net.parameters(), lr=0.1) for net in nets[1:])

    def step(net: nn.Module, optimizer: torch.optim.Optimizer | Adam, x: Tensor) -> None:
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()

    for i in range(6):
        x = torch.randn(8, 5)
        theirs.param_groups[0]["lr"] = ours.lr = resumed.lr = 0.1 / (i + 1)
        step(nets[0], theirs, x)
        step(nets[1], ours, x)
        if i == 3:
            nets[2].load_state_dict(nets[1].state_dict())
            resumed.load_state_dict(ours.state_dict())
        elif i > 3:
            step(nets[2], resumed, x)
    for net in nets[1:]:
        for one, other in zip(net.parameters(), nets[0].parameters(), strict=True):
            assert torch.equal(one, other)


def test_a_run_does_not_load_the_compiler(tmp_path: Path) -> None:
    options = [
        "--synthetic",
        "sbm",
        "--nodes",
        "200",
        "--communities",
        "3",
        "--epochs",
        "2",
        "--out",
        str(tmp_path),
    ]
    code = (
        "import sys; from hierpool.cli.main import main;"
        f"assert main({['cluster', *options]}) == 0; assert 'torch._dynamo' not in sys.modules"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
