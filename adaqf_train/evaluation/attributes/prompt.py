"""What a prompt states about a motion, whether it was read from its words or from a procedural clip's parameters."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

ATTRIBUTES = ("side", "both", "direction", "turn", "angle", "speed", "distance", "count", "order")


@dataclass(frozen=True)
class Action:
    """An action with its stated attributes; None if the prompt does not state one."""

    kind: str  # of `detection.DETECTORS`
    name: str  # whose thresholds of speed apply
    side: str | None = None
    both: bool | None = None
    direction: str | None = None
    turn: str | None = None
    angle: float | None = None  # degrees
    speed: str | None = None
    distance: float | None = None  # metres
    count: int | None = None
    about: bool = False  # the count is approximate
    with_previous: bool = False  # at the same time, so that no order is stated


@dataclass(frozen=True)
class Prompt:
    """The actions of a prompt, in the order in which they are to be done."""

    actions: tuple[Action, ...]
    listed: frozenset[str]  # attributes for which the prompt has words, whether or not the rules understand them
    ordered: bool = False  # whether the order of the actions is stated

    def pairs(self) -> list[tuple[int, int]]:
        """Return the neighbours whose order is stated: of different kinds, because events of one kind are matched."""
        return [
            (i, i + 1)
            for i, (a, b) in enumerate(itertools.pairwise(self.actions))
            if self.ordered and a.kind != b.kind and not b.with_previous
        ]

    def states(self, attribute: str) -> bool:
        """Whether at least one action has a value of an attribute."""
        if attribute == "order":
            return bool(self.pairs())
        return any(getattr(action, attribute) is not None for action in self.actions)
