"""What the parameters of a procedural clip say, as far as its caption says it too."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from adaqf_train.evaluation.attributes.prompt import ATTRIBUTES, Prompt, Said
from adaqf_train.evaluation.attributes.words import read_words

PROCEDURAL = {
    "walk": "travel",
    "run": "travel",
    "sidestep": "travel",
    "turn": "turn",
    "raise_arm": "raise",
    "lift_arm": "raise",
    "lower_arm": "raise",
    "wave": "wave",
    "punch": "punch",
    "kick": "kick",
    "jump": "jump",
    "bow": "bow",
    "crouch": "crouch",
    "sit": "seat",
    "stand_up": "seat",
    "sit_stand": "seat",
    "one_leg": "one_leg",
}


def read_parameters(actions: Sequence[dict], caption: str) -> Prompt:
    """What a procedural clip's parameters say, of the attributes that its caption has words for.

    A caption may leave an attribute out, and normal speed has no word: a motion is not held to what it was not told.
    """
    words = read_words(caption).listed
    words |= {"count"} if re.search(r"\b(?:a single|one)\b", caption) else set()
    named = bool(re.search(r"\b(?:left|right)\b", caption))
    found = [_of_facts(facts, words, named) for facts in actions if facts["action"] in PROCEDURAL]
    prompt = tuple(said for group in found for said in group)
    listed = words - {"side", "turn", "direction"}  # forward may be where an arm goes
    said_of = {name for name in ATTRIBUTES for said in prompt if getattr(said, name, None) is not None}
    listed |= said_of & {"side", "turn", "direction"}
    return Prompt(prompt, listed, ordered=len(actions) > 1)


def is_unseen(actions: Sequence[dict]) -> bool:
    """Whether a clip of the test split shows a combination of action and attributes that training never sees."""
    return bool(actions) and bool(actions[0].get("unseen_combination"))


def _of_facts(facts: dict, words: frozenset[str], named: bool) -> list[Said]:
    """One action; two for a walk on a bent path, which also turns."""
    kind, action, side = PROCEDURAL[facts["action"]], facts["action"], facts.get("side")
    speed = facts.get("speed") if "speed" in words else None
    said = Said(
        kind,
        f"procedural {action}" + (" backward" if facts.get("direction") == "backward" else ""),
        speed=speed if speed != "normal" else None,
        count=facts.get("count") if "count" in words else None,
        both=True if side == "both" and "both" in words else None,
    )
    turned = side if named else None
    angle = facts.get("angle_deg") if "angle" in words and facts.get("path") != "curve" else None
    if kind == "turn":
        return [replace(said, turn=turned, angle=angle)]
    if kind == "travel":
        direction = facts["direction"]
        aside = direction in ("left", "right")
        # "Sideways" is in the word for it; forward may go without saying.
        known = "sideways" if aside else direction if "direction" in words else None
        way = replace(said, direction=known, side=direction if aside and named else None)
        bend = Said("turn", "turn", turn=turned, angle=angle, with_previous=True)
        return [way, bend] if "path" in facts else [way]
    if kind == "jump":
        known = facts["direction"] == "forward" and "direction" in words
        return [replace(said, direction="forward" if known else None)]
    return [replace(said, side=side if named and side in ("left", "right") else None)]
