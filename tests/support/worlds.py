"""Processes of a gloo group that run test cases: started once, for the groups of the first 1, 2, 3 and 4 of them."""

from __future__ import annotations

import importlib
import json
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

SIZES = (1, 2, 3, 4)
Case = Callable[[dist.ProcessGroup], None]


def run(module: str, folder: Path) -> dict[int, dict[str, list[str]]]:
    """For every size of the group, the failures of each case of a module's ``CASES``, one text for each process."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    mp.spawn(_worker, (module, str(folder), store.port), nprocs=max(SIZES))  # type: ignore[no-untyped-call]
    found: dict[int, dict[str, list[str]]] = {size: {} for size in SIZES}
    for path in sorted(folder.glob("rank-*.json")):
        for size, name, text in json.loads(path.read_text()):
            found[size].setdefault(name, [])
            found[size][name] += [f"process {path.stem}: {text}"] if text else []
    return found


def sizes_of(module: str, name: str) -> tuple[int, ...]:
    """The sizes of the groups that run a case."""
    found: tuple[int, ...] = getattr(importlib.import_module(module), "SIZES_OF", {}).get(name, SIZES)
    return found


def _worker(rank: int, module: str, folder: str, port: int) -> None:
    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port)
    dist.init_process_group(
        "gloo", store=store, rank=rank, world_size=max(SIZES), timeout=timedelta(seconds=60)
    )
    cases: dict[str, Case] = importlib.import_module(module).CASES
    results: list[Any] = []
    for size in SIZES:
        group = dist.new_group(list(range(size)))
        for name, case in cases.items() if rank < size else ():
            if size not in sizes_of(module, name):
                continue
            try:
                case(group)
            except BaseException:
                results.append((size, name, traceback.format_exc()))
            else:
                results.append((size, name, ""))
    Path(f"{folder}/rank-{rank}.json").write_text(json.dumps(results))
    dist.destroy_process_group()
