"""The pictures of a film: motions side by side, each with its caption, on a floor with shadow, footprints and path."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from adaqf_train.render.camera import ASPECT
from adaqf_train.render.lettering import font, wrapped
from adaqf_train.render.payload import contacts
from adaqf_train.render.stage import FLOOR, INK, SKY, SMOOTH, SOFT, TONES, Stage, mixed

ROW = 3  # motions side by side before a second row begins; four make two rows of two
MARGIN = 12  # pixels around captions
TEXT, LEADING, LINES = 17, 22, 3  # size, distance and most lines of a caption
FOOT = 26  # pixels below the pictures, for the clock
LATEST, EARLIER = 0.75, 0.3  # how strong a footprint is while the foot stands, and afterwards


class Film(Sequence[Image.Image]):
    """A picture for each frame of the longest motion, drawn when it is asked for; shorter ones hold their last pose."""

    def __init__(self, motions: Sequence[np.ndarray], captions: Sequence[str], fps: float, width: int = 480) -> None:
        """motions: joints (T_i, J, 3), metres, Y up; captions: one for each, may be empty. width: pixels of one motion.

        Widths and heights of the pictures are even numbers, as video wants them.
        """
        self.fps, self._length = fps, max(map(len, motions))
        count = len(motions)
        columns = count if count <= ROW else math.ceil(math.sqrt(count))
        width, height = 2 * round(width / 2), 2 * round(width / ASPECT / 2)
        texts = [wrapped(caption, TEXT, width - 2 * MARGIN, LINES) for caption in captions]
        head = 2 * round((max(map(len, texts)) * LEADING + 1.5 * MARGIN) / 2) if any(texts) else 0
        corners = [(i % columns * width, i // columns * (head + height)) for i in range(count)]
        rows = math.ceil(count / columns)
        self._sheet = Image.new("RGB", (columns * width, rows * (head + height) + FOOT), SKY)
        pen = ImageDraw.Draw(self._sheet)
        for (left, top), lines in zip(corners, texts, strict=True):
            for number, line in enumerate(lines):
                pen.text((left + MARGIN, top + MARGIN + number * LEADING), line, fill=INK, font=font(TEXT))
        self._places = [(left, top + head) for left, top in corners]
        self._panels = [_Panel(joints, (width, height), fps) for joints in motions]

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, frame: int) -> Image.Image:
        if not 0 <= frame < len(self):
            raise IndexError(f"Frame {frame} of a film of {len(self)}.")
        picture = self._sheet.copy()
        for place, panel in zip(self._places, self._panels, strict=True):
            picture.paste(panel.picture(frame), place)
        _clock(picture, frame / max(len(self) - 1, 1), f"{frame / self.fps:.1f} s")
        return picture


class _Panel:
    """One motion on its stage."""

    def __init__(self, joints: np.ndarray, size: tuple[int, int], fps: float) -> None:
        self.joints, self.stage = joints, Stage.around(joints, size)
        skeleton = self.stage.skeleton
        self.feet = (skeleton.left_foot, skeleton.right_foot)
        self.contacts = contacts(joints, skeleton, fps)
        self.floor = self.stage.floor()
        self.stage.path(self.floor, joints[:, 0], mixed(FLOOR, SOFT, 0.25))

    def picture(self, frame: int) -> Image.Image:
        frame = min(frame, len(self.joints) - 1)
        image = self.floor.copy()
        for foot, first, last in self.contacts:
            if last < frame:  # it has left: its print stays where it stood half way
                self._print(image, foot, (first + last) // 2, EARLIER)
            elif first <= frame:
                self._print(image, foot, frame, LATEST)
        self.stage.path(image, self.joints[: frame + 1, 0], SOFT)
        self.stage.draw(image, self.joints[frame])
        return self.stage.finished(image)

    def _print(self, image: Image.Image, foot: int, frame: int, strength: float) -> None:
        ankle, toe = self.feet[foot]
        colour = mixed(FLOOR, TONES[("left", "right")[foot]], strength)
        self.stage.footprint(image, self.joints[frame, toe], self.joints[frame, ankle], colour)


def _clock(picture: Image.Image, share: float, text: str) -> None:
    """Time as a line that grows, and in seconds, below the pictures."""
    width, height = picture.size
    pen = ImageDraw.Draw(picture)
    y, right = height - FOOT // 2, width - MARGIN - 52
    pen.line((MARGIN, y, right, y), fill=mixed(SKY, SOFT, 0.25), width=SMOOTH)
    pen.line((MARGIN, y, MARGIN + share * (right - MARGIN), y), fill=SOFT, width=SMOOTH)
    pen.text((width - MARGIN, y), text, fill=SOFT, font=font(14), anchor="rm")
