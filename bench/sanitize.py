"""One forward and backward of every kind on a CUDA device, under compute-sanitizer: ``python -m bench.sanitize``.

Runs ``compute-sanitizer`` on ``python -m bench.sanitize --once``, once for each of its tools below, with memory of its
own for every tensor: in the blocks that torch keeps, an access beyond the end of a tensor would find another one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys

import torch
from torch import Tensor

# What torch asks of the driver in vain is no error of a kernel.
TOOLS: dict[str, tuple[str, ...]] = {"memcheck": ("--report-api-errors", "no"), "racecheck": ()}
UNSUPPORTED = "Device not supported"  # by the tool, as in some virtual machines


def lacks() -> str | None:
    """Why compute-sanitizer cannot be run, or None."""
    return None if shutil.which("compute-sanitizer") else "compute-sanitizer is not on the PATH"


def once(device: torch.device, backend: str = "triton") -> None:
    """Every operator on small graphs whose sizes fill no tile, padded and in compressed rows; all gradients."""
    import hierpool

    gen = torch.Generator().manual_seed(0)
    b, n, k, f = 3, 37, 20, 9
    x, s = (torch.randn(b, n, c, generator=gen).to(device).requires_grad_() for c in (f, k))
    adj = (torch.rand(b, n, n, generator=gen) < 0.3).float().to(device).requires_grad_()
    mask = torch.arange(n, device=device) < torch.tensor([[n], [0], [11]], device=device)
    record = hierpool.soft_pool(x, adj, s, mask=mask, backend=backend)
    link = hierpool.link_bce(s.softmax(-1), adj, mask=mask, backend=backend)
    variation, _ = hierpool.total_variation(s, adj, mask=mask, backend=backend)
    norm = hierpool.asymmetric_norm(s, mask=mask, backend=backend)
    _differentiate([*record[:8], link, variation, norm], x, adj, s)
    graph = hierpool.RaggedGraph.from_dense(adj.detach(), mask)
    nodes, logits, value = (t.detach().requires_grad_() for t in (x[mask], s[mask], graph.value))
    graph = graph.with_value(value, symmetric=False)
    record = hierpool.soft_pool(nodes, graph, logits, backend=backend)
    link = hierpool.link_bce(logits.softmax(-1), graph, backend=backend)
    variation, _ = hierpool.total_variation(logits, graph, backend=backend)
    norm = hierpool.asymmetric_norm(logits, graph, backend=backend)
    of_edges = [
        hierpool.spmm(graph, nodes, backend=backend),
        hierpool.edge_distances(graph, nodes, backend=backend),
    ]
    _differentiate([*record[:8], link, variation, norm, *of_edges], nodes, value, logits)


def _differentiate(outputs: list[Tensor | None], *leaves: Tensor) -> None:
    torch.autograd.grad([out.sum() for out in outputs if out is not None], leaves)


def under(tool: str) -> int:
    """Run `once` under a tool of compute-sanitizer; its exit status."""
    command = ["compute-sanitizer", "--tool", tool, *TOOLS[tool], "--error-exitcode", "1"]
    command += [sys.executable, "-m", "bench.sanitize", "--once"]
    variables = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True)
    output = done.stdout + done.stderr
    if UNSUPPORTED in output:
        print(f"{tool}: not run, the device is not supported here")
        return 0
    print(output)
    print(f"{tool}: {'no errors' if done.returncode == 0 else 'errors'}")
    return done.returncode


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.sanitize", description=__doc__.splitlines()[0])
    parser.add_argument("--once", action="store_true", help="only the work, without compute-sanitizer")
    args = parser.parse_args(argv)
    if not torch.cuda.is_available():
        print(f"a CUDA device is needed, torch {torch.__version__} finds none", file=sys.stderr)
        return 2
    if args.once:
        once(torch.device("cuda"))
        torch.cuda.synchronize()
        return 0
    reason = lacks()
    if reason is not None:
        print(f"not run: {reason}")
        return 0
    return max(abs(under(tool)) for tool in TOOLS)


if __name__ == "__main__":
    sys.exit(main())
