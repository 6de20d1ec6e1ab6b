"""Attribute accuracy: the share of what prompts say of sides, turns, speeds, counts … that motions bear out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adaqf_train.evaluation.attributes.event import Event
from adaqf_train.evaluation.attributes.measure import events
from adaqf_train.evaluation.attributes.parameters import read_parameters
from adaqf_train.evaluation.attributes.prompt import ATTRIBUTES, Prompt, Said
from adaqf_train.evaluation.attributes.words import read_words

ANGLE_TOLERANCE = 25.0  # degrees; corners are named in steps of 45
DISTANCE_TOLERANCE = 0.15  # of the distance said
ROUGHLY = 1  # how far a count said to be about right may be off; also one of steps, whose ends are a matter of taste

# Metres per second: slow below the first, fast above the second. Captured walks and runs are called slow below 0.88 and
# 1.75, fast above 1.35 and 3.1 in the Bandai-Namco captions; procedural ones have bands of their own (`gait.SPEEDS`).
PACE = {
    "walk": (0.93, 1.30),
    "run": (1.85, 2.95),
    "procedural walk": (0.85, 1.34),
    "procedural walk backward": (0.55, 0.90),
    "procedural run": (2.29, 2.86),
    "procedural sidestep": (0.34, 0.54),
}
# Seconds of a repetition as `measure` times it: fast below the first, slow above the second. The procedural source's
# are half way (geometrically) between its speeds; captured hands take longer.
TIME = {
    "raise": (0.45, 0.90),
    "wave": (0.70, 0.95),
    "procedural raise_arm": (0.205, 0.29),
    "procedural lift_arm": (0.27, 0.41),
    "procedural lower_arm": (0.27, 0.41),
    "procedural wave": (0.45, 0.70),
    "procedural punch": (0.107, 0.152),
    "procedural kick": (1.0, 1.29),
    "procedural bow": (0.167, 0.274),
    "procedural crouch": (0.151, 0.233),
    "procedural sit": (0.25, 0.375),
    "procedural stand_up": (0.25, 0.375),
    "procedural sit_stand": (0.25, 0.375),
    "procedural one_leg": (0.193, 0.268),
    "procedural turn": (0.83, 1.24),  # of what the angle takes at normal speed, below
}
TURNING = ((45.0, 0.347), (90.0, 0.657), (135.0, 0.805))  # degrees, seconds at normal speed


def attribute_accuracy(
    motions: Sequence[np.ndarray], captions: Sequence[str], parameters: Sequence[Sequence[dict] | None] | None = None
) -> dict[str, dict[str, float | int | None]]:
    """{attribute: {"accuracy", "coverage", "count"}} of motions against what their prompts say.

    motions: joints (T_i, 22, 3) of clips cut to their length, metres, Y up, 20 frames a second, frame 0 facing +Z
    (`features.decode` gives them so). parameters: the `actions` of procedural clips, None for a prompt whose words are
    to be read. count: statements tested. coverage: of the prompts with a listed word for the attribute, the share in
    which the rules understood it. It depends on prompts alone: a motion in which nothing can be measured is wrong, not
    left out. accuracy and coverage are None where there is nothing to divide by. ValueError for unequal numbers and for
    joints that are not finite or not 22.
    """
    prompts = read(captions, parameters)
    if len(motions) != len(prompts):
        raise ValueError(f"{len(motions)} motions and {len(prompts)} captions: give one caption a motion.")
    for number, joints in enumerate(motions):
        if joints.ndim != 3 or joints.shape[1:] != (22, 3) or len(joints) < 4 or not np.isfinite(joints).all():
            raise ValueError(
                f"Motion {number}: shape {joints.shape}. Attributes need finite joints (frames, 22, 3), at least 4."
            )
    verdicts: dict[str, list[bool]] = {name: [] for name in ATTRIBUTES}
    for joints, prompt in zip(motions, prompts, strict=True):
        for name, right in judge(joints, prompt):
            verdicts[name].append(right)
    return {
        name: {
            "accuracy": float(np.mean(verdicts[name])) if verdicts[name] else None,
            "coverage": coverage(prompts, name),
            "count": len(verdicts[name]),
        }
        for name in ATTRIBUTES
    }


def read(captions: Sequence[str], parameters: Sequence[Sequence[dict] | None] | None = None) -> list[Prompt]:
    """What each prompt says: from its clip's parameters where there are some, else from its words."""
    actions = parameters if parameters is not None else [None] * len(captions)
    if len(actions) != len(captions):
        raise ValueError(f"{len(captions)} captions and {len(actions)} parameters: give one a caption, or None.")
    return [
        read_words(caption) if facts is None else read_parameters(facts, caption)
        for caption, facts in zip(captions, actions, strict=True)
    ]


def coverage(prompts: Sequence[Prompt], attribute: str) -> float | None:
    """Share of the prompts with a listed word for an attribute that say something the rules understand."""
    listed = [prompt for prompt in prompts if attribute in prompt.listed or prompt.says(attribute)]
    return float(np.mean([prompt.says(attribute) for prompt in listed])) if listed else None


def judge(joints: np.ndarray, prompt: Prompt) -> list[tuple[str, bool]]:
    """(attribute, whether the motion bears it out) of everything a prompt says."""
    if not prompt.actions:
        return []
    seen = events(np.asarray(joints, dtype=np.float64), {said.kind for said in prompt.actions})
    matched = _match(prompt.actions, seen)
    verdicts = [verdict for said, event in zip(prompt.actions, matched, strict=True) for verdict in _check(said, event)]
    verdicts += [("order", _in_order(prompt.actions, matched, i, j)) for i, j in prompt.pairs()]
    return verdicts


def _in_order(actions: Sequence[Said], matched: Sequence[Event | None], i: int, j: int) -> bool:
    """Whether action j begins after action i; a way that goes on through a turn is one event and ends after it."""
    first, second = matched[i], matched[j]
    if first is None:
        return False
    if second is None and actions[j].kind == "travel":
        ways = [event for event in matched[:j] if event is not None and event.kind == "travel"]
        return bool(ways) and ways[-1].end > first.end
    return second is not None and first.start < second.start


def _match(actions: Sequence[Said], seen: Sequence[Event]) -> list[Event | None]:
    """The event of each action: of a kind, as many as are named, the largest ones, in order of time."""
    matched: list[Event | None] = [None] * len(actions)
    for kind in {said.kind for said in actions}:
        places = [i for i, said in enumerate(actions) if said.kind == kind]
        largest = sorted((event for event in seen if event.kind == kind), key=_size, reverse=True)[: len(places)]
        for place, event in zip(places, sorted(largest, key=lambda event: event.start), strict=False):
            matched[place] = event
    return matched


def _size(event: Event) -> float:
    if event.turn is not None:
        return abs(event.turn)
    return event.distance if event.distance is not None else event.end - event.start


def _check(said: Said, event: Event | None) -> list[tuple[str, bool]]:
    """The verdicts on what is said of one action."""
    checks = {
        "side": lambda e: e.side == said.side,
        "both": lambda e: e.side == "both",
        "direction": lambda e: e.direction == said.direction,
        "turn": lambda e: e.side == said.turn,
        "angle": lambda e: abs(abs(e.turn) - said.angle) <= ANGLE_TOLERANCE,
        "speed": lambda e: speed_of(e, said.action) == said.speed,
        "distance": lambda e: abs(e.distance / said.distance - 1) <= DISTANCE_TOLERANCE,
        "count": lambda e: abs(e.count - said.count) <= (ROUGHLY if said.about or said.kind == "travel" else 0),
    }
    return [
        (name, event is not None and bool(check(event)))
        for name, check in checks.items()
        if getattr(said, name) is not None
    ]


def speed_of(event: Event, action: str) -> str | None:
    """ "slow", "normal" or "fast" by the thresholds of an action; None where its time could not be measured."""
    if action in PACE:
        slow, fast = PACE[action]
        if event.speed is None:
            return None
        return "slow" if event.speed < slow else "fast" if event.speed > fast else "normal"
    if event.seconds is None:
        return None
    seconds = event.seconds
    if event.turn is not None:
        seconds /= float(np.interp(abs(event.turn), *zip(*TURNING, strict=True)))
    fast, slow = TIME[action]
    return "fast" if seconds < fast else "slow" if seconds > slow else "normal"
