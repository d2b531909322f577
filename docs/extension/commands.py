"""The parsers of the commands, for the page of the command line."""

from __future__ import annotations

import argparse

from hierpool.cli.main import command_parser


def info() -> argparse.ArgumentParser:
    """Of ``hierpool info``."""
    return command_parser("info")


def train() -> argparse.ArgumentParser:
    """Of ``hierpool train``."""
    return command_parser("train")


def experiment() -> argparse.ArgumentParser:
    """Of ``hierpool experiment``."""
    return command_parser("experiment")


def cluster() -> argparse.ArgumentParser:
    """Of ``hierpool cluster``."""
    return command_parser("cluster")


def demo() -> argparse.ArgumentParser:
    """Of ``hierpool demo``."""
    return command_parser("demo")
