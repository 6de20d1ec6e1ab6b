"""What the words of a prompt say of a motion, by stated rules.

A prompt is read clause by clause: a clause is what stands between commas and joining words, and its first verb of KINDS
is its action. An attribute is only taken from the places listed here; everything else that holds a listed word ("left
alone", "after hard work") stays unread, and the prompt counts as not covered for that attribute. Nothing is guessed,
and a clause that denies its action ("without turning left") says nothing.

* side: left or right before hand, arm, fist, leg, foot … in a clause whose action moves that limb, or after "with the";
  a way that leads to a side: "sideways", "diagonally", "drifting", "sidestep(s)" … to the left or right
* both: "both hands", "both of their arms", "both fists" …
* turn: left or right after turn, rotate, spin, curve, corner …; "a left turn"; counterclockwise is left
* angle: "90 degrees", "ninety degrees", "a quarter turn", "a half turn"; a curve has none
* direction: forward(s), ahead, backward(s), sideways of walking, running, stepping; "leaning forward" is none
* speed: slow(ly), quick(ly), fast, rapid(ly), brisk(ly), at high speed, of the actions that have a threshold (`score`)
* count: once, twice, N times, N punches, N steps
* distance: N metres
* order: then, before, after, next, afterwards, finally, between two actions of different kinds
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from adaqf_train.evaluation.attributes.prompt import Prompt, Said

_LIMB = r"(?:hands?|arms?|fists?|wrists?|elbows?|palms?)"
_LEG = r"(?:legs?|foot|feet|knees?)"
_COUNTING = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
_NUMBERS = {word: number for number, word in enumerate(_COUNTING.split(), start=1)}
_NUMBERS |= {"single": 1, "thirty": 30, "forty five": 45, "forty-five": 45, "sixty": 60, "ninety": 90, "hundred": 100}
_NUMBER = rf"(?:\d+|{'|'.join(sorted(_NUMBERS, key=len, reverse=True))})"
_KIND = r"(?:slow|quick|fast|small|big|large|little|high|low|deep|slight|shallow|short|long|straight|more|side)"
_NOUN = r"(?:waves?|punch(?:es)?|kicks?|jumps?|bows?|squats?|hops?|leaps?|strokes?)"
_ORDER = r"(?:then|before|afterwards?|after|finally|next)"
_ROTATION = r"(?:turn\w*|rotat\w+|spin\w*|pivot\w*|curv\w+|arc|veer\w*|corner|bends?)"
# What may stand between a turn and its side; a head, a wheel or a page that is turned is no turn of the body.
_BETWEEN = (
    r"(?:around|about|by|roughly|nearly|sharply|slightly|partly|slowly|quickly|rapidly|fast|slow|at|a|an|little|bit|"
    r"back|further|once|twice|on|in|the|spot|place|motion|pace|his|her|their|body|quarter|half|full|turn|circle|"
    rf"walk|run|forward|{_NUMBER}|degrees?)"
)
_NOT_A_SIDE = r"(?! (?:hand|arm|fist|leg|foot|knee|side)| ?(?:away|now|after|alone|over|behind|angle)\b)"
_ASIDE = r"(?:sideways?|side ?steps?|side-steps?|sidestep\w*|diagonal\w*|drift\w*|angle|slightly|forward and)"
_CLOCK = {"left": r"(?:counter|anti)[- ]?clockwise", "right": r"\b(?<!counter[- ])(?<!anti[- ])clockwise"}

# What counts as holding a word for an attribute, whether or not the rules below can read it.
LISTED = {
    "both": r"\bboth (?:of (?:the|his|her|their) )?(?:hands|arms|fists)\b",
    "direction": r"\b(?:forwards?|backwards?|ahead|sideways)\b",
    "angle": r"\bdegrees?\b|\b(?:quarter|half) turn\b",
    "speed": r"\b(?:slow(?:ly)?|quick(?:ly)?|fast|rapid(?:ly)?|brisk(?:ly)?|high speed)\b",
    "distance": rf"\b{_NUMBER} (?:meters?|metres?)\b",
    "count": rf"\b(?:once|twice|{_NUMBER} times?|{_NUMBER} (?:{_KIND} ){{0,3}}{_NOUN}|{_NUMBER} (?:{_KIND} )*steps)\b",
    "order": rf"\b{_ORDER}\b",
}
# Kinds of action by their verbs, the first that fits; all but "lower" by the first such verb of a clause.
KINDS = {
    "punch": r"punch\w*|box(?:es|ing)",
    "kick": r"kick\w*",
    "wave": r"wav(?:e|es|ing)",
    "jump": r"jump\w*|hop(?:s|ping)?|leap\w*",
    "bow": r"bow(?:s|ing)?|bend(?:s|ing)? (?:\w+ )?(?:forward )?at the waist",
    "crouch": r"crouch\w*|squat\w*|bend(?:s|ing)? (?:the|his|her|their) knees",
    "seat": r"sit(?:s|ting)?|seat",
    "lower": r"lower(?:s|ing)?|drop(?:s|ping)?|"
    rf"(?:bring|let|put)(?:s|ting|ing)? (?:{_LIMB}|it|them|(?:the|their|his|her) (?:\w+ )?{_LIMB}) (?:back )?down",
    "raise": rf"(?:rais|lift)(?:e?s|e|ing)?|(?:put|bring)(?:s|ting|ing)? (?:.*{_LIMB}|it|them)",
    "travel": r"walk\w*|run(?:s|ning)?|jog\w*|sprint\w*|rac(?:e|es|ing)|trot\w*|dash\w*|strid\w+|step(?:s|ping)?|"
    r"sidestep\w*|side-step\w*|march\w*|(?:mov(?:e|es|ing)|go(?:es|ing)?|head(?:s|ing))\b(?=.*\b"
    r"(?:forwards?|backwards?|ahead|sideways|diagonally|on foot|walk|run)\b)",
    "turn": r"turn\w*|rotat\w+|spin(?:s|ning)?|pivot\w*",
}
_RUN = r"\b(?:run\w*|jog\w*|sprint\w*|rac(?:e|es|ing)|trot\w*|dash\w*)\b"
_GOING_ON = (
    r"\b(?:keeps? (?:on )?(?:walking|running|going)|(?:walk|run|go|goe)(?:s|ing)? on|"
    r"continu\w+(?: walking| running)?)\b"
)
# How a clause begins that has no action of its own; any other is about something the rules do not know.
_ADDS = (
    r"(?:taking|takes|covering|for|at|in|by|to|about|roughly|with|very|slowly|quickly|briskly|rapidly|fast|once|"
    r"twice)\b"
)
# What a motion is compared with is not what is done: "as if moving to music", "like a person who runs".
_LIKENESS = r"\b(?:as if|as though|like)\b.*?(?=[,;.]|$| (?:and|then|before|taking|covering|for about|about)\b)"
_DENIED = r"\b(?:not|without|never|almost|instead|tries|trying|[a-z]+n t)\b"  # "doesn't", its apostrophe gone
_ARMS, _LEGS = ("raise", "wave", "punch"), ("kick", "one_leg")


def read_words(caption: str) -> Prompt:
    """What a prompt's words say, by the rules above."""
    text = " ".join(re.sub(r"[^a-z0-9,;.\- ]", " ", caption.lower()).split())
    listed = {name for name, pattern in LISTED.items() if re.search(pattern, text)}
    turns = len(re.findall(rf"{_turning()}|{_CLOCK['left']}|{_CLOCK['right']}", text))
    listed |= {"turn"} if turns else set()
    listed |= {"side"} if len(re.findall(r"\b(?:left|right)\b", text)) > len(re.findall(_turning(), text)) else set()
    actions, ordered = _actions(text)
    return Prompt(tuple(_lifted_to_wave(actions)), frozenset(listed), ordered)


def _turning() -> str:
    to = r"(?:to|toward|towards) (?:the |his |her |their )?"
    side = rf"(?:left|right)\b{_NOT_A_SIDE}"
    return rf"(?:\b{_ROTATION}(?: {_BETWEEN}){{0,8}}? (?:{to})?{side}|\b(?:left|right)(?:-hand)? turn\b)"


def _clauses(text: str) -> list[tuple[str, str]]:
    """(joining word or "", clause) in the order they stand."""
    parts = re.split(rf"(\b(?:and )?{_ORDER}\b|\band\b(?! (?:slightly )?to the)|\bwhile\b|[,;.])", text)
    clauses, joint = [], ""
    for i, part in enumerate(parts):
        if i % 2:
            joint = f"{joint} {part}".strip() if not parts[i - 1].strip() else part
        elif part.strip():
            clauses.append((joint, part.strip()))
    return clauses


def _actions(text: str) -> tuple[list[Said], bool]:
    """The actions in the order they are to be done, and whether a word says that order."""
    found: list[Said] = []
    ordered = False
    text = re.sub(_LIKENESS, "", text)
    text = re.sub(r"\b(rais|lift)(es|s|ing) and lower(?:s|ing)\b", r"\1\2", text)  # one movement
    for joint, clause in _clauses(text):
        kind = None if re.search(_DENIED, clause) else _kind_of(clause, found)
        if kind is None or re.search(_GOING_ON, clause):
            if found and re.match(rf"{_ADDS}|.*{_GOING_ON}", clause):
                at = _meant(clause, found)
                found[at] = _adverbs(found[at], clause)
            continue
        said = _said(kind, clause)
        said = replace(said, with_previous=joint == "while" and bool(found))
        link = re.search(_ORDER, joint)
        if link and link.group() == "after" and found:
            found.insert(len(found) - 1, said)
        else:
            found.append(said)
        ordered = ordered or bool(link and (found[:-1] or link.group() == "after"))
    return [part for said in found for part in _bent(said)], ordered


def _meant(clause: str, found: Sequence[Said]) -> int:
    """Which action a clause without a verb of its own adds to: the last; steps and going on are of the last way."""
    way = re.search(rf"{_GOING_ON}|\bsteps?\b|\bmet(?:er|re)s?\b", clause)
    ways = [i for i, said in enumerate(found) if said.kind == "travel"]
    return ways[-1] if way and ways else len(found) - 1


def _bent(said: Said) -> tuple[Said, ...]:
    """A way that bends is also a turn, made on the way."""
    if said.kind != "travel" or said.turn is None:
        return (said,)
    bend = Said("turn", "turn", turn=said.turn, angle=said.angle, with_previous=True)
    return replace(said, turn=None, angle=None), bend


def _kind_of(clause: str, before: Sequence[Said]) -> str | None:
    """The kind of the clause's first known verb."""
    bare = re.sub(rf"\b(?:about )?{_NUMBER} (?:steps?|times?|meters?|metres?)\b", "", clause)
    if bare != clause and "step" in clause and re.search(r"\btak(?:e|es|ing)\b", clause):
        return None if any(said.kind == "travel" for said in before) else "travel"
    at = {kind: match.start() for kind, p in KINDS.items() if (match := re.search(rf"\b(?:{p})\b", bare))}
    if not at:
        return None
    kind = min(at, key=lambda name: (at[name], list(KINDS).index(name)))
    if kind == "travel" and re.search(r"\b(?:left|right) turn\b|\bcorner\b", bare):
        return "travel"
    if kind == "travel" and before and before[-1].kind in _ARMS and re.match(r"moving\b", bare):
        return None  # where the arm goes
    if kind == "raise" and re.search(rf"\b{_LEG}\b", bare):
        return "one_leg"
    if kind == "raise" and not re.search(rf"\b(?:{_LIMB}|it|them)\b", bare):
        return None
    return kind


def _said(kind: str, clause: str) -> Said:
    action = "run" if re.search(_RUN, clause) else "walk" if kind == "travel" else kind
    said = _adverbs(Said(kind, action), clause)
    limb = _LIMB if kind in _ARMS else _LEG if kind in _LEGS else None
    if limb:
        sides = set(re.findall(rf"\b(left|right) {limb}\b", clause))
        sides |= set(re.findall(r"\bwith (?:the|his|her|their) (left|right)\b(?! \w*(?:hand|arm|leg|foot))", clause))
        both = bool(re.search(rf"\bboth (?:of (?:the|his|her|their) )?{limb}\b", clause))
        said = replace(said, side=sides.pop() if len(sides) == 1 and not both else None, both=both or None)
    return said


def _adverbs(said: Said, clause: str) -> Said:
    """An action with what a clause adds to it."""
    if said.kind == "travel":
        clause = re.sub(r"\b(?:lean\w*|bent|angled)(?: \w+)* (?:forwards?|left|right|direction)\b", "", clause)
        straight = set(re.findall(r"\b(forward|backward|ahead|sideways)s?\b", clause))
        straight = {"forward" if word == "ahead" else word for word in straight}
        aside = re.search(rf"\b{_ASIDE}\b.*?\b(left|right)\b{_NOT_A_SIDE}", clause)
        if aside and not re.search(_ROTATION, clause):
            sideways = re.search(r"\b(?:sideways|side ?steps?|side-steps?|sidestep\w*)\b", clause)
            said = replace(said, side=aside[1], direction="sideways" if sideways else said.direction)
        if len(straight) == 1 and "diagonal" not in clause:
            said = replace(said, direction=straight.pop())
        if distance := re.search(rf"\b({_NUMBER}) (?:meters?|metres?)\b", clause):
            said = replace(said, distance=float(_number(distance[1])))
    if said.kind in ("travel", "turn"):
        turned = set(re.findall(r"\b(left|right)\b", " ".join(re.findall(_turning(), clause))))
        turned |= {side for side, pattern in _CLOCK.items() if re.search(pattern, clause)}
        said = replace(said, turn=turned.pop() if len(turned) == 1 else said.turn)
        if said.turn and (angle := _angle(clause)):
            said = replace(said, angle=angle)
    speeds = {"slow" if word.startswith("slow") else "fast" for word in re.findall(LISTED["speed"], clause)}
    if len(speeds) == 1 and said.action in WITH_SPEED and said.direction != "sideways":
        said = replace(said, speed=speeds.pop())
    return _counted(said, clause)


WITH_SPEED = ("walk", "run", "raise", "wave")  # whose thresholds were set on captured motion


def _counted(said: Said, clause: str) -> Said:
    if said.kind in ("turn", "seat", "one_leg", "lower"):
        return said
    nouns = "steps?" if said.kind == "travel" else rf"times?|{_NOUN}"
    if match := re.search(rf"\b({_NUMBER}) (?:{_KIND} ){{0,3}}(?:{nouns})\b", clause):
        return replace(said, count=_number(match[1]), about=f"about {match[1]}" in clause)
    word = re.search(r"\b(once|twice)\b", clause)
    return replace(said, count={"once": 1, "twice": 2}[word[1]]) if word and said.kind != "travel" else said


def _angle(clause: str) -> float | None:
    match = re.search(rf"\b({_NUMBER})[ -]degrees?\b", clause)
    if match:
        return float(_number(match[1]))
    part = re.search(r"\b(quarter|half) turn\b", clause)
    return {"quarter": 90.0, "half": 180.0}[part[1]] if part else None


def _number(word: str) -> int:
    return int(word) if word.isdigit() else _NUMBERS[word]


def _lifted_to_wave(actions: list[Said]) -> list[Said]:
    """Lifting a hand is how a wave begins: the lifting goes, its side stays. "It" is the limb named before."""
    kept: list[Said] = []
    for said in actions:
        before = kept[-1] if kept else None
        if said.kind in _ARMS and before and before.kind in _ARMS and said.side is None and said.both is None:
            said = replace(said, side=before.side, both=before.both)
        same = before and (said.side, said.both) == (before.side, before.both)
        if said.kind == "wave" and same and before.kind == "raise":
            kept.pop()
        kept.append(said)
    return kept
