"""Small graphs in files."""

from __future__ import annotations

import gzip
from pathlib import Path

import torch

# A triangle 0 1 2 and an edge 2 3.
TRIANGLE = torch.tensor([[0, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 1], [0, 0, 1, 0]]).float()


def write(path: Path, text: str) -> str:
    """Write text, compressed if the name says so, and return the path."""
    content = text.encode()
    path.write_bytes(gzip.compress(content) if path.suffix.lower() == ".gz" else content)
    return str(path)
