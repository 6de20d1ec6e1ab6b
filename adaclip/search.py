"""Search for motions by their captions: the captions of a folder, ranked by similarity to a text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adaclip.config import AdaCLIPError
from adaclip.files import read_bytes

if TYPE_CHECKING:
    from adaclip.model import AdaCLIP

FILE_BYTES = 10 * 2**20  # of one caption file


@dataclass(frozen=True)
class Caption:
    """A caption of a clip, or of a part of it."""

    clip: str  # name of the file, without its ending
    text: str
    start: float = 0.0  # seconds
    end: float = 0.0  # both 0: the whole clip


@dataclass(frozen=True)
class Match:
    """A clip that fits a text, by its best caption."""

    score: float  # cosine similarity
    caption: Caption

    def as_dict(self) -> dict[str, object]:
        """Return the match as plain values."""
        return {"score": round(self.score, 6), **asdict(self.caption)}


def read_captions(folder: Path) -> list[Caption]:
    """Read the captions of a folder of motions, in the order of their clips.

    Args:
        folder: Folder of text files, one per clip, or one with such a folder `texts`. A line is a caption, or as in
            HumanML3D (Guo et al. 2022) `caption#words#start#end`.

    Raises:
        AdaCLIPError: The folder has no captions, or a file is no text.
    """
    folder = folder.expanduser()
    place = folder / "texts" if (folder / "texts").is_dir() else folder
    if not place.is_dir():
        raise AdaCLIPError(f"{folder}: no such folder. Give a folder of caption files (NAME.txt), or one with texts/.")
    found: list[Caption] = []
    for path in sorted(place.glob("*.txt")):
        try:
            lines = read_bytes(path, FILE_BYTES).decode("utf-8-sig").split("\n")
        except UnicodeDecodeError as error:
            raise AdaCLIPError(f"{path}: not UTF-8 text ({error}).") from error
        found += [_caption(path.stem, line) for line in lines if line.partition("#")[0].strip()]
    if not found:
        raise AdaCLIPError(f"{place}: no captions there. Expected files NAME.txt with one caption per line.")
    return found


def _caption(clip: str, line: str) -> Caption:
    text, *rest = line.strip().split("#")
    times = (0.0, 0.0)
    if len(rest) >= 3:
        try:
            times = float(rest[1]), float(rest[2])
        except ValueError:
            times = (0.0, 0.0)
    start, end = (time if math.isfinite(time) else 0.0 for time in times)  # HumanML3D has some "nan"
    return Caption(clip, text.strip(), start, end)


def search(encoder: AdaCLIP, text: str, captions: Sequence[Caption], top: int = 10) -> list[Match]:
    """Return the clips whose captions are most similar to a text, each by its best caption, the best first.

    Args:
        encoder: The encoder.
        text: What to look for.
        captions: Captions of clips; see `read_captions`.
        top: Largest number of clips.

    Returns:
        At most `top` matches. Equal scores keep the order of the captions.

    Raises:
        ValueError: `top` is not positive, or the text is empty.
    """
    if top < 1:
        raise ValueError(f"top must be at least 1, got {top}.")
    if not text.strip():
        raise ValueError("The text to search for is empty.")
    distinct = list(dict.fromkeys(caption.text for caption in captions))
    places = {caption: place for place, caption in enumerate(distinct)}
    scores = encoder.similarity(encoder.encode(text), encoder.encode(distinct))[0].tolist()
    best: dict[str, Match] = {}
    for caption in captions:
        score = scores[places[caption.text]]
        if caption.clip not in best or score > best[caption.clip].score:
            best[caption.clip] = Match(score, caption)
    return sorted(best.values(), key=lambda match: -match.score)[:top]
