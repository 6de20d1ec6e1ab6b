"""What happens in a clip, measured on its joints: an event for every stretch in which an action of a kind is seen.

No learned network. Each kind of action has one curve that rises with every repetition, with thresholds far from both
rest and full height, so that a small fault of a motion does not move a figure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np

from adaqf_train.evaluation.attributes import arms, body, ways
from adaqf_train.evaluation.attributes.event import Event

REPEATED = ("raise", "wave", "punch", "kick", "jump", "bow", "crouch")
MEASURES: dict[str, Callable[[np.ndarray, Collection[str]], list[Event]]] = {
    "travel": ways.travels,
    "turn": ways.turns,
    "raise": arms.raises,
    "lower": arms.lowers,
    "wave": arms.waves,
    "punch": arms.punches,
    "kick": body.kicks,
    "jump": body.jumps,
    "bow": body.bows,
    "crouch": body.crouches,
    "seat": body.seats,
    "one_leg": body.one_leg,
}


def events(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    """The events of some kinds, in order of time. joints: (T, 22, 3), metres, Y up, 20 frames a second.

    kinds: of MEASURES. What a kind's curve shows is taken for that kind, unless another of `kinds` explains it better:
    a lifted arm is a wave if a wave is looked for, and a wave or a punch by its elbows if both are.
    """
    found = [event for kind in kinds for event in MEASURES[kind](joints, kinds)]
    return _joined(sorted(found, key=lambda event: (event.start, event.kind)))


def _joined(found: list[Event]) -> list[Event]:
    """Repetitions with the same limb in the same direction become one event, unless something else came between."""
    joined: list[Event] = []
    parts: list[list[Event]] = []
    for event in found:
        at = next((i for i in reversed(range(len(joined))) if joined[i].kind == event.kind), None)
        if at is not None and event.kind in REPEATED and _repeats(joined[at], event, found):
            parts[at].append(event)
            joined[at] = _together(parts[at])
        else:
            joined.append(event)
            parts.append([event])
    return joined


def _repeats(before: Event, event: Event, found: list[Event]) -> bool:
    between = any(before.end < e.start and e.end < event.start for e in found if e.kind != event.kind)
    return (before.side, before.direction) == (event.side, event.direction) and not between


def _together(events: list[Event]) -> Event:
    times = [event.seconds for event in events if event.seconds is not None]
    count = sum(event.count or 0 for event in events)
    return replace(events[0], end=events[-1].end, count=count, seconds=float(np.median(times)) if times else None)
