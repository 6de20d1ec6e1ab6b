"""Contrasts: a description, a paraphrase of it, and the same two sentences with one meaning changed."""

from __future__ import annotations

import hashlib
import itertools
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from adaqf_train.data.wording import flips
from adaqf_train.errors import DataError

KINDS = ("side", "direction", "speed", "count", "order", "negation")
TEMPLATES, CAPTIONS = "templates", "captions"  # sources of contrasts
PER_KIND = 200  # captions of each kind that are used; more narrow the intervals by less than 1 %
LONGEST = 300  # characters of a caption that is used

# Words that a flip changes, by the kind of what they mean; the first match counts.
_KIND_OF = (
    ("side", r"(?:left|right)(?:ward)?"),
    ("direction", r"(?:forward|backward)s?|(?:counter|anti)?[- ]?clockwise"),
    ("speed", r"slowly|quickly|rapidly|briskly|fast|slow|quick"),
    ("order", r"before|after"),
    ("count", r".*"),
)
# Replacements that keep the meaning. The first group holds subjects, of which one is chosen by the caption.
_SUBJECT = r"^(?:a|an|the|some)? ?(?:person|human(?: being)?|man|woman|guy|figure)\b|^(?:someone|somebody|a subject)\b"
_SUBJECTS = ("a person", "someone", "the figure", "a human")
_ADVERB = r"(?=[.,;]|$| (?:and|then|for|while|slowly|quickly|with|in|until|before|after)\b)"
_SAME = (
    (r"\bslowly\b", "at a slow pace"),
    (r"\b(?:quickly|rapidly|briskly)\b", "at a fast pace"),
    (r"\bonce\b", "one time"),
    (r"\btwice\b", "two times"),
    (r"\bthree times\b", "thrice"),
    (rf"\bforwards?\b{_ADVERB}", "to the front"),
    (rf"\bbackwards?\b{_ADVERB}", "to the back"),
    (r"\bcounter[- ]?clockwise\b", "anticlockwise"),
    (r"\banti[- ]?clockwise\b", "counterclockwise"),
    (r"\b(?:and )?then\b", "and afterwards"),
    (r"\bwalks\b", "is walking"),
    (r"\bruns\b", "is running"),
    (r"\bturns\b", "is turning"),
    (r"\bjumps\b", "is jumping"),
    (r"\bwaves\b", "is waving"),
    (r"\braises\b", "lifts"),
    (r"\bkicks\b", "is kicking"),
    (r"\btakes\b", "makes"),
    (r"\barm\b", "upper limb"),
    (r"\bleg\b", "lower limb"),
)


@dataclass(frozen=True)
class Contrast:
    """Two ways to say one thing, and two ways to say another that differs from it in a single meaning."""

    kind: str  # of the difference; one of KINDS
    anchor: str
    same: str  # the anchor's motion in other words
    other: str  # the anchor's minimal pair: its words, but for one meaning
    other_same: str  # the minimal pair of `same`, so a paraphrase of `other`
    source: str  # TEMPLATES or CAPTIONS
    group: str  # contrasts of a group share sentences, and count as one draw

    @property
    def texts(self) -> tuple[str, str, str, str]:
        """All four."""
        return self.anchor, self.same, self.other, self.other_same


def from_templates() -> list[Contrast]:
    """Make the contrasts of the packaged templates."""
    tables = tomllib.loads(files(__package__).joinpath("templates.toml").read_text(encoding="utf-8"))
    found = []
    for kind, groups in tables.items():
        for name, sentences in groups.items():
            meanings = [[_choose(sentence, which) for sentence in sentences] for which in (0, 1)]
            for own, changed in (meanings, meanings[::-1]):
                for i, j in itertools.permutations(range(len(sentences)), 2):
                    texts = own[i], own[j], changed[i], changed[j]
                    found.append(Contrast(kind, *texts, TEMPLATES, f"{kind} {name}"))
    return found


def from_captions(captions: Iterable[str], per_kind: int = PER_KIND) -> list[Contrast]:
    """Make contrasts of real captions: the minimal pair flips one word, the paraphrase replaces at least two others.

    The choice among captions of a kind depends on the captions alone, not on their order.
    """
    found: dict[str, list[Contrast]] = {kind: [] for kind in KINDS}
    for caption in dict.fromkeys(" ".join(caption.split()) for caption in captions):
        if len(caption) > LONGEST or (same := paraphrase(caption)) is None:
            continue
        for flipped in flips(caption):
            kind, other_same = _kind(caption, flipped), paraphrase(flipped)
            if other_same not in (None, same):
                found[kind].append(Contrast(kind, caption, same, flipped, other_same, CAPTIONS, caption))
    return [contrast for own in found.values() for contrast in sorted(own, key=_order)[:per_kind]]


def read_captions(path: Path) -> list[str]:
    """Read captions, one a line; of a folder, those of `texts/` in HumanML3D's form.

    DataError if there is none, or if a file is not UTF-8.
    """
    folder = path / "texts" if (path / "texts").is_dir() else path
    paths = sorted(folder.glob("*.txt")) if folder.is_dir() else [path]
    try:
        lines = [line for file in paths for line in file.read_text(encoding="utf-8").split("\n")]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read as captions ({error}). Give a UTF-8 file, one caption a line."
        ) from error
    found = [text for line in lines if (text := line.partition("#")[0].strip())]
    if not found:
        raise DataError(f"{path}: no captions. Give a file with one a line, or a folder of .txt files.")
    return found


def paraphrase(caption: str) -> str | None:
    """Return the caption in other words; None if fewer than two of them can be replaced."""
    text, number = re.subn(_SUBJECT, _subject(caption), caption.strip().rstrip("."), flags=re.IGNORECASE)
    number = 1 if text.lower() != caption.strip().rstrip(".").lower() else 0
    for pattern, words in _SAME:
        text, replaced = re.subn(pattern, words, text, flags=re.IGNORECASE)
        number += replaced
    return text if number >= 2 else None


def texts_of(contrasts: Sequence[Contrast]) -> list[str]:
    """List the distinct texts of contrasts, in the order in which an encoder's vectors are expected."""
    return list(dict.fromkeys(text for contrast in contrasts for text in contrast.texts))


def _choose(sentence: str, which: int) -> str:
    return re.sub(r"\{([^|{}]*)\|([^|{}]*)\}", lambda match: match[1 + which], sentence)


def _subject(caption: str) -> str:
    now = re.match(_SUBJECT, caption, flags=re.IGNORECASE)
    others = [each for each in _SUBJECTS if now is None or each != now.group().lower()]
    return others[len(caption.split()) % len(others)]  # the number of words, so that a flip gets the same subject


def _kind(caption: str, flipped: str) -> str:
    """The kind of the words that differ."""
    start = next(i for i, (a, b) in enumerate(zip(caption, flipped, strict=False)) if a.lower() != b.lower())
    begin = caption.rfind(" ", 0, start) + 1
    word = re.match(r"[\w-]*", caption[begin:]).group()
    return next(kind for kind, pattern in _KIND_OF if re.fullmatch(pattern, word, flags=re.IGNORECASE))


def _order(contrast: Contrast) -> int:
    return _number(contrast.anchor + contrast.other)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def kinds_of(contrasts: Iterable[Contrast]) -> Iterator[str]:
    """Yield the kinds that occur, in the order of KINDS."""
    present = {contrast.kind for contrast in contrasts}
    return (kind for kind in KINDS if kind in present)
