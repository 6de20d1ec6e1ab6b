"""The words of the captions: clauses for every action, and how actions are joined.

A clause is a template such as "<wave> {hand} {times}{how}". <verb> is inflected ("waves", or "waving" after "before").
The word of speed goes to {how} or {front}; a template has at most one of them. Normal speed has no word.
"""

from pathlib import Path

SUBJECTS = ("a person", "a person", "a person", "the person", "someone", "a figure")
LOOSE_SHARE = 0.45  # share of clips with four captions in which one caption leaves an attribute out
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
