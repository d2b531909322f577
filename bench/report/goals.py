"""Goals of the project, in float32 with both losses, and the figure of a row that a goal is about."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """A bound on a figure: of ``provider`` on ``workload`` in mode "both", or of a study if ``provider`` is None.

    ``quantity`` is "speed-up" over the baseline of the workload, which is to be at least ``bound``; "seconds" or
    "peak", memory in floats of ``[N, K]``, at most; or one that a study measures, at most. With ``unless_too_large``
    it is also met where the baseline does not fit into memory.
    """

    workload: str
    provider: str | None
    quantity: str
    bound: float
    unit: str
    unless_too_large: bool = False

    @property
    def text(self) -> str:
        if self.quantity == "speed-up":
            return f"{self.bound:g}x"
        return f"at most {self.bound:g} {self.unit}".rstrip()

    def met(self, value: float) -> bool:
        return value >= self.bound if self.quantity == "speed-up" else value <= self.bound


_SPEEDUPS = {
    "hierpool": {"enzymes": 10.0, "proteins": 10.0, "dnd-like": 10.0, "dense-4096": 5.5, "sparse-4096": 12.0},
    "hierpool-detected": {"dense-4096": 4.5},
    "hierpool-directed": {"dense-4096-directed": 3.0},
    "hierpool-edges": {
        "enzymes-edges": 12.0, "proteins-edges": 12.0, "dnd-like-edges": 15.0,
        "enzymes-linear": 10.0, "proteins-linear": 10.0, "dnd-like-linear": 10.0,
    },
}  # fmt: skip
GOALS: tuple[Goal, ...] = (
    *(Goal(w, provider, "speed-up", x, "x") for provider, of in _SPEEDUPS.items() for w, x in of.items()),
    Goal("million", "hierpool-graph", "seconds", 1.5, "s"),
    Goal("million", "hierpool-graph", "peak", 4.25, "N K floats"),
    Goal("million-graph", None, "undirected", 0.75, "s"),
    Goal("linearity", None, "exponent", 1.15, ""),
)

# Of whole training steps, by data set.
STEP_GOALS = {
    name: Goal(f"steps of {name}", "hierpool", "speed-up", bound, "x", unless_too_large=name == "DD")
    for name, bound in (("ENZYMES", 2.5), ("PROTEINS", 5.0), ("DD", 20.0))
}


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
