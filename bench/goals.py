"""What the project asks of itself: speed-up over PyG eager, forward + backward with both losses, float32."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """``provider`` on ``workload`` is to be at least ``ratio`` times as fast as PyG eager in mode "both"."""

    workload: str
    provider: str
    ratio: float


GOALS: tuple[Goal, ...] = (
    Goal("enzymes", "hierpool", 10.0),
    Goal("proteins", "hierpool", 10.0),
    Goal("dnd-like", "hierpool", 10.0),
    Goal("dense-4096", "hierpool", 5.5),
    Goal("dense-4096", "hierpool-detected", 4.5),
    Goal("dense-4096-directed", "hierpool-directed", 3.0),
    Goal("sparse-4096", "hierpool", 12.0),
)


def goal_for(workload: str, provider: str) -> Goal | None:
    """The goal of a row, or None when none is set."""
    return next((g for g in GOALS if (g.workload, g.provider) == (workload, provider)), None)
