"""Read BVH files with any joint tree, any order of channels, and the variants of the text that exporters write.

The position channels of a joint *are* its translation in the parent's frame: they replace the OFFSET, which they
usually repeat. Readers that add the two double every limb of files with six channels per joint.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adaclip.files import read_bytes
from adaqf_train.errors import DataError
from adaqf_train.motion import kinematics, rotations

CHANNELS = tuple(f"{axis}{kind}" for kind in ("position", "rotation") for axis in "XYZ")
_SPELLED = {channel.lower(): channel for channel in CHANNELS}
MOST_JOINTS = 2000  # bodies with fingers, faces and clothes have hundreds
AGAIN = "Export the file again."


@dataclass(frozen=True)
class Bvh:
    """The joint tree and the channels of a BVH file, in the file's units."""

    names: tuple[str, ...]  # parents before children; the End Site of a joint J is named J_end
    parents: tuple[int, ...]  # -1 for the root
    offsets: np.ndarray  # (J, 3) float64, in the parent's frame
    channels: tuple[tuple[str, ...], ...]  # of each joint, in the file's order: "Xposition" … "Zrotation"
    frames: int  # in the file, which may be more than were read
    frame_time: float  # seconds
    values: np.ndarray  # (T, C) float64: positions, and rotations in degrees

    @property
    def fps(self) -> float:
        """Frames per second; a whole number where the frame time is the rounded inverse of one."""
        rate = 1 / self.frame_time
        return float(round(rate)) if abs(rate - round(rate)) < 1e-4 * rate else rate

    def local(self) -> tuple[Tensor, Tensor]:
        """Translations (T, J, 3) and rotations (T, J, 4) of the joints in their parents' frames, float64."""
        values = torch.from_numpy(self.values)
        translations = torch.from_numpy(self.offsets).expand(len(values), -1, -1).clone()
        turns = rotations.identity(translations.shape[:2], translations)
        column = 0
        by_order: dict[str, list[tuple[int, list[int]]]] = {}  # joints of one order are rotated together
        for joint, channels in enumerate(self.channels):
            axes, columns = "", []
            for channel in channels:
                if channel.endswith("position"):
                    translations[:, joint, "XYZ".index(channel[0])] = values[:, column]
                else:
                    axes += channel[0]
                    columns.append(column)
                column += 1
            by_order.setdefault(axes, []).append((joint, columns))
        for axes, members in by_order.items():
            joints, columns = (list(part) for part in zip(*members, strict=True))
            turns[:, joints] = rotations.from_euler(values[:, columns].deg2rad(), axes)
        return translations, turns

    def positions(self, fps: float | None = None) -> np.ndarray:
        """Global joint positions (T, J, 3), float64, in the file's units and axes, at its or another frame rate."""
        translations, turns = self.local()
        if fps is not None:
            translations, turns = kinematics.resample(translations, turns, self.fps, fps)
        return kinematics.forward(translations, turns, self.parents)[0].numpy()


def read_bvh(path: str | Path, *, limit: int | None = None) -> Bvh:
    """Read a BVH file, or only its first `limit` frames; DataError names the line of a fault."""
    path = Path(path)
    lines = _lines(path)
    motion = next((number for number, line in enumerate(lines) if line.strip().upper() == "MOTION"), None)
    if motion is None:
        raise DataError(f"{path}: the MOTION section is missing. {AGAIN}")
    names, parents, offsets, channels = _hierarchy(path, lines[:motion])
    frames, frame_time, rows = _timing(path, lines, motion)
    if len(rows) != frames:
        raise DataError(
            f'{path}: {len(rows)} lines of motion, but "Frames:" says {frames}: the file is cut off or was edited. '
            "Export it again, or correct the number."
        )
    width = sum(map(len, channels))
    values = _values(path, [(number, lines[number]) for number in rows[:limit]], width)
    return Bvh(names, parents, offsets, channels, frames, frame_time, values)


def _lines(path: Path) -> list[str]:
    content = read_bytes(path, kind=DataError)
    if not content.strip():
        raise DataError(f"{path}: the file is empty. {AGAIN}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")  # never fails; only joint names are not ASCII
    # splitlines() would break a name at Latin-1's 0x85.
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


class _Words:
    """The words of the hierarchy one by one, and errors that name their line."""

    def __init__(self, path: Path, lines: Sequence[str]) -> None:
        self.path, self.line = path, 1
        self.all = self._split(lines)

    def _split(self, lines: Sequence[str]) -> Iterator[str]:
        for self.line, line in enumerate(lines, start=1):
            yield from re.findall(r"[{}]|[^{}\s]+", line)

    def next(self) -> str:
        for word in self.all:
            return word
        raise self.error(f"the hierarchy ends in the middle. {AGAIN}")

    def number(self) -> float:
        word = self.next()
        if (value := _finite(word)) is None:
            raise self.error(f"{word!r} is not a number. Correct the line, or export the file again.")
        return value

    def error(self, what: str) -> DataError:
        return DataError(f"{self.path}, line {self.line}: {what}")


def _hierarchy(path: Path, lines: Sequence[str]):
    """Joint names, parents, offsets (J, 3) and channels of the HIERARCHY section."""
    words = _Words(path, lines)
    names: list[str] = []
    taken: set[str] = set()
    ends: dict[int, str] = {}
    parents: list[int] = []
    offsets: dict[int, list[float]] = {}
    channels: dict[int, tuple[str, ...]] = {}
    inside: list[int] = []  # joints whose braces are open
    if words.next().upper() != "HIERARCHY":
        raise words.error("a BVH file starts with HIERARCHY. Export the motion as BVH.")
    for word in words.all:
        keyword = word.upper()
        if keyword in ("ROOT", "JOINT", "END"):
            if (keyword == "ROOT") != (not names):
                raise words.error(f"{word} is out of place: a file has one ROOT, first of all. Split the bodies.")
            if keyword != "ROOT" and not inside:
                raise words.error(f"{word} belongs to no joint. {AGAIN}")
            if len(names) == MOST_JOINTS:
                raise words.error(f"more than {MOST_JOINTS:,} joints. Export the body alone.")
            name = _name(words)
            if keyword == "END":
                name = f"{ends.get(inside[-1], names[inside[-1]])}_end"  # after its last one, if it has several
                while name in taken:
                    name += "_end"
                ends[inside[-1]] = name
            if name in taken:
                raise words.error(f"a second joint is named {name}. Rename one of them.")
            parents.append(inside[-1] if inside else -1)
            inside.append(len(names))
            names.append(name)
            taken.add(name)
        elif keyword == "}" and inside:
            inside.pop()
        elif keyword == "OFFSET" and inside:
            offsets[inside[-1]] = [words.number() for _ in range(3)]
        elif keyword == "CHANNELS" and inside:
            channels[inside[-1]] = _channels(words)
        else:
            raise words.error(f"{word!r} is out of place. Correct the line, or export the file again.")
    if inside or not names:
        raise words.error(f"the hierarchy ends in the middle. {AGAIN}")
    every = range(len(names))
    if bare := [names[joint] for joint in every if joint not in offsets]:
        raise DataError(f"{path}: joint {bare[0]} has no OFFSET. Add it, or export the file again.")
    if not any(channels.values()):
        raise DataError(f"{path}: no joint has CHANNELS. {AGAIN}")
    table = np.array([offsets[joint] for joint in every])
    return tuple(names), tuple(parents), table, tuple(channels.get(joint, ()) for joint in every)


def _name(words: _Words) -> str:
    """The rest of the line up to the brace: names may contain spaces."""
    parts, line = [], words.line
    while (word := words.next()) != "{":
        if words.line != line:
            raise words.error(f"expected {{, found {word!r}. {AGAIN}")
        parts.append(word)
    if not parts:
        raise words.error("a joint has no name. Name it.")
    return " ".join(parts)


def _channels(words: _Words) -> tuple[str, ...]:
    count = words.number()
    if count not in range(7):
        raise words.error(f"{count:g} channels, expected 0 to 6. Correct the line, or export the file again.")
    found = []
    for _ in range(int(count)):
        word = words.next()
        if word.lower() not in _SPELLED:
            raise words.error(f"{word!r} is not a channel: expected {count:g} of {', '.join(CHANNELS)}.")
        found.append(_SPELLED[word.lower()])
    return tuple(found)


def _timing(path: Path, lines: Sequence[str], motion: int) -> tuple[int, float, list[int]]:
    """The number of frames, the frame time in seconds, and the indices of the lines of motion."""
    rows = [number for number in range(motion + 1, len(lines)) if lines[number].strip()]
    found = []
    for index, key, what in ((0, "Frames", "a number of frames"), (1, "Frame Time", "seconds")):
        at = rows[index] if index < len(rows) else len(lines) - 1
        label, _, value = lines[at].partition(":")
        number = _finite(value.strip())
        if label.strip().lower() != key.lower() or number is None or number <= 0:
            raise DataError(f'{path}, line {at + 1}: expected "{key}:" and {what} above 0. {AGAIN}')
        found.append(number)
    if found[0] != int(found[0]):
        raise DataError(f"{path}, line {rows[0] + 1}: {found[0]:g} is not a number of frames. {AGAIN}")
    return int(found[0]), found[1], rows[2:]


def _values(path: Path, rows: Sequence[tuple[int, str]], width: int) -> np.ndarray:
    """The channels (T, C) of numbered lines, each of which must hold C finite numbers."""
    try:
        values = np.loadtxt([line for _, line in rows], dtype=np.float64, comments=None, ndmin=2)
        if values.shape[1] == width and np.isfinite(values).all():
            return values
    except ValueError:
        pass  # the lines are read one by one to find the damaged one
    for number, line in rows:
        words, where = line.split(), f"{path}, line {number + 1}"
        if len(words) != width:
            raise DataError(f"{where}: {len(words)} values, expected {width} (one per channel). {AGAIN}")
        if (wrong := next((word for word in words if _finite(word) is None), None)) is not None:
            raise DataError(f"{where}: {wrong!r} is not a number. Correct the line, or export the file again.")
    raise DataError(f"{path}: the motion cannot be read. {AGAIN}")


def _finite(word: str) -> float | None:
    """The number that a word spells; None for anything else, NaN and infinity included."""
    try:
        number = float(word)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
