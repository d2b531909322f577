"""Command line: ``python -m hierpool {info,train,cluster,demo}``.

A subcommand is a module with ``add_arguments(parser)`` and ``main(args) -> int``, imported only when it is asked for.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from hierpool._version import __version__


class Command(NamedTuple):
    """A subcommand: the module that carries it, and one line of help."""

    module: str
    help: str


COMMANDS = {
    "info": Command("hierpool.info", "what is installed, and which backend runs each operator and why"),
    "train": Command("hierpool.train", "train a hierarchical network on a graph classification data set"),
    "cluster": Command("hierpool.cluster", "cluster the nodes of one large graph, without labels"),
    "demo": Command("hierpool.demo", "train on MUTAG with the fused operator and with PyG's, and compare"),
}
# What bad input, a missing file, a missing extra or a backend that cannot run raise; anything else is a bug.
_USER_ERRORS = (ValueError, OSError, ImportError, RuntimeError)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    listing = "\n".join(f"  {name:<8}{command.help}" for name, command in COMMANDS.items())
    parser = _Parser(
        prog="hierpool",
        description="Fused graph pooling operators for PyTorch.",
        epilog=f"commands:\n{listing}\n\n`hierpool COMMAND --help` lists the options of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"hierpool {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error was raised")
    parser.add_argument("command", metavar="COMMAND", choices=COMMANDS, help="one of the commands below")
    arguments = parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    arguments.required = False  # else argparse lists it beside a missing COMMAND
    return parser


def _run(command: str, arguments: Sequence[str]) -> int:
    row = COMMANDS[command]
    module = importlib.import_module(row.module)
    parser = _Parser(prog=f"hierpool {command}", description=row.help[0].upper() + row.help[1:] + ".")
    module.add_arguments(parser)
    status: int = module.main(parser.parse_args(arguments))
    sys.stdout.flush()
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, or 2 after one sentence on standard error.

    Args:
        argv: arguments without the program's name; ``None`` takes those of the process.
    """
    args = _parser().parse_args(argv)
    try:
        return _run(args.command, args.arguments)
    except BrokenPipeError:
        # The reader of our output is gone; nothing more can be said, not even while Python flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print(f"hierpool {args.command}: interrupted", file=sys.stderr)
        return 130
    except _USER_ERRORS as error:
        if args.traceback:
            raise
        message = " ".join(str(error).split()) or type(error).__name__
        print(f"hierpool {args.command}: {message}", file=sys.stderr)
        return 2
