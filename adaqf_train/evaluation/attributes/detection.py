"""Detection of actions in the joints of a clip: an event for each stretch that shows an action.

Each kind of action has one curve that rises with every repetition, with thresholds far from both rest and full height,
so that a small error of a motion does not change a figure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np

from adaqf_train.evaluation.attributes import arm_actions, body_actions, locomotion
from adaqf_train.evaluation.attributes.signals import Event

REPEATED = ("raise", "wave", "punch", "kick", "jump", "bow", "crouch")
DETECTORS: dict[str, Callable[[np.ndarray, Collection[str]], list[Event]]] = {
    "travel": locomotion.travels,
    "turn": locomotion.turns,
    "raise": arm_actions.raises,
    "lower": arm_actions.lowers,
    "wave": arm_actions.waves,
    "punch": arm_actions.punches,
    "kick": body_actions.kicks,
    "jump": body_actions.jumps,
    "bow": body_actions.bows,
    "crouch": body_actions.crouches,
    "seat": body_actions.seats,
    "one_leg": body_actions.one_leg,
}


def events(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    """Detect the events of some kinds, keys of `DETECTORS`, in order of time. joints: (T, 22, 3), metres, Y up, 20 fps.

    A curve counts for its kind unless another of these kinds explains it better: a lifted arm is a wave if waves are
    sought; if punches are sought as well, its elbow decides.
    """
    found = [event for kind in kinds for event in DETECTORS[kind](joints, kinds)]
    return _joined(sorted(found, key=lambda event: (event.start, event.kind)))


def _joined(found: list[Event]) -> list[Event]:
    """Join repetitions with the same limb in the same direction, unless another action comes between them."""
    groups: list[list[Event]] = []
    for event in found:
        last = next((group for group in reversed(groups) if group[0].kind == event.kind), None)
        if last and event.kind in REPEATED and _repeats(last, event, found):
            last.append(event)
        else:
            groups.append([event])
    return [_together(group) if len(group) > 1 else group[0] for group in groups]


def _repeats(group: list[Event], event: Event, found: list[Event]) -> bool:
    first, end = group[0], group[-1].end
    between = any(end < other.start and other.end < event.start for other in found if other.kind != event.kind)
    return (first.side, first.direction) == (event.side, event.direction) and not between


def _together(group: list[Event]) -> Event:
    times = [event.seconds for event in group if event.seconds is not None]
    count = sum(event.count or 0 for event in group)
    return replace(group[0], end=group[-1].end, count=count, seconds=float(np.median(times)) if times else None)
