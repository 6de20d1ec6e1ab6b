"""Pictures of motions: films of bodies side by side, and strips of poses over time."""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image

from adaqf_train.render.camera import ASPECT
from adaqf_train.render.stage import INK, SKY, SOFT, Stage

COLUMNS = 3  # most motions side by side in one row of a film; four make two rows of two
MARGIN, GAP = 12, 4  # pixels around captions, and between the poses of a strip
FOOT = 26  # pixels below the bodies for the time
TEXT, SMALL, LEADING = 16, 13, 22  # pixels: sizes of text, and the distance between lines of a caption
LINES = 3  # most lines of a caption
WIDTH = 0.58  # mean width of a letter, relative to the size of the text
POSES, POSE = 8, (150, 196)  # poses in a strip, and the pixels of one
DPI = 64  # a power of two: sizes in pixels survive the division


class Film(Sequence[Image.Image]):
    """The pictures of a film, one for each frame of the longest motion; shorter motions hold their last pose.

    A picture is drawn when it is requested. Widths and heights are even, which H.264 requires.
    """

    def __init__(self, motions: Sequence[np.ndarray], captions: Sequence[str], fps: float, width: int = 480) -> None:
        """Lay out the film.

        Args:
            motions: Joints (T_i, J, 3) of each motion, metres, Y up.
            captions: A caption for each motion; it may be empty.
            fps: Frames per second.
            width: Pixels of one motion.
        """
        self.fps, self._length = fps, max(map(len, motions))
        count = len(motions)
        columns = count if count <= COLUMNS else math.ceil(math.sqrt(count))
        width, height = 2 * round(width / 2), 2 * round(width / ASPECT / 2)
        texts = [wrapped(caption, width - 2 * MARGIN) for caption in captions]
        head = _head(max(texts, key=len))
        self._sheet = _Sheet(columns * width, math.ceil(count / columns) * (head + height) + FOOT)
        self._stages = []
        for i, (joints, lines) in enumerate(zip(motions, texts, strict=True)):
            left, top = i % columns * width, i // columns * (head + height)
            self._sheet.write(lines, left, top, width)
            self._stages.append(Stage(self._sheet.axes(left, top + head, width, height), joints, fps))
        bar = self._sheet.axes(MARGIN, self._sheet.height - FOOT, columns * width - 3 * MARGIN - 40, FOOT)
        bar.set(xlim=(0, 1), ylim=(0, 1))
        bar.plot((0, 1), (0.5, 0.5), color=SOFT, alpha=0.25)
        (self._bar,) = bar.plot([], [], color=SOFT)
        self._clock = bar.text(1.0, 0.5, "", color=SOFT, va="center", clip_on=False, **_font(SMALL))
        moving = [self._bar, self._clock, *(artist for stage in self._stages for artist in stage.moving)]
        self._sheet.keep(moving)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, frame: int) -> Image.Image:
        if not 0 <= frame < len(self):
            raise IndexError(f"Frame {frame} of a film of {len(self)}.")
        for stage in self._stages:
            stage.show(frame)
        self._bar.set_data((0, frame / max(len(self) - 1, 1)), (0.5, 0.5))
        self._clock.set_text(f"  {frame / self.fps:.1f} s")
        return self._sheet.picture()


def strip(motions: Sequence[np.ndarray], captions: Sequence[str], fps: float, poses: int = POSES) -> Image.Image:
    """Draw a row of poses at even times for each motion, below its caption.

    The camera moves with the body; the floor, with lines half a metre apart, passes below it.

    Args:
        motions: Joints (T_i, J, 3) of each motion, metres, Y up.
        captions: A caption for each motion; it may be empty.
        fps: Frames per second.
        poses: Poses in a row; the first and the last frame are among them.

    Returns:
        The picture.
    """
    width, height = POSE
    texts = [wrapped(caption, poses * (width + GAP)) for caption in captions]
    sheet = _Sheet(2 * MARGIN + poses * (width + GAP) - GAP, sum(_head(lines) + height + FOOT for lines in texts))
    top = 0
    for joints, lines in zip(motions, texts, strict=True):
        sheet.write(lines, 0, top, sheet.width)
        top += _head(lines)
        ground = joints[:, :1] * (1, 0, 1)
        for place, frame in enumerate(np.linspace(0, len(joints) - 1, poses).round().astype(int)):
            left = MARGIN + place * (width + GAP)
            axes = sheet.axes(left, top, width, height)
            stage = Stage(axes, joints - ground, fps, ground=ground[frame, 0, [0, 2]])
            stage.show_pose(stage.joints[frame])
            axes.text(0, -1.05, f"{frame / fps:.1f} s", color=SOFT, ha="center", va="top", **_font(SMALL))
        top += height + FOOT
    return sheet.picture()


def wrapped(text: str, width: int) -> list[str]:
    """Lines of a caption that are about `width` pixels long; an ellipsis replaces what LINES lines cannot hold."""
    return textwrap.wrap(text, max(int(width / (WIDTH * TEXT)), 1), max_lines=LINES, placeholder="…")


def _head(lines: Sequence[str]) -> int:
    """Pixels that a caption takes; an even number."""
    return 2 * round((len(lines) * LEADING + 1.5 * MARGIN) / 2) if lines else 0


def _font(size: int) -> dict[str, object]:
    """Options of a text of that many pixels; a caption is never read as TeX."""
    return {"fontfamily": "DejaVu Sans", "fontsize": 72 * size / DPI, "parse_math": False, "usetex": False}


class _Sheet:
    """A figure that is laid out in pixels from the upper left corner."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor=SKY)
        self.canvas = FigureCanvasAgg(self.figure)
        self.moving: Sequence[Artist] = ()
        self.background: object = None

    def axes(self, left: int, top: int, width: int, height: int) -> Axes:
        axes = self.figure.add_axes(
            (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        )
        axes.set_axis_off()
        return axes

    def write(self, lines: Sequence[str], left: int, top: int, width: int) -> None:
        """Write a caption, cut off at the width of its motion."""
        clip = Bbox.from_extents(left, 0, left + width - MARGIN, self.height)
        for number, line in enumerate(lines):
            x, y = left + MARGIN, self.height - (top + MARGIN + number * LEADING)
            self.figure.text(
                x / self.width, y / self.height, line, color=INK, va="top", clip_on=True, clip_box=clip, **_font(TEXT)
            )

    def keep(self, moving: Sequence[Artist]) -> None:
        """Draw once everything except the artists that change from picture to picture."""
        self.moving = moving
        for artist in moving:
            artist.set_animated(True)
        self._draw()
        self.background = self.canvas.copy_from_bbox(self.figure.bbox)

    def picture(self) -> Image.Image:
        if self.background is None:
            self._draw()
        else:
            self.canvas.restore_region(self.background)
            for artist in self.moving:
                self.figure.draw_artist(artist)
        return Image.fromarray(np.asarray(self.canvas.buffer_rgba())[..., :3].copy())

    def _draw(self) -> None:
        with warnings.catch_warnings():  # letters that the font lacks are shown as boxes
            warnings.filterwarnings("ignore", "Glyph", UserWarning)
            self.canvas.draw()
