"""Captions: the facts of a clip in several paraphrases, in the tone of HumanML3D, each stating only what is true.

A clause is a template such as "<wave> {hand} {count}{how}": <verb> is inflected ("waves", or "waving" after "before"),
{how} and {front} are two places for the word of speed, of which a template uses one. Normal speed has no word.
"""

from __future__ import annotations

import re

import numpy as np

SUBJECTS = ("a person", "a person", "a person", "the person", "someone", "a figure")
LOOSE_SHARE = 0.45  # of clips with four captions: one of them leaves an attribute out
LATE = {
    "slow": ("slowly", "at a slow pace", "in slow motion"),
    "fast": ("quickly", "fast", "rapidly", "at a fast pace"),
}
EARLY = {"slow": ("slowly",), "fast": ("quickly", "rapidly")}
ADJECTIVE = {"slow": "slow ", "normal": "", "fast": "quick "}
TIMES = {1: ("once", "one time"), 2: ("twice", "two times"), 3: ("three times",)}
NUMBER = {1: ("one", "a single"), 2: ("two",), 3: ("three",)}
HEIGHT = {
    ("shoulder", "forward"): ("straight out in front at shoulder height", "forward to shoulder height"),
    ("shoulder", "side"): ("out to the side at shoulder height", "sideways to shoulder height"),
    ("overhead", "forward"): ("forward and up above the head", "in front and up over the head"),
    ("overhead", "side"): ("out to the side and up above the head", "sideways and up over the head"),
}
LEVEL = {"shoulder": "shoulder height", "overhead": "above the head"}
IRREGULAR = {
    "run": "running",
    "step": "stepping",
    "sit": "sitting",
    "get": "getting",
    "squat": "squatting",
    "hop": "hopping",
    "let": "letting",
}

# action -> (clauses that name every attribute, clauses that leave some out)
CLAUSES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "walk": (
        (
            "<walk> {toward}{how}",
            "{front}<walk> {toward}",
            "<take> {quick}steps {toward}",
            "<move> {toward} on foot{how}",
            "<go> {toward} at a {quick}walk",
        ),
        ("<walk> {toward}",),
    ),
    "walk_curve": (
        (
            "<walk> forward{how} in a curve to the {side}",
            "{front}<walk> ahead along a path that bends to the {side}",
            "<curve> to the {side} in a {quick}forward walk",
            "<walk>{how} in an arc toward the {side}",
        ),
        ("<walk> forward in a curve to the {side}", "<walk> in a curve{how}"),
    ),
    "walk_corner": (
        (
            "<walk> forward{how} with a {angle} degree turn to the {side} on the way",
            "{front}<walk> ahead while turning {angle} degrees to the {side}",
            "<make> a {angle} degree {side} turn during a {quick}walk",
            "<walk>{how}, <turn> {side} by {angle} degrees and <walk> on",
        ),
        ("<walk> forward while turning to the {side}",),
    ),
    "run": (
        (
            "<run> {toward}{how}",
            "{front}<run> {toward}",
            "<go> {toward} at a {quick}run",
            "<move> {toward} at a {quick}run",
        ),
        ("<run>{how}",),
    ),
    "run_curve": (
        (
            "<run> forward{how} in a curve to the {side}",
            "{front}<run> ahead along a path that bends to the {side}",
            "<curve> to the {side} in a {quick}run",
            "<run>{how} in an arc toward the {side}",
        ),
        ("<run> in a curve to the {side}",),
    ),
    "sidestep": (
        (
            "<step> sideways to the {side}{how}",
            "{front}<sidestep> to the {side}",
            "<take> {quick}side steps to the {side}",
            "<move> sideways to the {side} in {quick}steps",
        ),
        ("<sidestep> to the {side}",),
    ),
    "turn": (
        (
            "<turn> {angle} degrees to the {side}{how}",
            "{front}<turn> {side} by {angle} degrees on the spot",
            "<make> a {quick}{angle} degree turn to the {side} in place",
            "<rotate>{how} on the spot {angle} degrees toward the {side}",
        ),
        ("<turn> to the {side}{how}",),
    ),
    "raise_arm": (
        (
            "<raise> {arm} {height} {times}{how}",
            "{front}<lift> {arm} {height} {times}",
            "{front}<raise> and <lower> {arm} {times}, moving {height}",
            "<bring> {arm} {height} and back down {times}{how}",
        ),
        ("{front}<raise> and <lower> {arm} {times}", "<raise> {arm} {height}{how}"),
    ),
    "lift_arm": (
        (
            "<raise> {arm} {height}{how} and <keep> {it} there",
            "{front}<lift> {arm} {height} and <hold> {it} up",
            "{front}<bring> {arm} {height} and <stay> like that",
        ),
        ("<raise> {arm}{how} and <hold> {it} up",),
    ),
    "lower_arm": (
        (
            "<start> with {arm} held {placed} and {front}<lower> {it}",
            "<lower> {arm} from {level}{how}",
            "{front}<let> {arm} down from {level}",
            "<bring> {arm} down{how} after holding {it} {placed}",
        ),
        ("{front}<lower> {arm}",),
    ),
    "wave": (
        (
            "<wave> {hand} {times}{how}",
            "{front}<wave> {times} with {hand}",
            "<lift> {hand} and <wave> {times}{how}",
            "{front}<swing> {hand} from side to side {times} in a wave",
            "<give> {number} {quick}{waves} with {hand}",
        ),
        ("<wave> with {hand}{how}", "{front}<wave> {times}"),
    ),
    "punch": (
        (
            "<punch> forward with {hand} {times}{how}",
            "{front}<punch> {times} with {hand}",
            "<throw> {number} {quick}{punches} with {hand}",
            "<strike> forward {times}{how} using {fist}",
        ),
        ("<punch> with {hand}{how}", "{front}<punch> {times}"),
    ),
    "bow": (
        (
            "<bow> {deeply} {times}{how}",
            "{front}<bow> {deeply} {times}",
            "<make> {number} {quick}{deep} {bows}",
            "{front}<bend> {deeply} forward at the waist {times}",
        ),
        ("{front}<bow> {times}", "<bow> {deeply}{how}"),
    ),
    "crouch": (
        (
            "<crouch> down {lowly} {times}{how}",
            "{front}<bend> the knees {lowly} {times}",
            "{front}<squat> {lowly} {times}",
            "<do> {number} {quick}{low} {squats}",
        ),
        ("{front}<crouch> down {times}",),
    ),
    "jump": (
        (
            "<jump> {airward} {times}",
            "<hop> {airward} with both feet {times}",
            "<make> {number} {high} {jumps} {airway}",
            "<leap> {times} {airway}, {landing}",
        ),
        ("<jump> {way} {times}", "<jump> {times}"),
    ),
    "kick": (
        (
            "<kick> {highly} with {leg} {times}{how}",
            "{front}<kick> {leg} {highly} forward {times}",
            "<do> {number} {quick}{high} {kicks} with {leg}",
            "<swing> {leg} {highly} in a {quick}forward kick {times}",
        ),
        ("<kick> forward with {leg} {times}", "{front}<kick> with {leg}"),
    ),
    "sit": (
        (
            "<sit> down{how}",
            "{front}<sit> down and <stay> seated",
            "<take> a seat{how}",
            "{front}<lower> the body onto a seat",
        ),
        (),
    ),
    "stand_up": (
        (
            "<stand> up{how} from a chair",
            "{front}<get> up from a seat",
            "<rise>{how} from sitting",
            "{front}<rise> to stand from a seated position",
        ),
        (),
    ),
    "sit_stand": (
        (
            "<sit> down{how} and <stand> up again",
            "{front}<take> a seat and <get> back up",
            "{front}<sit> down, then <rise> again",
            "<go> from standing to sitting and back{how}",
        ),
        (),
    ),
    "one_leg": (
        (
            "{front}<lift> {leg} and <balance> on {other}",
            "<raise> {leg}{how} to stand on {other}",
            "<balance> on {other} with {leg} {front}lifted",
            "<stand> on {other} after {front}raising {leg}",
        ),
        ("<stand> on {other}",),
    ),
    "idle": (
        (
            "<stand> still",
            "<stay> in place without moving",
            "<stand> upright with both arms at the sides",
            "<stand> and <wait>",
        ),
        (),
    ),
}


def _speeds(speed: str, rng: np.random.Generator) -> dict[str, str]:
    how, front = LATE.get(speed, ("",)), EARLY.get(speed, ("",))
    late, early = str(rng.choice(how)), str(rng.choice(front))
    return {"how": f" {late}" if late else "", "front": f"{early} " if early else "", "quick": ADJECTIVE[speed]}


def _words(facts: dict, rng: np.random.Generator) -> dict[str, str]:
    """Every slot the facts can fill; drawn anew for each caption so that synonyms vary."""
    words = _speeds(facts.get("speed", "normal"), rng)
    side, count, direction = facts.get("side"), facts.get("count"), facts.get("direction")
    if count is not None:
        plural = "" if count == 1 else "s"
        words |= {"times": str(rng.choice(TIMES[count])), "number": str(rng.choice(NUMBER[count]))}
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
        height = str(rng.choice(HEIGHT[facts["height"], direction]))
        words |= {"height": height.replace("the side", "the sides") if side == "both" else height}
        words["level"] = LEVEL[facts["height"]]
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
            if verb in IRREGULAR:
                return IRREGULAR[verb]
            return (verb[:-1] if verb.endswith("e") else verb) + "ing"
        return verb + ("es" if verb.endswith(("ch", "sh", "o", "s")) else "s")

    return re.sub(r"<(\w+)>", form, template)


def clause_key(facts: dict) -> str:
    """The row of CLAUSES: locomotion on a bent path has its own."""
    return f"{facts['action']}_{facts['path']}" if "path" in facts else facts["action"]


def _clause(template: str, facts: dict, rng: np.random.Generator, gerund: bool = False) -> str:
    filled = _inflect(template, gerund).format(**_words(facts, rng))
    filled = re.sub(r"\ba (?=(a|e|i|o|u|8))", "an ", filled)
    return re.sub(r"\s+", " ", filled).strip()


def _single(facts: dict, count: int, rng: np.random.Generator) -> list[str]:
    full, loose = CLAUSES[clause_key(facts)]
    templates = [full[i] for i in rng.permutation(len(full))]
    if loose and count == 4 and rng.random() < LOOSE_SHARE:
        templates.insert(int(rng.integers(4)), loose[int(rng.integers(len(loose)))])
    captions: list[str] = []
    while len(captions) < count:  # synonyms make a second use of a template different, if there are few
        template = templates[len(captions) % len(templates)]
        caption = f"{rng.choice(SUBJECTS)} {_clause(template, facts, rng)}"
        if caption not in captions:
            captions.append(caption)
    return captions


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


def _sequence(actions: tuple[dict, ...], count: int, rng: np.random.Generator) -> list[str]:
    """Joined clauses. Those with a conjunction of their own would make the order ambiguous and stay out."""
    joins = JOINS if len(actions) == 2 else JOINS_OF_THREE
    captions: list[str] = []
    for index in rng.permutation(len(joins)):
        parts: dict[str, str] = {}
        for i, facts in enumerate(actions):
            plain = [
                c for c in CLAUSES[clause_key(facts)][0] if " and " not in c and "," not in c and " after " not in c
            ]
            template = plain[int(rng.integers(len(plain)))]
            parts |= {f"v{i}": _clause(template, facts, rng), f"ing{i}": _clause(template, facts, rng, gerund=True)}
        pattern = re.sub(r"\{(\d)\}", r"{v\1}", joins[index])
        captions.append(pattern.format(subject=rng.choice(SUBJECTS), **parts))
    return list(dict.fromkeys(captions))[:count]


def describe(actions: tuple[dict, ...], rng: np.random.Generator) -> tuple[str, ...]:
    """Three or four different captions of a clip's actions."""
    count = int(rng.integers(3, 5))
    if len(actions) == 1:
        return tuple(_single(actions[0], count, rng))
    return tuple(_sequence(actions, count, rng))
