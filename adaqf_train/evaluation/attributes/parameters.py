"""What the parameters of a procedural clip state, as far as its caption states it too."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from adaqf_train.evaluation.attributes.caption_rules import read_caption
from adaqf_train.evaluation.attributes.prompt import Action, Prompt

_NAMES = {  # kind of `detection.DETECTORS` -> actions of the procedural data set
    "travel": "walk run sidestep",
    "raise": "raise_arm lift_arm lower_arm",
    "seat": "sit stand_up sit_stand",
} | {kind: kind for kind in ("turn", "wave", "punch", "kick", "jump", "bow", "crouch", "one_leg")}
PROCEDURAL = {name: kind for kind, names in _NAMES.items() for name in names.split()}


def read_parameters(actions: Sequence[dict], caption: str) -> Prompt:
    """Read the parameters of a procedural clip's actions, as far as its caption states them too.

    A caption may omit an attribute, and normal speed has no word: motions need not show what a prompt does not state.
    """
    listed = read_caption(caption).listed
    listed |= {"count"} if re.search(r"\b(?:a single|one)\b", caption) else set()
    named = bool(re.search(r"\b(?:left|right)\b", caption))
    known = [facts for facts in actions if facts["action"] in PROCEDURAL]
    prompt = tuple(action for facts in known for action in _actions_of(facts, listed, named))
    places = {"side", "turn", "direction"}  # their words may mean something else: forward may be where an arm goes
    stated = {name for name in places for action in prompt if getattr(action, name) is not None}
    return Prompt(prompt, (listed - places) | stated, ordered=len(actions) > 1)


def is_unseen(actions: Sequence[dict]) -> bool:
    """Whether a clip of the test split shows a combination of action and attributes that is not in training."""
    return bool(actions) and bool(actions[0].get("unseen_combination"))


def _actions_of(facts: dict, listed: frozenset[str], named: bool) -> list[Action]:
    """One action; two for a walk on a bent path, which also turns. named: the caption names a side."""
    kind, name, side = PROCEDURAL[facts["action"]], facts["action"], facts.get("side")
    speed = facts.get("speed") if "speed" in listed else None
    action = Action(
        kind,
        f"procedural {name}" + (" backward" if facts.get("direction") == "backward" else ""),
        speed=speed if speed != "normal" else None,
        count=facts.get("count") if "count" in listed else None,
        both=True if side == "both" and "both" in listed else None,
    )
    turned = side if named else None
    angle = facts.get("angle_deg") if "angle" in listed and facts.get("path") != "curve" else None
    if kind == "turn":
        return [replace(action, turn=turned, angle=angle)]
    if kind == "travel":
        direction = facts["direction"]
        aside = direction in ("left", "right")
        # A sidestep is sideways by its name, but "forward" is often omitted.
        stated = "sideways" if aside else direction if "direction" in listed else None
        travel = replace(action, direction=stated, side=direction if aside and named else None)
        bend = Action("turn", "turn", turn=turned, angle=angle, with_previous=True)
        return [travel, bend] if "path" in facts else [travel]
    if kind == "jump":
        forward = facts["direction"] == "forward" and "direction" in listed
        return [replace(action, direction="forward" if forward else None)]
    return [replace(action, side=side if named and side in ("left", "right") else None)]
