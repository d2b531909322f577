"""The command line, ``python -m hierpool {info,train,experiment,cluster,demo}``."""

from hierpool.cli.main import main

__all__ = ["main"]
