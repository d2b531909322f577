"""Cells and tables of a run: padded batches, sparse batches, large graphs."""

from __future__ import annotations

from collections.abc import Sequence

from bench.goals import Goal, goals_for, value_of
from bench.kinds import KINDS
from bench.registry import title_of
from bench.results import Results

PEERS = ("pyg", "pyg-compiled", "tgp", "hierpool-reference")
VARIANTS = {"hierpool": "given", "hierpool-detected": "detected", "hierpool-directed": "none: directed"}
GRAPHS = {"hierpool-edges": "in every step", "hierpool-graph": "by the loader"}
AGAINST = {"sparse": "PyG + conversions", "sparse-linear": "tgp batched=False, linear layer counted"}
LEGEND = (
    "Milliseconds for forward + backward in float32: softmax, pooled features and adjacency, both losses, gradients "
    "to logits and features. The ratio to PyG eager is the median over alternating pairs (20th to 80th percentile); "
    "the floor is the least time by bytes or flops at this machine's measured rates; peak MB is PyG eager / hierpool, "
    "beyond the inputs."
)
SPARSE_LEGEND = (
    "The same batches from `edge_index`, with everything on the way counted on both sides: PyG's `to_dense_batch` and "
    "`to_dense_adj`, our graph in compressed rows unless the loader built it, and where tgp's layer is compared with, "
    "the linear layer that makes the logits."
)
LARGE_LEGEND = (
    "What no padded batch can hold (1 000 000 nodes: 4 TB), and how time grows and threads share it:"
)


# ---- cells ---------------------------------------------------------------------------------------------------------


def number(value: float) -> str:
    """Three significant digits, never in exponent form."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def workload_cell(row: dict) -> str:
    """The title, with the padding where there is any."""
    sizes = row.get("sizes")
    if not sizes or sizes["nodes"] == sizes["graphs"] * sizes["padded_nodes"]:
        return row["title"]
    real = sizes["nodes"] / (sizes["graphs"] * sizes["padded_nodes"])
    return f"{row['title']} (N {sizes['padded_nodes']}, K {sizes['clusters']}, {real:.0%} of rows real)"


def milliseconds(row: dict | None) -> str:
    return number(row["candidate_ms"]["p50"]) if row else "-"


def speedup(row: dict | None) -> str:
    if row is None:
        return "-"
    s = row["speedup"]
    return f"{number(s['p50'])}x ({number(s['p20'])} to {number(s['p80'])})"


def of_floor(row: dict | None) -> str:
    if row is None:
        return "-"
    fraction = row["floor"]["fraction"]
    return f"{fraction:.0%}" if fraction >= 0.1 else f"{fraction:.1%}"


def peak_mb(row: dict | None) -> str:
    peak = row.get("peak", {}).get("bytes") if row else None
    return "-" if peak is None else number(peak / 1e6)


def outcome(goal: Goal, value: float | None) -> str:
    """The goal and whether ``value`` meets it."""
    return "" if value is None else f"{goal.text} {'met' if goal.met(value) else 'not met'}"


def verdict(row: dict | None, quantity: str = "speed-up") -> str:
    """The row's goal for a quantity and its outcome; empty without a goal."""
    if row is None or row.get("mode", "both") != "both":
        return ""
    goals = [g for g in goals_for(row["workload"], row.get("provider")) if g.quantity == quantity]
    return "; ".join(outcome(goal, value_of(row, quantity)) for goal in goals)


def seconds(times: dict) -> str:
    """Percentiles in ms as seconds."""
    p20, p50, p80 = (number(times[key] / 1e3) for key in ("p20", "p50", "p80"))
    return f"{p50} s ({p20} to {p80})"


def figure_cell(row: dict) -> str:
    """The value of a study's row, with its range and what came with it."""
    text = f"{number(row['value'])}{'x' if row['unit'] == 'x' else ' ' + row['unit']}".rstrip()
    if "low" in row:
        text += f" ({number(row['low'])} to {number(row['high'])})"
    if "busy" in row:
        text += (
            f" as fast as one thread; {number(row['busy'])} of {row['threads']} processors busy; "
            f"{number(row['seconds'])} s"
        )
    return text


def figure_title(row: dict) -> str:
    size = f", E {row['entries']}" if row["quantity"] == "seconds" else ""
    return f"{row['title']}: {row['quantity']}{size}"


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Cells of lines, in columns."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)
    return "\n".join(padded)


# ---- tables --------------------------------------------------------------------------------------------------------


def markdown_table(columns: list[str], rows: list[list[str]]) -> list[str]:
    """Its lines."""
    return [
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def workloads_of(run: Results, *kinds: str) -> list[str]:
    """Names of the workloads of these kinds with a measured row."""
    return list(dict.fromkeys(row["workload"] for row in run.timings(*kinds)))


def dense_table(run: Results) -> list[str]:
    """One line for each padded batch and way of telling the operator about symmetry."""
    rows = []
    for name in workloads_of(run, "dense"):
        peers = [run.row(name, provider, "both") for provider in PEERS]
        ours = [(how, run.row(name, provider, "both")) for provider, how in VARIANTS.items()]
        ours = [(how, row) for how, row in ours if row] or [("-", None)]
        known = [row for row in (*peers, *(row for _, row in ours)) if row]
        if not known:
            continue
        for how, row in ours:
            times = [milliseconds(peer) for peer in peers]
            if row:  # PyG eager as it ran in the same pairs
                times[0] = number(row["peer_ms"]["p50"])
            rows.append([
                workload_cell(known[0]), *times, how, f"**{milliseconds(row)}**", speedup(row), verdict(row),
                of_floor(row), f"{peak_mb(peers[0])} / {peak_mb(row)}",
            ])  # fmt: skip
    head = [title_of(peer) for peer in PEERS]
    columns = [
        "workload",
        *head,
        "symmetry of A",
        "hierpool",
        "over PyG eager",
        "goal",
        "of the floor",
        "peak MB",
    ]
    return markdown_table(columns, rows) if rows else []


def sparse_table(run: Results) -> list[str]:
    """One line for each sparse batch, peer and way to come by the graph."""
    rows = []
    for name in workloads_of(run, "sparse", "sparse-linear"):
        for provider, how in GRAPHS.items():
            row = run.row(name, provider, "both")
            if row is None:
                continue
            peer = run.row(name, KINDS[row["kind"]].baseline, "both")
            sizes = row["sizes"]
            title = row["title"].split(",")[0]
            rows.append([
                f"{title} ({sizes['nodes']} nodes, {sizes['entries']} entries, K {sizes['clusters']})",
                AGAINST[row["kind"]], number(row["peer_ms"]["p50"]), how, f"**{milliseconds(row)}**", speedup(row),
                verdict(row), of_floor(row), f"{peak_mb(peer)} / {peak_mb(row)}",
            ])  # fmt: skip
    columns = [
        "batch",
        "against",
        "ms",
        "graph built",
        "hierpool",
        "as fast",
        "goal",
        "of the floor",
        "peak MB",
    ]
    return markdown_table(columns, rows) if rows else []


def large_rows(run: Results, name: str) -> list[list[str]]:
    """The lines of one large graph."""
    modes = {mode: run.row(name, "hierpool-graph", mode) for mode in ("both", "forward", "backward")}
    both = modes["both"]
    if both is None:
        return []
    title = both["title"]
    rows = [[f"{title}: forward + backward", seconds(both["candidate_ms"]), verdict(both, "seconds")]]
    rows += [
        [f"{title}: {mode}", seconds(row["candidate_ms"]), ""]
        for mode, row in modes.items()
        if row and mode != "both"
    ]
    peak = value_of(both, "peak")
    if peak is not None:
        rows.append(
            [f"{title}: peak memory beyond the graph", f"{number(peak)} N K floats", verdict(both, "peak")]
        )
    peer = f"{seconds(both['peer_ms'])}: {speedup(both)} as long"
    rows.append([f"{title}: the same algebra in torch.sparse", peer, ""])
    return rows


def large_table(run: Results) -> list[str]:
    """Large graphs, their construction, growth of the time, and threads."""
    rows = [line for name in workloads_of(run, "large") for line in large_rows(run, name)]
    rows += [
        [figure_title(row), figure_cell(row), verdict(row, row["quantity"])]
        for row in run.figures()
        if row["quantity"] != "seconds"  # of one size: in the plot
    ]
    return markdown_table(["what", "measured", "goal"], rows) if rows else []
