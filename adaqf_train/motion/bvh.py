"""Reads BVH files: any joint tree, any order of channels, text as exporters really write it.

A joint's position channels *are* its translation in the parent's frame: they replace the OFFSET (and usually repeat
it). Adding them to it, as some readers do, doubles every limb of files with six channels a joint.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adaqf_train.motion import kinematics, rotations

CHANNELS = tuple(f"{axis}{kind}" for kind in ("position", "rotation") for axis in "XYZ")
_SPELLED = {channel.lower(): channel for channel in CHANNELS}


class BvhError(ValueError):
    """A file that is not BVH, or is damaged; the message names it, the line, and what to do."""


@dataclass(frozen=True)
class Bvh:
    """A BVH file: the joint tree and the channels of every frame, in the file's own units."""

    names: tuple[str, ...]  # parents before children; the End Site of a joint J is called J_end
    parents: tuple[int, ...]  # -1 for the root
    offsets: np.ndarray  # (J, 3) float64, in the parent's frame
    channels: tuple[tuple[str, ...], ...]  # of each joint, in the file's order: "Xposition" … "Zrotation"
    frames: int  # that the file has, however many were read
    frame_time: float  # seconds
    values: np.ndarray  # (T, C) float64: positions, and rotations in degrees

    @property
    def fps(self) -> float:
        """Frames a second; a whole number where the file's rounded frame time means one."""
        rate = 1 / self.frame_time
        return float(round(rate)) if abs(rate - round(rate)) < 1e-4 * rate else rate

    def local(self) -> tuple[Tensor, Tensor]:
        """Each joint's translation (T, J, 3) and rotation (T, J, 4) in its parent's frame, float64."""
        values = torch.from_numpy(self.values)
        translations = torch.from_numpy(self.offsets).expand(len(values), -1, -1).clone()
        turns = rotations.identity(translations.shape[:2], translations)
        column = 0
        by_order: dict[str, list[tuple[int, list[int]]]] = {}  # so that joints of one order are turned at once
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
        """Global joint positions (T, J, 3), float64; fps: resampled to that rate, bones kept exact."""
        translations, turns = self.local()
        if fps is not None:
            translations, turns = kinematics.resample(translations, turns, self.fps, fps)
        return kinematics.forward(translations, turns, self.parents)[0].numpy()


def read_bvh(path: str | Path, *, limit: int | None = None) -> Bvh:
    """Reads a BVH file whole, or its first `limit` frames (the frames are counted all the same).

    Raises BvhError naming the file and the line where it is no BVH, is cut off, or holds NaN.
    """
    path = Path(path)
    lines = _lines(path)
    motion = next((number for number, line in enumerate(lines) if line.strip().upper() == "MOTION"), None)
    if motion is None:
        raise BvhError(f"{path}: no MOTION section, so not a whole BVH file. Export it again.")
    names, parents, offsets, channels = _hierarchy(path, lines[:motion])
    frames, frame_time, rows = _timing(path, lines, motion)
    if len(rows) != frames:
        raise BvhError(
            f'{path}: {len(rows)} lines of motion, but "Frames:" says {frames}. '
            "The file is cut off or was edited: export it again, or correct the number."
        )
    width = sum(map(len, channels))
    values = _values(path, [(number, lines[number]) for number in rows[:limit]], width)
    return Bvh(names, parents, offsets, channels, frames, frame_time, values)


def _lines(path: Path) -> list[str]:
    content = path.read_bytes()
    if not content.strip():
        raise BvhError(f"{path}: the file is empty. Export it again.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")  # never fails; only joint names can be other than ASCII
    # Not splitlines(), which would break a name at Latin-1's 0x85.
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


class _Words:
    """The words of the hierarchy with their lines, and the errors that name them."""

    def __init__(self, path: Path, lines: Sequence[str]) -> None:
        self.path, self.line = path, 1
        self._words = self._split(lines)

    def _split(self, lines: Sequence[str]) -> Iterator[str]:
        for number, line in enumerate(lines, start=1):
            for word in line.replace("{", " { ").replace("}", " } ").split():
                self.line = number
                yield word

    def __iter__(self) -> Iterator[str]:
        return self._words

    def next(self) -> str:
        word = next(self._words, None)
        if word is None:
            raise self.error("the hierarchy ends in the middle. Export the file again.")
        return word

    def number(self) -> float:
        word = self.next()
        value = _float(word)
        if value is None or not math.isfinite(value):
            raise self.error(f"{word!r} is not a number. Correct the line, or export the file again.")
        return value

    def error(self, what: str) -> BvhError:
        return BvhError(f"{self.path}, line {self.line}: {what}")


def _hierarchy(path: Path, lines: Sequence[str]):
    """Joint names, parents, offsets (J, 3) and channels of the HIERARCHY section."""
    words = _Words(path, lines)
    names: list[str] = []
    parents: list[int] = []
    offsets: dict[int, list[float]] = {}
    channels: dict[int, tuple[str, ...]] = {}
    inside: list[int] = []  # joints whose braces are open
    if words.next().upper() != "HIERARCHY":
        raise words.error("a BVH file starts with HIERARCHY. Is it another format? Export it as BVH.")
    for word in words:
        keyword = word.upper()
        if keyword in ("ROOT", "JOINT", "END"):
            if (keyword == "ROOT") != (not names):
                raise words.error(f"{word} is out of place: a file holds one ROOT, before all else. Split the bodies.")
            if keyword != "ROOT" and not inside:
                raise words.error(f"{word} belongs to no joint. Export the file again.")
            name = _name(words)
            if keyword == "END":
                name = f"{names[inside[-1]]}_end"
                while name in names:
                    name += "_end"
            if name in names:
                raise words.error(f"a second joint {name}. Rename one of them.")
            parents.append(inside[-1] if inside else -1)
            inside.append(len(names))
            names.append(name)
        elif keyword == "}" and inside:
            inside.pop()
        elif keyword == "OFFSET" and inside:
            offsets[inside[-1]] = [words.number() for _ in range(3)]
        elif keyword == "CHANNELS" and inside:
            channels[inside[-1]] = _channels(words)
        else:
            raise words.error(f"{word!r} is out of place. Correct the line, or export the file again.")
    if inside or not names:
        raise words.error("the hierarchy ends in the middle. Export the file again.")
    for joint, name in enumerate(names):
        if joint not in offsets:
            raise BvhError(f"{path}: joint {name} has no OFFSET. Add it, or export the file again.")
    if not any(channels.values()):
        raise BvhError(f"{path}: no joint has CHANNELS. Export the file again.")
    every = range(len(names))
    table = np.array([offsets[joint] for joint in every])
    return tuple(names), tuple(parents), table, tuple(channels.get(joint, ()) for joint in every)


def _name(words: _Words) -> str:
    """The rest of the line up to the brace: names may hold spaces."""
    parts = []
    line = words.line
    while (word := words.next()) != "{":
        if words.line != line:
            raise words.error(f"expected {{, found {word!r}. Export the file again.")
        parts.append(word)
    if not parts:
        raise words.error("a joint without a name. Name it.")
    return " ".join(parts)


def _channels(words: _Words) -> tuple[str, ...]:
    count = words.number()
    if count not in range(7):
        raise words.error(f"{count:g} channels, expected 0 to 6. Correct the line, or export the file again.")
    found = []
    for _ in range(int(count)):
        word = words.next()
        if word.lower() not in _SPELLED:
            raise words.error(f"{word!r} is no channel: expected {count:g} of {', '.join(CHANNELS)}.")
        found.append(_SPELLED[word.lower()])
    return tuple(found)


def _timing(path: Path, lines: Sequence[str], motion: int) -> tuple[int, float, list[int]]:
    """The number of frames, the frame time in seconds, and the indices of the lines that hold motion."""
    rows = [number for number in range(motion + 1, len(lines)) if lines[number].strip()]
    found = []
    for index, key, what in ((0, "Frames", "a number of frames"), (1, "Frame Time", "seconds")):
        at = rows[index] if index < len(rows) else len(lines) - 1
        label, _, value = lines[at].partition(":")
        number = _float(value.strip())
        if label.strip().lower() != key.lower() or number is None or not 0 < number < math.inf:
            raise BvhError(f'{path}, line {at + 1}: expected "{key}:" and {what} above 0. Export the file again.')
        found.append(number)
    if found[0] != int(found[0]):
        raise BvhError(f"{path}, line {rows[0] + 1}: {found[0]:g} is no number of frames. Export the file again.")
    return int(found[0]), found[1], rows[2:]


def _values(path: Path, rows: Sequence[tuple[int, str]], width: int) -> np.ndarray:
    """The channels (T, C) of numbered lines, every one of which must hold C finite numbers."""
    try:
        values = np.loadtxt([line for _, line in rows], dtype=np.float64, comments=None, ndmin=2)
    except ValueError:
        values = None
    if values is not None and values.shape[1] == width and np.isfinite(values).all():
        return values
    for number, line in rows:
        words = line.split()
        where = f"{path}, line {number + 1}"
        if len(words) != width:
            raise BvhError(f"{where}: {len(words)} values, expected {width} (one a channel). Export the file again.")
        for word in words:
            value = _float(word)
            if value is None or not math.isfinite(value):
                raise BvhError(f"{where}: {word!r} is not a number. Correct the line, or export the file again.")
    raise BvhError(f"{path}: the motion cannot be read. Export the file again.")


def _float(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None
