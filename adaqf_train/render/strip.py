"""Motions on one picture: a row of poses for each, over time, to look at without playing anything."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from adaqf_train.render.lettering import font, wrapped
from adaqf_train.render.stage import FLOOR, INK, SKY, SOFT, Stage

POSES = 8  # of each motion, the first and the last among them
SIZE = (150, 196)  # pixels of a pose
GAP, MARGIN = 4, 14  # pixels
TEXT, LEADING, LINES = 18, 26, 2  # size, distance and most lines of a caption
SMALL = 13  # size of the seconds below a pose


def strip(motions: Sequence[np.ndarray], captions: Sequence[str], fps: float, poses: int = POSES) -> Image.Image:
    """A row of poses at even times for each motion, below its caption.

    motions: joints (T_i, J, 3), metres, Y up; captions: one for each, may be empty. The camera goes along with the
    body; the floor, with lines half a metre apart, passes below it.
    """
    width = 2 * MARGIN + poses * SIZE[0] + (poses - 1) * GAP
    texts = [wrapped(caption, TEXT, width - 2 * MARGIN, LINES) for caption in captions]
    heights = [len(lines) * LEADING + SIZE[1] + SMALL + 12 + MARGIN for lines in texts]
    picture = Image.new("RGB", (width, sum(heights) + MARGIN), SKY)
    pen = ImageDraw.Draw(picture)
    top = MARGIN
    for joints, lines, height in zip(motions, texts, heights, strict=True):
        for number, line in enumerate(lines):
            pen.text((MARGIN, top + number * LEADING), line, fill=INK, font=font(TEXT))
        _row(picture, top + len(lines) * LEADING, joints, fps, poses)
        top += height
    return picture


def _row(picture: Image.Image, top: int, joints: np.ndarray, fps: float, poses: int) -> None:
    ground = joints[:, :1] * (1, 0, 1)
    centred = joints - ground
    stage = Stage.around(centred, SIZE)
    pen = ImageDraw.Draw(picture)
    for place, frame in enumerate(np.linspace(0, len(joints) - 1, poses).round().astype(int)):
        x, _, z = ground[frame, 0]
        image = stage.floor(shift=(x, z))
        stage.draw(image, centred[frame])
        left = MARGIN + place * (SIZE[0] + GAP)
        picture.paste(stage.finished(image), (left, top))
        pen.rectangle((left, top, left + SIZE[0] - 1, top + SIZE[1] - 1), outline=FLOOR)
        at = (left + SIZE[0] / 2, top + SIZE[1] + 6)
        pen.text(at, f"{frame / fps:.1f} s", fill=SOFT, font=font(SMALL), anchor="mt")
