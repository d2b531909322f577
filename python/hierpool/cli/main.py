"""The entry point of the command line.

A command is a module of this package with ``add_arguments(parser)`` and ``run(args)``, imported when it is called.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import shlex
import sys
from collections.abc import Sequence
from typing import NoReturn

from hierpool._version import __version__
from hierpool.distributed import launch

COMMANDS = {
    "info": "show versions, and which backend runs each operator",
    "train": "train a hierarchical network on a graph classification dataset",
    "experiment": "compare methods of graph classification, and make a table of the results",
    "cluster": "cluster the nodes of one large graph without labels",
    "demo": "train on MUTAG with hierpool's pooling operator and with PyG's, and compare",
}
# Raised for invalid input, missing files, missing packages, backends that cannot run, diverging losses and too little
# memory. Other errors are bugs.
_USER_ERRORS = (ValueError, OSError, ImportError, RuntimeError, FloatingPointError, MemoryError)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS)) + 2
    listing = "\n".join(f"  {name:<{width}}{text}" for name, text in COMMANDS.items())
    parser = _Parser(
        prog="hierpool",
        description="Fused graph pooling operators for PyTorch.",
        epilog=f"commands:\n{listing}\n\n`hierpool COMMAND --help` lists the options of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"hierpool {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show the traceback of an error")
    parser.add_argument("command", metavar="COMMAND", choices=COMMANDS, help="one of the commands below")
    arguments = parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    arguments.required = False  # otherwise argparse reports it as missing, too, if COMMAND is missing
    return parser


def command_parser(name: str) -> argparse.ArgumentParser:
    """The parser of a command."""
    text = COMMANDS[name]
    parser = _Parser(prog=f"hierpool {name}", description=f"{text[0].upper()}{text[1:]}.")
    importlib.import_module(f"hierpool.cli.{name}").add_arguments(parser)
    return parser


def _run(name: str, arguments: Sequence[str]) -> None:
    module = importlib.import_module(f"hierpool.cli.{name}")
    args = command_parser(name).parse_args(arguments)
    args.command_line = shlex.join(["python", "-m", "hierpool", name, *arguments])
    module.run(args)
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status.

    The status is 0, or 2 for an error that the user can correct, which is one sentence on standard error.

    Args:
        argv: arguments without the name of the program; ``None`` takes those of the process.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a file or a pipe shows how far a long run is
    args = _parser().parse_args(argv)
    try:
        _run(args.command, args.arguments)
    except BrokenPipeError:
        # The reader has closed the pipe. Python flushes the output at exit, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt as error:
        print(
            f"hierpool {args.command}: {'; '.join(['interrupted', *map(str, error.args)])}", file=sys.stderr
        )
        return 130
    except _USER_ERRORS as error:
        if args.traceback:
            raise
        message = launch.reported(error)
        if message is not None:
            print(f"hierpool {args.command}: {message}", file=sys.stderr)
        return 2
    return 0
