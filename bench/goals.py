"""What the project asks of itself, in float32 with both losses, and what a row says about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """A bound on a figure: of ``provider`` on ``workload`` in mode "both", or of a study if ``provider`` is None.

    ``quantity`` is "speed-up" over the baseline of the workload, which is to be at least ``bound``; "seconds" or
    "peak", memory in floats of ``[N, K]``, at most; or one that a study measures, at most.
    """

    workload: str
    provider: str | None
    quantity: str
    bound: float
    unit: str

    @property
    def text(self) -> str:
        if self.quantity == "speed-up":
            return f"{self.bound:g}x"
        return f"at most {self.bound:g} {self.unit}".rstrip()

    def met(self, value: float) -> bool:
        return value >= self.bound if self.quantity == "speed-up" else value <= self.bound


def _speedup(workload: str, provider: str, ratio: float) -> Goal:
    return Goal(workload, provider, "speed-up", ratio, "x")


FLOATS = "N K floats"
GOALS: tuple[Goal, ...] = (
    _speedup("enzymes", "hierpool", 10.0),
    _speedup("proteins", "hierpool", 10.0),
    _speedup("dnd-like", "hierpool", 10.0),
    _speedup("dense-4096", "hierpool", 5.5),
    _speedup("dense-4096", "hierpool-detected", 4.5),
    _speedup("dense-4096-directed", "hierpool-directed", 3.0),
    _speedup("sparse-4096", "hierpool", 12.0),
    _speedup("enzymes-edges", "hierpool-edges", 12.0),
    _speedup("proteins-edges", "hierpool-edges", 12.0),
    _speedup("dnd-like-edges", "hierpool-edges", 15.0),
    _speedup("enzymes-linear", "hierpool-edges", 10.0),
    _speedup("proteins-linear", "hierpool-edges", 10.0),
    _speedup("dnd-like-linear", "hierpool-edges", 10.0),
    Goal("million", "hierpool-graph", "seconds", 1.5, "s"),
    Goal("million", "hierpool-graph", "peak", 4.25, FLOATS),
    Goal("million-graph", None, "undirected", 0.75, "s"),
    Goal("linearity", None, "exponent", 1.15, ""),
)


def goals_for(workload: str, provider: str | None) -> list[Goal]:
    """The goals of a workload's provider, or of a study."""
    return [g for g in GOALS if (g.workload, g.provider) == (workload, provider)]


def value_of(row: dict, quantity: str) -> float | None:
    """The figure of a measured row; None where it has none, as without peak memory."""
    if "quantity" in row:
        return row["value"] if row["quantity"] == quantity else None
    if quantity == "speed-up":
        return row["speedup"]["p50"]
    if quantity == "seconds":
        return row["candidate_ms"]["p50"] / 1e3
    peak, sizes = row.get("peak", {}).get("bytes"), row["sizes"]
    return None if peak is None else peak / (4 * sizes["nodes"] * sizes["clusters"])


def judged(row: dict) -> list[dict]:
    """The goals of a measured row with their outcome, for the row itself."""
    found = []
    for goal in goals_for(row["workload"], row.get("provider")):
        value = value_of(row, goal.quantity)
        if value is not None:
            found.append({"quantity": goal.quantity, "bound": goal.bound, "met": goal.met(value)})
    return found
