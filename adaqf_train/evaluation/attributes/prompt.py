"""What a prompt says of a motion, however it was read."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

ATTRIBUTES = ("side", "both", "direction", "turn", "angle", "speed", "distance", "count", "order")


@dataclass(frozen=True)
class Said:
    """An action with what is said of it; None where nothing is."""

    kind: str  # of `measure.MEASURES`
    action: str  # whose threshold of speed applies
    side: str | None = None
    both: bool | None = None
    direction: str | None = None
    turn: str | None = None
    angle: float | None = None  # degrees
    speed: str | None = None
    distance: float | None = None  # metres
    count: int | None = None
    about: bool = False  # whether the count is a rough one
    with_previous: bool = False  # at the same time, so that no order is said


@dataclass(frozen=True)
class Prompt:
    """The actions a prompt names, in the order they are to be done, and which attributes it has words for."""

    actions: tuple[Said, ...]
    listed: frozenset[str]
    ordered: bool = False  # whether the order of the actions is said

    def pairs(self) -> list[tuple[int, int]]:
        """The actions whose order can be told: neighbours of different kinds. Two of a kind are told apart by side."""
        if not self.ordered:
            return []
        return [
            (i, i + 1)
            for i, (a, b) in enumerate(itertools.pairwise(self.actions))
            if a.kind != b.kind and not b.with_previous
        ]

    def says(self, attribute: str) -> bool:
        """Whether at least one action has a value of it."""
        if attribute == "order":
            return bool(self.pairs())
        return any(getattr(action, attribute) is not None for action in self.actions)
