"""Checks of the arguments of a call before anything is computed: prompts, segments, lengths, seeds."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np

from adaclip.text import check_texts, clean
from adaqf_train.errors import ConfigError
from adaqf_train.generators.long_motion import margin_frames

Seconds = float | Sequence[float | Sequence[float]]

LONGEST = 2000  # characters of a text; the encoder reads 77 tokens, about 400 characters

_BAR = re.compile(r"(?:^|(?<=\s))\|(?=\s|$)")  # between segments, with space around it


@dataclass(frozen=True)
class Request:
    """One prompt: its segments, and the frames of each."""

    texts: tuple[str, ...]
    frames: tuple[int, ...]


@dataclass(frozen=True)
class Limits:
    """The lengths that a model can make."""

    fps: float
    unit_frames: int  # lengths are whole units
    max_frames: int  # exclusive
    segments: bool = True  # whether a motion may be made of several prompts

    @property
    def margin(self) -> int:
        """Frames by which the window of a segment reaches past a seam."""
        return margin_frames(self.fps, self.unit_frames)

    def longest(self, *, segment: bool) -> float:
        """Seconds of the longest motion in one piece, or of the longest segment, whose window is longer."""
        frames = self.max_frames - 1 - (2 * self.margin if segment else 0)
        return frames // self.unit_frames * self.unit_frames / self.fps

    def frames(self, seconds: object, prompt: str, *, segment: bool = False) -> int:
        """Whole units of frames in so many seconds, rounded down; ConfigError outside of the limits."""
        shortest, longest = self.unit_frames / self.fps, self.longest(segment=segment)
        number = isinstance(seconds, Real) and not isinstance(seconds, bool)
        # The comparison comes first: NaN fails it, and a number beyond the range of floats is never converted.
        if number and 0 < seconds < longest + 1:
            # 4.6 s at 20 fps are 92 frames, though the product of the floats may fall short of it.
            frames = math.floor(float(seconds) * self.fps + 1e-6) // self.unit_frames * self.unit_frames
            if self.unit_frames <= frames and frames <= round(longest * self.fps):
                return frames
        what = "a segment's seconds" if segment else "seconds"
        longer = ""
        if self.segments and number and seconds > longest:
            longer = " For a longer motion write more segments, each with its prompt: 'walk forward | turn left | sit'."
        got = "a number beyond 1e9" if number and 1e9 < abs(seconds) < math.inf else repr(seconds)
        raise ConfigError(
            f"{what} must lie between {shortest:g} and {longest:g}, got {got} for {prompt[:40]!r}.{longer}"
        )


def requests_of(prompts: str | Sequence[str], seconds: Seconds, limits: Limits) -> list[Request]:
    """Every prompt with its segments and lengths; ConfigError for wrong values, TypeError for other than strings.

    prompts: with ` | ` between the segments of a motion. seconds: of every segment; or one for each prompt, each of
    which may be one for each of its segments. With a single string, a flat list is one for each of its segments.
    """
    if isinstance(prompts, str):
        segments = len(_BAR.split(prompts))
        seconds = seconds.tolist() if isinstance(seconds, np.ndarray) else seconds
        flat = isinstance(seconds, Sequence) and not any(isinstance(s, Sequence | np.ndarray) for s in seconds)
        prompts, seconds = [prompts], [seconds] if flat and len(seconds) == segments > 1 else seconds
    else:
        prompts = check_texts(prompts)
    if not prompts:
        raise ConfigError("There is no prompt: give at least one, such as 'a person waves twice'.")
    return [
        _request(prompt, own, limits)
        for prompt, own in zip(prompts, _spread(seconds, len(prompts), "prompts"), strict=True)
    ]


def check_count(name: str, value: object, least: int) -> int:
    """A whole number of at least `least`, or ConfigError."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{name} must be a whole number of at least {least}, got {value!r}.")
    return int(value)


def _request(prompt: str, seconds: object, limits: Limits) -> Request:
    texts = [text.strip() for text in _BAR.split(prompt)]
    for number, text in enumerate(texts, start=1):
        where = f"Segment {number} of {prompt[:60]!r}" if len(texts) > 1 else f"The prompt {prompt[:60]!r}"
        if len(text) > LONGEST:
            raise ConfigError(
                f"{where} has {len(text)} characters, more than {LONGEST}: shorten it to a sentence or two."
            )
        if not clean(text):
            raise ConfigError(f"{where} is blank: say what happens, such as 'a person waves twice'.")
    each = _spread(seconds, len(texts), f"segments of {prompt[:40]!r}")
    composed = len(texts) > 1
    if composed and not limits.segments:
        raise ConfigError(f"{prompt[:60]!r} has segments, and this family makes motions in one piece: leave out ` | `.")
    frames = (limits.frames(s, text, segment=composed) for s, text in zip(each, texts, strict=True))
    return Request(tuple(texts), tuple(frames))


def _spread(seconds: object, count: int, of_what: str) -> list:
    if isinstance(seconds, np.ndarray):
        seconds = seconds.tolist()  # of an array without dimensions a number
    if isinstance(seconds, str | bytes) or not isinstance(seconds, Sequence):
        return [seconds] * count
    if len(seconds) != count:
        raise ConfigError(f"seconds has {len(seconds)} values for {count} {of_what}: give one, or one for each.")
    return list(seconds)
