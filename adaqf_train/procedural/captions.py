"""Captions of procedural clips: paraphrases of the facts in the tone of HumanML3D.

A caption's clause is a template such as "<wave> {hand} {times}{how}". <verb> is inflected ("waves", or "waving" after
"before"). The word of speed goes to {how} or {front}; a template has at most one of them. Normal speed has no word.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from adaqf_train.procedural.body import OTHER

SUBJECTS = ("a person", "a person", "a person", "the person", "someone", "a figure")
LOOSE_SHARE = 0.45  # share of clips with four captions in which one caption leaves an attribute out
LATE = {
    "slow": (" slowly", " at a slow pace", " in slow motion"),
    "normal": ("",),
    "fast": (" quickly", " fast", " rapidly", " at a fast pace"),
}
EARLY = {"slow": ("slowly ",), "normal": ("",), "fast": ("quickly ", "rapidly ")}
ADJECTIVE = {"slow": "slow ", "normal": "", "fast": "quick "}
TIMES = {1: ("once", "one time"), 2: ("twice", "two times"), 3: ("three times",)}
NUMBER = {1: ("one", "a single"), 2: ("two",), 3: ("three",)}
HEIGHT = {
    ("shoulder", "forward"): ("straight out in front at shoulder height", "forward to shoulder height"),
    ("shoulder", "side"): ("out to the side at shoulder height", "sideways to shoulder height"),
    ("overhead", "forward"): ("forward and up above the head", "in front and up over the head"),
    ("overhead", "side"): ("out to the side and up above the head", "sideways and up over the head"),
}
TOWARD = {"forward": ("forward", "forwards", "straight ahead"), "backward": ("backward", "backwards")}
IRREGULAR = {"run": "running", "step": "stepping", "sit": "sitting", "get": "getting", "squat": "squatting"}
IRREGULAR |= {"hop": "hopping", "let": "letting"}


def _read_clauses() -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Read clauses.txt: a paragraph per action, a clause per line; ~ marks clauses that leave an attribute out."""
    table = {}
    for paragraph in Path(__file__).with_name("clauses.txt").read_text(encoding="utf-8").strip().split("\n\n"):
        action, *lines = paragraph.splitlines()
        loose = tuple(line.removeprefix("~ ") for line in lines if line.startswith("~ "))
        table[action.removesuffix(":")] = (tuple(line for line in lines if not line.startswith("~ ")), loose)
    return table


CLAUSES = _read_clauses()
"""By action: the clauses that name every attribute, and those that leave one out."""

JOINS = (
    "{subject} {0} and then {1}",
    "{subject} {0}, then {1}",
    "{subject} first {0} and afterwards {1}",
    "{subject} {0} before {ing1}",
    "{subject} {1} after {ing0}",
    "after {ing0}, {subject} {1}",
)
JOINS_OF_THREE = (
    "{subject} {0}, then {1}, and finally {2}",
    "{subject} {0} and then {1} and then {2}",
    "{subject} first {0}, next {1} and at last {2}",
    "after {ing0}, {subject} {1} and then {2}",
)


def _words(facts: dict, rng: np.random.Generator) -> dict[str, str]:
    """The values of all slots the facts can fill; synonyms are drawn for each caption."""

    def drawn(options: tuple[str, ...]) -> str:
        return str(rng.choice(options))

    speed, count, direction = facts.get("speed", "normal"), facts.get("count"), facts.get("direction")
    side = direction if facts["action"] == "sidestep" else facts.get("side")
    words = {"how": drawn(LATE[speed]), "front": drawn(EARLY[speed]), "quick": ADJECTIVE[speed]}
    if count is not None:
        words |= {"times": drawn(TIMES[count]), "number": drawn(NUMBER[count])}
        plural = "" if count == 1 else "s"
        words |= {f"{noun}s": noun + plural for noun in ("wave", "bow", "squat", "jump", "kick")}
        words["punches"] = "punch" if count == 1 else "punches"
    if side == "both":
        words |= {"side": side, "arm": "both arms", "hand": "both hands", "fist": "both fists", "it": "them"}
    elif side is not None:
        words |= {part: f"the {side} {part}" for part in ("arm", "hand", "fist")} | {"side": side, "it": "it"}
        words |= {"leg": f"the {side} {drawn(('leg', 'foot'))}", "other": f"the {OTHER[side]} leg"}
    if direction in TOWARD:
        words["toward"] = drawn(TOWARD[direction])
    if "angle_deg" in facts:
        words["angle"] = str(facts["angle_deg"])
    if "height" in facts:
        height = drawn(HEIGHT[facts["height"], direction])
        words["height"] = height.replace("the side", "the sides") if side == "both" else height
        words["level"] = "shoulder height" if facts["height"] == "shoulder" else "above the head"
        words["placed"] = words["level"].replace("shoulder", "at shoulder")
    return words | _amplitudes(facts)


def _amplitudes(facts: dict) -> dict[str, str]:
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


def clause_key(facts: dict) -> str:
    """The key of an action in `CLAUSES`: locomotion on a bent path has its own."""
    return f"{facts['action']}_{facts['path']}" if "path" in facts else facts["action"]


def _clause(template: str, facts: dict, rng: np.random.Generator, gerund: bool = False) -> str:
    """A template with its slots filled, and its verbs in the third person or as gerunds."""

    def inflected(match: re.Match[str]) -> str:
        verb = match[1]
        if gerund:
            return IRREGULAR.get(verb) or verb.removesuffix("e") + "ing"
        return verb + ("es" if verb.endswith(("ch", "sh", "o", "s")) else "s")

    filled = re.sub(r"<(\w+)>", inflected, template).format(**_words(facts, rng))
    filled = re.sub(r"\ba (?=(a|e|i|o|u|8))", "an ", filled)
    return re.sub(r"\s+", " ", filled).strip()


def _single(facts: dict, count: int, rng: np.random.Generator) -> list[str]:
    full, loose = CLAUSES[clause_key(facts)]
    templates = [full[i] for i in rng.permutation(len(full))]
    if loose and count == 4 and rng.random() < LOOSE_SHARE:
        templates.insert(int(rng.integers(4)), loose[int(rng.integers(len(loose)))])
    captions: list[str] = []
    while len(captions) < count:  # a template used twice differs by its synonyms
        template = templates[len(captions) % len(templates)]
        caption = f"{rng.choice(SUBJECTS)} {_clause(template, facts, rng)}"
        if caption not in captions:
            captions.append(caption)
    return captions


def _sequence(actions: tuple[dict, ...], count: int, rng: np.random.Generator) -> list[str]:
    """Captions of several actions, joined from clauses without a conjunction, which would make the order ambiguous."""
    joins = JOINS if len(actions) == 2 else JOINS_OF_THREE
    captions: list[str] = []
    for index in rng.permutation(len(joins)):
        parts: dict[str, str] = {}
        for i, facts in enumerate(actions):
            full, _ = CLAUSES[clause_key(facts)]
            plain = [clause for clause in full if not re.search(r" and |,| after ", clause)]
            template = plain[int(rng.integers(len(plain)))]
            parts |= {f"v{i}": _clause(template, facts, rng), f"ing{i}": _clause(template, facts, rng, gerund=True)}
        pattern = re.sub(r"\{(\d)\}", r"{v\1}", joins[index])
        captions.append(pattern.format(subject=rng.choice(SUBJECTS), **parts))
    return list(dict.fromkeys(captions))[:count]


def describe(actions: tuple[dict, ...], rng: np.random.Generator) -> tuple[str, ...]:
    """Three or four different captions of a clip's actions, in order."""
    count = int(rng.integers(3, 5))
    return tuple(_single(actions[0], count, rng) if len(actions) == 1 else _sequence(actions, count, rng))
