"""What the words of a prompt state about a motion, by fixed rules.

A prompt is read clause by clause: clauses are separated by commas and joining words, and the first verb of KINDS in a
clause is its action. An attribute is read only from the places listed here. Other uses of a listed word ("left alone",
"after hard work") stay unread, and the prompt counts as not covered for that attribute. Nothing is guessed. A clause
that negates its action ("without turning left") states nothing.

* side: left or right before hand, arm, fist, leg, foot … in a clause whose action moves that limb, or after "with the";
  travel towards a side: "sideways", "diagonally", "drifting", "sidestep(s)" … to the left or right
* both: "both hands", "both of their arms", "both fists" …
* turn: left or right after turn, rotate, spin, curve, corner …; "a left turn"; counterclockwise is left
* angle: "90 degrees", "ninety degrees", "a quarter turn", "a half turn"; not of a curve
* direction: forward(s), ahead, backward(s), sideways of walking, running, stepping; not of "leaning forward"
* speed: slow(ly), quick(ly), fast, rapid(ly), brisk(ly), at high speed, of actions with a threshold (`accuracy`)
* count: once, twice, N times, N punches, N steps
* distance: N metres
* order: then, before, after, next, afterwards, finally, between two actions of different kinds
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from adaqf_train.evaluation.attributes.prompt import Action, Prompt

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
# Words allowed between a turn and its side. Turning a head, a wheel or a page is not a turn of the body.
_BETWEEN = (
    r"(?:around|about|by|roughly|nearly|sharply|slightly|partly|slowly|quickly|rapidly|fast|slow|at|a|an|little|bit|"
    r"back|further|once|twice|on|in|the|spot|place|motion|pace|his|her|their|body|quarter|half|full|turn|circle|"
    rf"walk|run|forward|{_NUMBER}|degrees?)"
)
_NOT_A_SIDE = r"(?! (?:hand|arm|fist|leg|foot|knee|side)| ?(?:away|now|after|alone|over|behind|angle)\b)"
_ASIDE = r"(?:sideways?|side ?steps?|side-steps?|sidestep\w*|diagonal\w*|drift\w*|angle|slightly|forward and)"
_CLOCK = {"left": r"(?:counter|anti)[- ]?clockwise", "right": r"\b(?<!counter[- ])(?<!anti[- ])clockwise"}
_SIDE = rf"(?:to (?:the |his |her |their )?|towards? (?:the |his |her |their )?)?(?:left|right)\b{_NOT_A_SIDE}"
_TURNING = rf"(?:\b{_ROTATION}(?: {_BETWEEN}){{0,8}}? {_SIDE}|\b(?:left|right)(?:-hand)? turn\b)"

# Words for an attribute, whether or not the rules below can read them.
LISTED = {
    "both": r"\bboth (?:of (?:the|his|her|their) )?(?:hands|arms|fists)\b",
    "direction": r"\b(?:forwards?|backwards?|ahead|sideways)\b",
    "angle": r"\bdegrees?\b|\b(?:quarter|half) turn\b",
    "speed": r"\b(?:slow(?:ly)?|quick(?:ly)?|fast|rapid(?:ly)?|brisk(?:ly)?|high speed)\b",
    "distance": rf"\b{_NUMBER} (?:meters?|metres?)\b",
    "count": rf"\b(?:once|twice|{_NUMBER} times?|{_NUMBER} (?:{_KIND} ){{0,3}}{_NOUN}|{_NUMBER} (?:{_KIND} )*steps)\b",
    "order": rf"\b{_ORDER}\b",
}
# Verbs of each kind of action; the first verb of a clause decides, then the order of the kinds.
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
_CONTINUES = (
    r"\b(?:keeps? (?:on )?(?:walking|running|going)|(?:walk|run|go|goe)(?:s|ing)? on|"
    r"continu\w+(?: walking| running)?)\b"
)
# Beginnings of a clause without an action of its own; any other clause is about something that the rules do not know.
_ADDS = (
    r"(?:taking|takes|covering|for|at|in|by|to|about|roughly|with|very|slowly|quickly|briskly|rapidly|fast|once|"
    r"twice)\b"
)
# Comparisons are not actions: "as if moving to music", "like a person who runs".
_LIKENESS = r"\b(?:as if|as though|like)\b.*?(?=[,;.]|$| (?:and|then|before|taking|covering|for about|about)\b)"
_NEGATED = r"\b(?:not|without|never|almost|instead|tries|trying|[a-z]+n t)\b"  # "doesn't" without its apostrophe
_WITH_SPEED = ("walk", "run", "raise", "wave")  # their thresholds come from captured motion
_ARMS, _LEGS = ("raise", "wave", "punch"), ("kick", "one_leg")


def read_caption(caption: str) -> Prompt:
    """Read the words of a prompt, by the rules above."""
    text = " ".join(re.sub(r"[^a-z0-9,;.\- ]", " ", caption.lower()).split())
    listed = {name for name, pattern in LISTED.items() if re.search(pattern, text)}
    if re.search(rf"{_TURNING}|{_CLOCK['left']}|{_CLOCK['right']}", text):
        listed.add("turn")
    if len(re.findall(r"\b(?:left|right)\b", text)) > len(re.findall(_TURNING, text)):
        listed.add("side")
    actions, ordered = _actions(text)
    return Prompt(tuple(_lifted_to_wave(actions)), frozenset(listed), ordered)


def _clauses(text: str) -> list[tuple[str, str]]:
    """(joining word or "", clause), in their order."""
    parts = re.split(rf"(\b(?:and )?{_ORDER}\b|\band\b(?! (?:slightly )?to the)|\bwhile\b|[,;.])", text)
    clauses, joint = [], ""
    for i, part in enumerate(parts):
        if i % 2:
            joint = f"{joint} {part}".strip() if not parts[i - 1].strip() else part
        elif part.strip():
            clauses.append((joint, part.strip()))
    return clauses


def _actions(text: str) -> tuple[list[Action], bool]:
    """The actions in the order in which they are to be done, and whether a word states that order."""
    found: list[Action] = []
    ordered = False
    text = re.sub(_LIKENESS, "", text)
    text = re.sub(r"\b(rais|lift)(es|s|ing) and lower(?:s|ing)\b", r"\1\2", text)  # a single movement
    for joint, clause in _clauses(text):
        kind = None if re.search(_NEGATED, clause) else _kind_of(clause, found)
        if kind is None or re.search(_CONTINUES, clause):
            if found and re.match(rf"{_ADDS}|.*{_CONTINUES}", clause):
                at = _described(clause, found)
                found[at] = _adverbs(found[at], clause)
            continue
        action = replace(_action(kind, clause), with_previous=joint == "while" and bool(found))
        link = re.search(_ORDER, joint)
        if link and link.group() == "after" and found:
            found.insert(len(found) - 1, action)
        else:
            found.append(action)
        ordered = ordered or bool(link and (found[:-1] or link.group() == "after"))
    return [part for action in found for part in _split_bend(action)], ordered


def _described(clause: str, found: Sequence[Action]) -> int:
    """The action that a clause without a verb describes: the last one; for steps and distances, the last travel."""
    of_travel = re.search(rf"{_CONTINUES}|\bsteps?\b|\bmet(?:er|re)s?\b", clause)
    travels = [i for i, action in enumerate(found) if action.kind == "travel"]
    return travels[-1] if of_travel and travels else len(found) - 1


def _split_bend(action: Action) -> tuple[Action, ...]:
    if action.kind != "travel" or action.turn is None:
        return (action,)
    bend = Action("turn", "turn", turn=action.turn, angle=action.angle, with_previous=True)
    return replace(action, turn=None, angle=None), bend


def _kind_of(clause: str, before: Sequence[Action]) -> str | None:
    """The kind of the first known verb of a clause."""
    bare = re.sub(rf"\b(?:about )?{_NUMBER} (?:steps?|times?|meters?|metres?)\b", "", clause)
    if bare != clause and "step" in clause and re.search(r"\btak(?:e|es|ing)\b", clause):
        return None if any(action.kind == "travel" for action in before) else "travel"
    at = {kind: match.start() for kind, p in KINDS.items() if (match := re.search(rf"\b(?:{p})\b", bare))}
    if not at:
        return None
    kind = min(at, key=at.get)  # of equal places the first kind
    if kind == "travel" and re.search(r"\b(?:left|right) turn\b|\bcorner\b", bare):
        return "travel"
    if kind == "travel" and before and before[-1].kind in _ARMS and re.match(r"moving\b", bare):
        return None  # of the arm
    if kind == "raise" and re.search(rf"\b{_LEG}\b", bare):
        return "one_leg"
    if kind == "raise" and not re.search(rf"\b(?:{_LIMB}|it|them)\b", bare):
        return None
    return kind


def _action(kind: str, clause: str) -> Action:
    name = "run" if re.search(_RUN, clause) else "walk" if kind == "travel" else kind
    action = _adverbs(Action(kind, name), clause)
    limb = _LIMB if kind in _ARMS else _LEG if kind in _LEGS else None
    if limb:
        sides = set(re.findall(rf"\b(left|right) {limb}\b", clause))
        sides |= set(re.findall(r"\bwith (?:the|his|her|their) (left|right)\b(?! \w*(?:hand|arm|leg|foot))", clause))
        both = bool(re.search(rf"\bboth (?:of (?:the|his|her|their) )?{limb}\b", clause))
        action = replace(action, side=sides.pop() if len(sides) == 1 and not both else None, both=both or None)
    return action


def _adverbs(action: Action, clause: str) -> Action:
    """Add the attributes of a clause to an action."""
    if action.kind == "travel":
        clause = re.sub(r"\b(?:lean\w*|bent|angled)(?: \w+)* (?:forwards?|left|right|direction)\b", "", clause)
        straight = set(re.findall(r"\b(forward|backward|ahead|sideways)s?\b", clause))
        straight = {"forward" if word == "ahead" else word for word in straight}
        aside = re.search(rf"\b{_ASIDE}\b.*?\b(left|right)\b{_NOT_A_SIDE}", clause)
        if aside and not re.search(_ROTATION, clause):
            sideways = re.search(r"\b(?:sideways|side ?steps?|side-steps?|sidestep\w*)\b", clause)
            action = replace(action, side=aside[1], direction="sideways" if sideways else action.direction)
        if len(straight) == 1 and "diagonal" not in clause:
            action = replace(action, direction=straight.pop())
        if distance := re.search(rf"\b({_NUMBER}) (?:meters?|metres?)\b", clause):
            action = replace(action, distance=float(_number(distance[1])))
    if action.kind in ("travel", "turn"):
        turned = set(re.findall(r"\b(left|right)\b", " ".join(re.findall(_TURNING, clause))))
        turned |= {side for side, pattern in _CLOCK.items() if re.search(pattern, clause)}
        action = replace(action, turn=turned.pop() if len(turned) == 1 else action.turn)
        if action.turn and (angle := _angle(clause)):
            action = replace(action, angle=angle)
    speeds = {"slow" if word.startswith("slow") else "fast" for word in re.findall(LISTED["speed"], clause)}
    if len(speeds) == 1 and action.name in _WITH_SPEED and action.direction != "sideways":
        action = replace(action, speed=speeds.pop())
    return _counted(action, clause)


def _counted(action: Action, clause: str) -> Action:
    if action.kind in ("turn", "seat", "one_leg", "lower"):
        return action
    nouns = "steps?" if action.kind == "travel" else rf"times?|{_NOUN}"
    if match := re.search(rf"\b({_NUMBER}) (?:{_KIND} ){{0,3}}(?:{nouns})\b", clause):
        return replace(action, count=_number(match[1]), about=f"about {match[1]}" in clause)
    word = re.search(r"\b(once|twice)\b", clause)
    return replace(action, count={"once": 1, "twice": 2}[word[1]]) if word and action.kind != "travel" else action


def _angle(clause: str) -> float | None:
    match = re.search(rf"\b({_NUMBER})[ -]degrees?\b", clause)
    if match:
        return float(_number(match[1]))
    part = re.search(r"\b(quarter|half) turn\b", clause)
    return {"quarter": 90.0, "half": 180.0}[part[1]] if part else None


def _number(word: str) -> int:
    return int(word) if word.isdigit() else _NUMBERS[word]


def _lifted_to_wave(actions: list[Action]) -> list[Action]:
    """Drop the lifting that begins a wave, but keep its side; "it" refers to the limb named before."""
    kept: list[Action] = []
    for action in actions:
        before = kept[-1] if kept else None
        if action.kind in _ARMS and before and before.kind in _ARMS and action.side is None and action.both is None:
            action = replace(action, side=before.side, both=before.both)
        same = before and (action.side, action.both) == (before.side, before.both)
        if action.kind == "wave" and same and before.kind == "raise":
            kept.pop()
        kept.append(action)
    return kept
