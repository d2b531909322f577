"""Dataclasses whose fields are options of a command line."""

from __future__ import annotations

import argparse
from dataclasses import field, fields
from typing import Any, TypeVar

T = TypeVar("T", bound="Options")


def option(default: Any, text: str, choices: tuple[str, ...] | None = None) -> Any:
    """A field with its help text, and the values it may have."""
    return field(default=default, metadata={"help": text, "choices": choices})


class Options:
    """Base of a dataclass whose fields are made by :func:`option`."""

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add an option per field."""
        for item in fields(cls):  # type: ignore[arg-type]
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

    @classmethod
    def from_arguments(cls: type[T], args: argparse.Namespace) -> T:
        """What the command line asks for."""
        return cls(**{item.name: getattr(args, item.name) for item in fields(cls)})  # type: ignore[arg-type]
