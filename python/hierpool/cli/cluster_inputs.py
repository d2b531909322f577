"""The options of ``hierpool cluster`` that say which graph is clustered."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from hierpool.data.large_graphs import DATASETS, FORMATS

_MAX_NODES = (1 << 31) - 1
NO_K = "k must be given, since the graph has no known labels"
# Options of a graph that is generated, and of one that is read, by their values if they are not given.
_OF_SYNTHETIC = {"nodes": 100_000, "communities": 100, "mean_degree": 10.0, "mixing": 0.2}
_OF_INPUT = {"format": "auto", "data_root": None}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""

    def add(flag: str, text: str, **details: object) -> None:
        default = " (default: %(default)s)" if "default" in details else ""
        parser.add_argument(flag, help=text + default, **details)  # type: ignore[arg-type]

    add(
        "input",
        f"edge list (text, .gz), sparse matrix (.npz, .mtx), METIS file, or dataset: {', '.join(DATASETS)}",
        nargs="?",
    )
    add("--format", "format of the input; auto: by suffix and first line", choices=FORMATS, default="auto")
    add("--features", "features of nodes: .npy or text file with a row per node, in order of ids", type=Path)
    add("--labels", "known clusters for comparison: .npy or text file with an integer per node", type=Path)
    add("--row-ids", "the first column of features and labels is the id of the node", action="store_true")
    add("--num-nodes", "number of nodes of an edge list, of which some have no edge", type=int)
    add(
        "--first-id",
        "smallest id of an edge list with --num-nodes or rows in order of ids",
        type=int,
        choices=(0, 1),
    )
    add("--synthetic", "generate a graph with planted communities instead", choices=("sbm",))
    for flag, text in (
        ("--nodes", "number of nodes of the synthetic graph"),
        ("--communities", "number of its communities"),
        ("--mean-degree", "mean degree of its nodes"),
        ("--mixing", "share of its edges that join different communities"),
    ):
        value = _OF_SYNTHETIC[flag.lstrip("-").replace("-", "_")]
        add(flag, text, type=type(value), default=value)


def check(args: argparse.Namespace) -> None:
    """Check the options before anything is read.

    Raises:
        ValueError: there is no graph or more than one, or an option has no meaning for it.
        OSError: features or labels are no file.
    """
    if (args.input is None) == (args.synthetic is None):
        raise ValueError("either an input or --synthetic must be given, and not both")
    others, owner = (_OF_SYNTHETIC, "--synthetic") if args.synthetic is None else (_OF_INPUT, "an input")
    for name, default in others.items():
        if getattr(args, name) != default:
            raise ValueError(f"{name.replace('_', '-')} is an option of {owner}, which is not given")
    if args.synthetic is not None and not 1 <= args.nodes <= _MAX_NODES:
        raise ValueError(f"nodes must lie between 1 and 2^31 - 1, got {args.nodes}")
    is_npz = args.format == "npz" or Path(args.input or "").suffix == ".npz"  # which may have labels
    if args.k == 0 and args.labels is None and Path(args.input or "").is_file() and not is_npz:
        raise ValueError(NO_K)
    tables = {name: getattr(args, name) for name in ("features", "labels") if getattr(args, name) is not None}
    if args.row_ids and not tables:
        raise ValueError("row-ids is an option of features or labels, which are not given")
    if args.first_id is not None and not tables and args.num_nodes is None:
        raise ValueError("first-id is an option of num-nodes, features or labels, which are not given")
    for name, path in tables.items():
        if not (path.is_file() and os.access(path, os.R_OK)):
            raise OSError(f"{name} must be a file that can be read, but {path} is none")
