"""Command-line options that several commands share."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import torch

from hierpool._extras import require
from hierpool.distributed import launch
from hierpool.distributed.ranks import Ranks
from hierpool.training.checkpoint import FILE_NAME, CheckpointError

Config = TypeVar("Config")
MAX_THREADS = 1024  # OpenMP ends the process if it cannot start as many as it is asked for
# What runs write into a folder, and into those of folds.
_WRITTEN = (
    FILE_NAME, "log.csv", "metrics.json", "report.html", "curves.png", "clusters.png", "pooled.png",
    "assignments.npz", "assignments.csv", "names.csv", "tensorboard",
)  # fmt: skip


def add_config(parser: argparse.ArgumentParser, config_class: Any) -> None:
    """Add an option for every field of a configuration."""
    for item in fields(config_class):
        flag = f"--{item.name.replace('_', '-')}"
        if isinstance(item.default, bool):
            parser.add_argument(flag, action="store_true", help=item.metadata["help"])
            continue
        parser.add_argument(
            flag,
            type=type(item.default),
            default=item.default,
            choices=item.metadata["choices"],
            help=f"{item.metadata['help']} (default: %(default)s)",
        )


def make_config(config_class: type[Config], args: argparse.Namespace) -> Config:
    """The configuration that the options describe."""
    return config_class(**{item.name: getattr(args, item.name) for item in fields(config_class)})  # type: ignore[arg-type]


def add_run(parser: argparse.ArgumentParser, data_root: str) -> None:
    """Add the options of a run that writes checkpoints; ``data_root`` describes the option of that name."""
    parser.add_argument(
        "--out", required=True, type=Path, help="folder of checkpoints, logs, metrics and plots"
    )
    parser.add_argument("--data-root", type=Path, help=data_root)
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true", help="continue from the checkpoints in the folder")
    start.add_argument(
        "--overwrite",
        action="store_true",
        help="start anew in a folder that holds checkpoints; what earlier runs wrote there is removed",
    )
    parser.add_argument("--no-pictures", action="store_true", help="draw no plots")
    parser.add_argument(
        "--timeout",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="under torchrun, time for which a process waits for the others (default: %(default)g)",
    )
    add_threads(parser, None)


def add_threads(parser: argparse.ArgumentParser, default: int | None) -> None:
    """Add the option for the number of threads."""
    meaning = "torch decides" if default is None else "%(default)s"
    parser.add_argument(
        "--threads",
        type=int,
        default=default,
        help=f"CPU threads; small graphs do not benefit from many (default: {meaning})",
    )


def silent(text: str) -> None:
    """In place of ``print`` in all processes but the first."""


@contextmanager
def processes(args: argparse.Namespace) -> Iterator[Ranks | None]:
    """The group of the processes that torchrun has started; ``None`` of a process that was started alone. The first
    process keeps other runs out of ``--out``.

    Raises:
        ValueError: ``--timeout`` is not positive, or another run writes into ``--out``.
        LostProcess: a process has ended; the message names it and says how to go on.
        KeyboardInterrupt: with a message that says how to go on.
    """
    if not args.timeout > 0:
        raise ValueError(f"timeout must be positive, got {args.timeout:g}")
    try:
        with launch.processes(args.timeout) as ranks, ExitStack() as stack:

            def enter() -> dict[str, Any]:
                if ranks is None or ranks.rank == 0:
                    stack.enter_context(alone_in(args.out))
                return {}

            if ranks is None:
                enter()
            else:
                ranks.agree(enter)
            yield ranks
    except launch.LostProcess as error:
        advice = _advice(args, " with any number of processes")
        raise launch.LostProcess(f"{error}; {advice}", error.is_reporter) from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_advice(args)) from None


def _advice(args: argparse.Namespace, further: str = "") -> str:
    """How to continue a run that has ended."""
    saved = None if args.overwrite else next(args.out.glob(f"**/{FILE_NAME}"), None)
    if saved is None:
        return "there is no checkpoint yet"
    return f"{saved} is whole, and --resume continues from it{further}"


def set_threads(threads: int | None) -> None:
    """Set the number of threads of torch.

    Raises:
        ValueError: the number is below 1 or above ``MAX_THREADS``.
    """
    if threads is not None:
        if threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        if threads > MAX_THREADS:
            raise ValueError(f"threads must be at most {MAX_THREADS}, got {threads}")
        torch.set_num_threads(threads)


def add_memory_limit(parser: argparse.ArgumentParser, text: str) -> None:
    """Add the option for the limit of the memory."""
    parser.add_argument("--memory-limit", type=float, metavar="GIB", help=text)


def check_memory_limit(limit: float | None) -> None:
    """Raise ``ValueError`` unless the limit is positive or ``None``."""
    if limit is not None and not limit > 0:
        raise ValueError(f"memory-limit must be positive, got {limit}")


def check_out(out: Path) -> None:
    """Raise ``OSError`` if ``--out`` cannot be a folder or cannot be written to."""
    existing = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        raise OSError(f"out must be a folder that can be written to, but {existing} is none")


@contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """Make a folder and keep other runs out of it. It is removed at the end if nothing was written into it.

    Raises:
        ValueError: another run writes into the folder.
    """
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for folder in reversed(made):
            stack.callback(_remove_empty, folder)
        with suppress(ImportError, OSError):  # some systems have no locks of folders
            _lock(out, stack)
        yield


def _lock(folder: Path, stack: ExitStack) -> None:
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    stack.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(
            f"out must be a folder that no other run writes into, but one is at work in {folder}"
        ) from None


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # it is not empty
        folder.rmdir()


def check_run(args: argparse.Namespace) -> None:
    """Check what a run needs at its end, before it starts.

    Raises:
        CheckpointError: ``--out`` holds checkpoints, which are neither to be resumed nor overwritten.
        OSError: ``--out`` cannot be a folder or cannot be written to.
        ImportError: plots are to be drawn, and matplotlib is not installed.
    """
    check_out(args.out)
    require("tqdm", "train")
    if not args.no_pictures:
        require("matplotlib", "train")
    if not (args.resume or args.overwrite) and next(args.out.glob(f"**/{FILE_NAME}"), None) is not None:
        raise CheckpointError(
            f"{args.out} already holds checkpoints; pass --resume to continue, or --overwrite to start anew"
        )


def start_anew(args: argparse.Namespace) -> None:
    """With ``--overwrite``, remove what earlier runs wrote, so that nothing of them is continued or taken for new.

    Raises:
        OSError: a file cannot be removed.
    """
    if not args.overwrite:
        return
    folds = [folder for folder in args.out.glob("fold-[0-9][0-9]*") if folder.is_dir()]
    for folder in (*folds, args.out):
        for path in (folder / name for name in _WRITTEN):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    for folder in folds:
        if not any(folder.iterdir()):
            folder.rmdir()
    args.overwrite = False  # checkpoints are those of this run from now on
