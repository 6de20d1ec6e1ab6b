"""Attribute accuracy: the share of the sides, turns, speeds, counts … stated in prompts that the motions show."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from importlib.resources import files

import numpy as np

from adaqf_train.evaluation.attributes.caption_rules import read_caption
from adaqf_train.evaluation.attributes.detection import events
from adaqf_train.evaluation.attributes.parameters import read_parameters
from adaqf_train.evaluation.attributes.prompt import ATTRIBUTES, Action, Prompt
from adaqf_train.evaluation.attributes.signals import Event

ANGLE_TOLERANCE = 25.0  # degrees; corners are named in steps of 45
DISTANCE_TOLERANCE = 0.15  # as a share of the stated distance
ROUGHLY = 1  # tolerance of an approximate count, and of steps, whose first and last are a matter of taste
TURNING = ((45.0, 0.347), (90.0, 0.657), (135.0, 0.805))  # degrees, seconds at normal speed
_THRESHOLDS = tomllib.loads(files(__package__).joinpath("thresholds.toml").read_text(encoding="utf-8"))
PACE, TIME = _THRESHOLDS["pace"], _THRESHOLDS["time"]


def attribute_accuracy(
    motions: Sequence[np.ndarray], captions: Sequence[str], parameters: Sequence[Sequence[dict] | None] | None = None
) -> dict[str, dict[str, float | int | None]]:
    """Compare motions with the attributes that their prompts state: {attribute: {"accuracy", "coverage", "count"}}.

    motions: joints (T_i, 22, 3) of clips cut to their length, metres, Y up, 20 frames per second, frame 0 facing +Z, as
    `features.decode` returns them. parameters: the actions of procedural clips; None for a prompt whose words are to be
    read. count: number of statements tested. coverage: share of the prompts with a word for the attribute whose
    statement the rules understand; it depends on prompts alone, so that a motion in which nothing can be measured is an
    error, not omitted. Accuracy and coverage are None without statements.
    """
    prompts = read(captions, parameters)
    if len(motions) != len(prompts):
        raise ValueError(f"{len(motions)} motions and {len(prompts)} captions: give one caption a motion.")
    verdicts: dict[str, list[bool]] = {name: [] for name in ATTRIBUTES}
    for number, (joints, prompt) in enumerate(zip(motions, prompts, strict=True)):
        if joints.ndim != 3 or joints.shape[1:] != (22, 3) or len(joints) < 4 or not np.isfinite(joints).all():
            raise ValueError(
                f"Motion {number}: shape {joints.shape}. Attributes need finite joints (frames, 22, 3), at least 4."
            )
        for name, right in compare(joints, prompt):
            verdicts[name].append(right)
    return {
        name: {
            "accuracy": float(np.mean(found)) if found else None,
            "coverage": coverage(prompts, name),
            "count": len(found),
        }
        for name, found in verdicts.items()
    }


def read(captions: Sequence[str], parameters: Sequence[Sequence[dict] | None] | None = None) -> list[Prompt]:
    """Read each prompt, from the parameters of its clip if given, else from its words."""
    actions = parameters if parameters is not None else [None] * len(captions)
    if len(actions) != len(captions):
        raise ValueError(f"{len(captions)} captions and {len(actions)} parameters: give one a caption, or None.")
    return [
        read_caption(caption) if facts is None else read_parameters(facts, caption)
        for caption, facts in zip(captions, actions, strict=True)
    ]


def coverage(prompts: Sequence[Prompt], attribute: str) -> float | None:
    """Share of the prompts with a word for an attribute whose statement the rules understand."""
    stated = [prompt.states(attribute) for prompt in prompts if attribute in prompt.listed or prompt.states(attribute)]
    return float(np.mean(stated)) if stated else None


def compare(joints: np.ndarray, prompt: Prompt) -> list[tuple[str, bool]]:
    """Return (attribute, whether the motion shows it) of every statement in a prompt."""
    if not prompt.actions:
        return []
    seen = events(np.asarray(joints, dtype=np.float64), {action.kind for action in prompt.actions})
    matched = _match(prompt.actions, seen)
    verdicts = [v for action, event in zip(prompt.actions, matched, strict=True) for v in _check(action, event)]
    return verdicts + [("order", _in_order(prompt.actions, matched, i, j)) for i, j in prompt.pairs()]


def _in_order(actions: Sequence[Action], matched: Sequence[Event | None], i: int, j: int) -> bool:
    """Whether action j begins after action i; travel that continues through a turn is one event that ends after it."""
    first, second = matched[i], matched[j]
    if first is None:
        return False
    if second is None and actions[j].kind == "travel":
        earlier = [event for event in matched[:j] if event is not None and event.kind == "travel"]
        return bool(earlier) and earlier[-1].end > first.end
    return second is not None and first.start < second.start


def _match(actions: Sequence[Action], seen: Sequence[Event]) -> list[Event | None]:
    """The event of each action: of each kind the largest events, as many as there are actions, in order of time."""
    matched: list[Event | None] = [None] * len(actions)
    for kind in {action.kind for action in actions}:
        places = [i for i, action in enumerate(actions) if action.kind == kind]
        largest = sorted((event for event in seen if event.kind == kind), key=_size, reverse=True)[: len(places)]
        for place, event in zip(places, sorted(largest, key=lambda event: event.start), strict=False):
            matched[place] = event
    return matched


def _size(event: Event) -> float:
    if event.turn is not None:
        return abs(event.turn)
    return event.distance if event.distance is not None else event.end - event.start


def _check(action: Action, event: Event | None) -> list[tuple[str, bool]]:
    tolerance = ROUGHLY if action.about or action.kind == "travel" else 0
    checks = {
        "side": lambda e: e.side == action.side,
        "both": lambda e: e.side == "both",
        "direction": lambda e: e.direction == action.direction,
        "turn": lambda e: e.side == action.turn,
        "angle": lambda e: abs(abs(e.turn) - action.angle) <= ANGLE_TOLERANCE,
        "speed": lambda e: speed_of(e, action.name) == action.speed,
        "distance": lambda e: abs(e.distance / action.distance - 1) <= DISTANCE_TOLERANCE,
        "count": lambda e: abs(e.count - action.count) <= tolerance,
    }
    stated = [name for name in checks if getattr(action, name) is not None]
    return [(name, event is not None and bool(checks[name](event))) for name in stated]


def speed_of(event: Event, name: str) -> str | None:
    """Return "slow", "normal" or "fast" by the thresholds of an action; None if its time cannot be measured."""
    if name in PACE:
        slow, fast = PACE[name]
        if event.speed is None:
            return None
        return "slow" if event.speed < slow else "fast" if event.speed > fast else "normal"
    if event.seconds is None:
        return None
    seconds = event.seconds
    if event.turn is not None:
        seconds /= float(np.interp(abs(event.turn), *zip(*TURNING, strict=True)))
    fast, slow = TIME[name]
    return "fast" if seconds < fast else "slow" if seconds > slow else "normal"
