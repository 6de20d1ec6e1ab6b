"""Flip the dynamic words of captions: left/right, slowly/quickly, forward/backward, clockwise, counts, before/after.

A caption with one flipped word describes the motion wrongly and differs in that word only.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

_SIDE_OF_NOTHING = r"(?! (?:away|now|after|before|there|next|alone|over|behind|angles?)\b)"
_WAY = r"walk|run|step|jog|mov|go|sprint|march|strid|trot|jump|hop|leap|travel"
_NOT_OF_A_LIMB = r"(?! (?:and up|to shoulder|at the))"
_WORDS = {"left": "right", "right": "left", "leftward": "rightward", "rightward": "leftward"}
_WORDS |= {"slowly": "quickly", "quickly": "slowly", "rapidly": "slowly", "briskly": "slowly", "fast": "slowly"}
_WORDS |= {"slow": "quick", "quick": "slow", "before": "after", "after": "before"}
_WORDS |= {"forward": "backward", "backward": "forward", "forwards": "backwards", "backwards": "forwards"}
_TURNS = r"(?:counter|anti)[- ]?clockwise|clockwise"
_TIMES = {"once": 1, "one time": 1, "twice": 2, "two times": 2, "three times": 3}
_COUNTS = {1: "once", 2: "twice", 3: "three times"}
_NUMBERS = {"one": 1, "a single": 1, "two": 2, "three": 3}
_KIND = "slow|quick|fast|small|big|large|little|high|low|deep|slight|shallow|short|long|straight|more"
_NOUNS = "wave|punch|kick|jump|bow|squat|hop|leap|step"


def flip_dynamic_word(caption: str) -> str | None:
    """The caption with one dynamic word flipped, which depends on the caption only; None if it has none."""
    found = flips(caption)
    if not found:
        return None
    digest = hashlib.blake2b(caption.encode(), digest_size=8).digest()
    return found[int.from_bytes(digest, "big") % len(found)]


def flips(caption: str) -> list[str]:
    """All captions with one flipped word, in the order of the words."""
    found: dict[tuple[int, str], None] = {}
    for pattern, other in _RULES:
        for match in re.finditer(pattern, caption, flags=re.IGNORECASE):
            start, end = match.span("word") if "word" in match.groupdict() else match.span()
            for word in other(match):
                word = word.capitalize() if caption[start].isupper() else word
                found[start, caption[:start] + word + caption[end:]] = None
    return [text for _, text in sorted(found)]


def _word(match: re.Match[str]) -> list[str]:
    return [_WORDS[match["word"].lower()]]


def _times(match: re.Match[str]) -> list[str]:
    return [words for count, words in _COUNTS.items() if count != _TIMES[match.group().lower()]]


def _number(match: re.Match[str]) -> list[str]:
    """Other numbers of the noun, with its plural adapted so that grammar does not reveal the flip."""
    noun, between = match["noun"].lower(), match["between"]
    several = noun + ("es" if noun.endswith("ch") else "s")
    own = _NUMBERS[match["number"].lower()]
    others = [(number, count) for number, count in (("one", 1), ("two", 2), ("three", 3)) if count != own]
    return [f"{number}{between}{noun if count == 1 else several}" for number, count in others]


_RULES: tuple[tuple[str, Callable[[re.Match[str]], list[str]]], ...] = (
    (rf"\b(?P<word>left|right|leftward|rightward)\b{_SIDE_OF_NOTHING}", _word),
    (rf"\b(?:{_TURNS})\b", lambda match: [{"clockwise": "counterclockwise"}.get(match.group().lower(), "clockwise")]),
    (rf"\b(?:{_WAY})\w*(?: [\w-]+){{0,3}}? (?P<word>forwards?|backwards?)\b{_NOT_OF_A_LIMB}", _word),
    (r"\b(?P<word>slowly|quickly|rapidly|briskly)\b", _word),
    (r"(?<!\ba )(?<!as )\b(?P<word>fast)\b", _word),
    (
        r"\ba (?:very )?(?P<word>slow|fast)\b(?= pace)",
        lambda match: [{"slow": "fast", "fast": "slow"}[match["word"].lower()]],
    ),
    (r"\b(?P<word>slow|quick)\b(?! (?:pace|motion))", _word),
    (r"\b(?:once|twice|(?:one time|two times|three times))\b(?! again)", _times),
    (
        rf"\b(?P<number>a single|one|two|three)(?P<between> (?:(?:{_KIND}) ){{0,3}})(?P<noun>{_NOUNS})(?:e?s)?\b",
        _number,
    ),
    (r"\b(?P<word>before|after)\b(?= \w+ing\b)", _word),  # "after hard work" is not an order
)
