"""Captions of procedural clips: paraphrases of the facts in the tone of HumanML3D."""

from __future__ import annotations

import re

import numpy as np

from adaqf_train.procedural import vocabulary


def _speeds(speed: str, rng: np.random.Generator) -> dict[str, str]:
    how, front = vocabulary.LATE.get(speed, ("",)), vocabulary.EARLY.get(speed, ("",))
    late, early = str(rng.choice(how)), str(rng.choice(front))
    return {
        "how": f" {late}" if late else "",
        "front": f"{early} " if early else "",
        "quick": vocabulary.ADJECTIVE[speed],
    }


def _words(facts: dict, rng: np.random.Generator) -> dict[str, str]:
    """The values of all slots the facts can fill; synonyms are drawn for each caption."""
    words = _speeds(facts.get("speed", "normal"), rng)
    side, count, direction = facts.get("side"), facts.get("count"), facts.get("direction")
    if count is not None:
        plural = "" if count == 1 else "s"
        words |= {
            "times": str(rng.choice(vocabulary.TIMES[count])),
            "number": str(rng.choice(vocabulary.NUMBER[count])),
        }
        words |= {f"{noun}s": noun + plural for noun in ("wave", "bow", "squat", "jump", "kick")}
        words["punches"] = "punch" if count == 1 else "punches"
    if facts["action"] == "sidestep":
        side = direction
    if side is not None:
        words["side"] = side
    if side == "both":
        words |= {"arm": "both arms", "hand": "both hands", "fist": "both fists", "it": "them"}
    elif side is not None:
        other = {"left": "right", "right": "left"}[side]
        words |= {"arm": f"the {side} arm", "hand": f"the {side} hand", "fist": f"the {side} fist", "it": "it"}
        words |= {"leg": f"the {side} {rng.choice(('leg', 'foot'))}", "other": f"the {other} leg"}
    if direction == "forward":
        words["toward"] = str(rng.choice(("forward", "forwards", "straight ahead")))
    elif direction == "backward":
        words["toward"] = str(rng.choice(("backward", "backwards")))
    if "angle_deg" in facts:
        words["angle"] = str(facts["angle_deg"])
    if "height" in facts:
        height = str(rng.choice(vocabulary.HEIGHT[facts["height"], direction]))
        words |= {"height": height.replace("the side", "the sides") if side == "both" else height}
        words["level"] = vocabulary.LEVEL[facts["height"]]
        words["placed"] = "at shoulder height" if facts["height"] == "shoulder" else "above the head"
    return words | _amplitudes(facts, rng)


def _amplitudes(facts: dict, rng: np.random.Generator) -> dict[str, str]:
    amplitude, forward = facts.get("amplitude"), facts.get("direction") == "forward"
    words = {
        "slight": {"deeply": "slightly", "deep": "slight", "lowly": "slightly", "low": "shallow"},
        "deep": {"deeply": "deeply", "deep": "deep", "lowly": "deeply", "low": "deep"},
        "low": {"highly": "low", "high": "low"},
        "high": {"highly": "high", "high": "high"},
    }.get(amplitude or "", {})
    if facts["action"] == "jump":
        level = "high" if amplitude == "high" else "a little"
        words = words | {
            "airward": f"{level} and forward" if forward else f"{level} on the spot",
            "airway": "forward" if forward else "on the spot",
            "way": "forward" if forward else "up and down",
            "landing": f"going {'high' if amplitude == 'high' else 'not very high'} in the air",
        }
    return words


def _inflect(template: str, gerund: bool) -> str:
    """<verb> -> third person or gerund."""

    def form(match: re.Match[str]) -> str:
        verb = match[1]
        if gerund:
            if verb in vocabulary.IRREGULAR:
                return vocabulary.IRREGULAR[verb]
            return (verb[:-1] if verb.endswith("e") else verb) + "ing"
        return verb + ("es" if verb.endswith(("ch", "sh", "o", "s")) else "s")

    return re.sub(r"<(\w+)>", form, template)


def clause_key(facts: dict) -> str:
    """The key of an action in `vocabulary.CLAUSES`: locomotion on a bent path has its own."""
    return f"{facts['action']}_{facts['path']}" if "path" in facts else facts["action"]


def _clause(template: str, facts: dict, rng: np.random.Generator, gerund: bool = False) -> str:
    filled = _inflect(template, gerund).format(**_words(facts, rng))
    filled = re.sub(r"\ba (?=(a|e|i|o|u|8))", "an ", filled)
    return re.sub(r"\s+", " ", filled).strip()


def _single(facts: dict, count: int, rng: np.random.Generator) -> list[str]:
    full, loose = vocabulary.CLAUSES[clause_key(facts)]
    templates = [full[i] for i in rng.permutation(len(full))]
    if loose and count == 4 and rng.random() < vocabulary.LOOSE_SHARE:
        templates.insert(int(rng.integers(4)), loose[int(rng.integers(len(loose)))])
    captions: list[str] = []
    while len(captions) < count:  # a template used twice differs by its synonyms
        template = templates[len(captions) % len(templates)]
        caption = f"{rng.choice(vocabulary.SUBJECTS)} {_clause(template, facts, rng)}"
        if caption not in captions:
            captions.append(caption)
    return captions


def _sequence(actions: tuple[dict, ...], count: int, rng: np.random.Generator) -> list[str]:
    """Captions of several actions, joined from clauses without a conjunction, which would make the order ambiguous."""
    joins = vocabulary.JOINS if len(actions) == 2 else vocabulary.JOINS_OF_THREE
    captions: list[str] = []
    for index in rng.permutation(len(joins)):
        parts: dict[str, str] = {}
        for i, facts in enumerate(actions):
            full, _ = vocabulary.CLAUSES[clause_key(facts)]
            plain = [clause for clause in full if not re.search(r" and |,| after ", clause)]
            template = plain[int(rng.integers(len(plain)))]
            parts |= {f"v{i}": _clause(template, facts, rng), f"ing{i}": _clause(template, facts, rng, gerund=True)}
        pattern = re.sub(r"\{(\d)\}", r"{v\1}", joins[index])
        captions.append(pattern.format(subject=rng.choice(vocabulary.SUBJECTS), **parts))
    return list(dict.fromkeys(captions))[:count]


def describe(actions: tuple[dict, ...], rng: np.random.Generator) -> tuple[str, ...]:
    """Three or four different captions of a clip's actions, in order."""
    count = int(rng.integers(3, 5))
    if len(actions) == 1:
        return tuple(_single(actions[0], count, rng))
    return tuple(_sequence(actions, count, rng))
