"""The tables of bytes in ``docs/distributed.md``: of the newest results, and of a plan by the formulas."""

from __future__ import annotations

from pathlib import Path

from bench.harness import results
from bench.harness.machine import ROOT
from bench.harness.results import Results
from bench.ops.exchange import COMMUNITIES, MIXING, RESULTS, Step, halo_rows, record_bytes, step_bytes
from bench.report.pages import with_block
from bench.report.tables import Lines, markdown, number

PAGE = Path("docs") / "distributed.md"
NODES, DEGREE, BYTES, CUT = 10**9, 10.0, 4, 0.2
# Cards, K, and whether nodes are split so that the share CUT of the edges joins processes, or at random.
PLANS = (
    (8, 16, False), (8, 16, True), (8, 64, True),
    (64, 16, False), (64, 16, True), (64, 64, False), (64, 64, True),
)  # fmt: skip


def counted(run: Results) -> str:
    """What the collectives were given, and what the formula says."""
    m = run.metadata
    lines: Lines = [
        ("graph", "nodes", "entries", "partition", "halo rows", "counted MB", "formula MB", "ratio")
    ]
    for row in run.rows:
        sent, formula = row["sent_bytes"], row["formula_bytes"]
        lines.append((
            row["title"], f"{row['nodes']:,}", f"{row['entries']:,}", row["partition"], f"{row['halo_rows']:,}",
            f"{sent / 1e6:.2f}", f"{formula / 1e6:.2f}", f"{sent / formula:.4f}",
        ))  # fmt: skip
    size, nodes, degree = m["processes"], m["nodes"], m["mean_degree"]
    model = [halo_rows(nodes, size, degree, share) for share in (1 / size, own_share(size))]
    return (
        f"Counted by `python -m bench exchange` in a forward and backward of DiffPool's losses with {size} processes, "
        f"K = {m['k']},\nF = {m['features']}, float32; of the busiest process:\n\n{markdown(lines)}\n\n"
        f"The model of H gives {model[0]:,.0f} and {model[1]:,.0f} rows for the planted graph, which is numbered at "
        f"random. `communities` are the\nplanted ones, or those of `multilevel_clusters`."
    )


def own_share(processes: int) -> float:
    """The share of the edges of a node that go to one other process, if whole communities are in a process."""
    others = (
        COMMUNITIES - 1
    )  # an edge between communities leaves the process unless it goes to one of its own
    leaving = MIXING * (others - (COMMUNITIES // processes - 1)) / others
    return leaving / (processes - 1)


def planned() -> str:
    """The plan of NODES nodes on several cards."""
    lines: Lines = [
        (
            "cards",
            "K",
            "nodes split",
            "rows",
            "entries",
            "halo rows",
            "sent in a step",
            "a link",
            "memory of a card",
        )
    ]
    records: dict[int, list[float]] = {}
    for cards, k, cut in PLANS:
        step = Step(k, k, cards)
        share = CUT / (cards - 1) if cut else 1 / cards
        halo = halo_rows(NODES, cards, DEGREE, share)
        sent = step_bytes(step, round(halo), round(halo), False)
        rows = 5 * NODES / cards * k * BYTES
        entries = NODES / cards * (DEGREE * 4 + 8)
        records.setdefault(k, []).append(record_bytes(step))
        lines.append((
            str(cards), str(k), f"cut {CUT:.0%}" if cut else "at random", _gb(rows), _gb(entries),
            f"{halo / 1e6:.0f} M", _gb(sent), _gb(sent / (cards - 1)), _gb(rows + entries + 2 * sent),
        ))  # fmt: skip
    sums = ", and ".join(
        f"{min(found) / 1e3:.0f} to {max(found) / 1e3:.0f} kB for K = {k}" for k, found in records.items()
    )
    return f"{markdown(lines)}\n\nThe sum of the record is {sums}."


def _gb(size: float) -> str:
    return f"{number(size / 1e9)} GB"


def page(text: str, run: Results) -> str:
    """The page with both tables."""
    for name, block in (("counted", counted(run)), ("planned", planned())):
        markers = f"<!-- exchange-{name}:begin -->", f"<!-- exchange-{name}:end -->"
        text = with_block(text, block, *markers, PAGE.name)
    return text


def command(check: bool, root: Path = ROOT, parent: Path = RESULTS) -> int:
    """``python -m bench exchange --report`` or ``--check``: the exit status.

    Raises:
        ValueError: there are no results.
    """
    run = results.newest(parent)
    if run is None:
        raise ValueError("no complete results yet: python -m bench exchange")
    path = root / PAGE
    text = path.read_text(encoding="utf-8")
    if check:
        same = text == page(text, run)
        print(f"{path.name} {'holds' if same else 'does not hold'} the newest results")
        return 0 if same else 1
    path.write_text(page(text, run), encoding="utf-8")
    print(f"wrote {PAGE}")
    return 0
