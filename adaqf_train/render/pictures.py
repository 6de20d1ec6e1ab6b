"""Pictures of motions: films of bodies side by side, and strips of poses over time."""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox, TransformedBbox
from PIL import Image

from adaqf_train.render.camera import ASPECT
from adaqf_train.render.stage import INK, SKY, SOFT, Stage

COLUMNS = 3  # most motions side by side in one row of a film; four make two rows of two
MARGIN, GAP = 12, 4  # pixels around captions, and between the poses of a strip
FOOT = 26  # pixels below a row, for the time
TEXT, SMALL, LEADING = 16, 13, 22  # pixels: sizes of text, and the distance between lines of a caption
LINES = 3  # most lines of a caption
WIDTH = 0.58  # mean width of a letter, relative to the size of the text
POSES, POSE = 8, (150, 196)  # poses in a strip, and the pixels of one
DPI = 64  # a power of two, so that sizes in pixels survive the division
FONT = {"fontfamily": "DejaVu Sans", "parse_math": False, "usetex": False}  # a caption is not TeX


class Film(Sequence[Image.Image]):
    """The pictures of a film, one for each frame of the longest motion; shorter motions hold their last pose.

    Motions are joints (T_i, J, 3), metres, Y up, each with a caption, which may be empty; `width` is that of one motion
    in pixels. A picture is drawn when it is requested. Widths and heights are even, which H.264 requires.
    """

    def __init__(self, motions: Sequence[np.ndarray], captions: Sequence[str], fps: float, width: int = 480) -> None:
        self.fps, self._length = fps, max(map(len, motions))
        columns = len(motions) if len(motions) <= COLUMNS else math.ceil(math.sqrt(len(motions)))
        size = (2 * round(width / 2), 2 * round(width / ASPECT / 2))
        texts = [wrapped(caption, size[0] - 2 * MARGIN) for caption in captions]
        grid, head = _grid(math.ceil(len(motions) / columns), columns, size, texts)
        for axes, text in zip(grid.flat, texts, strict=False):
            _write(axes, text, head, MARGIN)
        self._stages = [Stage(axes, joints, fps) for axes, joints in zip(grid.flat, motions, strict=False)]
        self._figure = figure = grid[0, 0].figure
        x, y = MARGIN / figure.bbox.width, FOOT / 2 / figure.bbox.height
        self._span = (x, 1 - 5 * x)  # of the bar that shows the time, in widths of the picture
        figure.add_artist(Line2D(self._span, (y, y), color=SOFT, alpha=0.25))
        self._bar = figure.add_artist(Line2D((x, x), (y, y), color=SOFT))
        self._clock = figure.text(1 - x, y, "", color=SOFT, ha="right", va="center", fontsize=_points(SMALL), **FONT)
        self._moving = [self._bar, self._clock, *(artist for stage in self._stages for artist in stage.moving)]
        for artist in self._moving:
            artist.set_animated(True)  # leaves them out of the background, which is drawn only once
        _draw(figure)
        self._background = figure.canvas.copy_from_bbox(figure.bbox)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, frame: int) -> Image.Image:
        if not 0 <= frame < len(self):
            raise IndexError(f"Frame {frame} of a film of {len(self)}.")
        for stage in self._stages:
            stage.show(frame)
        self._bar.set_xdata((self._span[0], np.interp(frame, (0, max(len(self) - 1, 1)), self._span)))
        self._clock.set_text(f"{frame / self.fps:.1f} s")
        self._figure.canvas.restore_region(self._background)
        for artist in self._moving:
            self._figure.draw_artist(artist)
        return _picture(self._figure)


def strip(motions: Sequence[np.ndarray], captions: Sequence[str], fps: float, poses: int = POSES) -> Image.Image:
    """Draw a row of poses at even times for each motion (T_i, J, 3), metres, below its caption, which may be empty.

    The camera moves with the body; the floor, with lines half a metre apart, passes below it.
    """
    texts = [wrapped(caption, poses * (POSE[0] + GAP)) for caption in captions]
    grid, head = _grid(len(motions), poses, POSE, texts, MARGIN, GAP)
    for row, joints, text in zip(grid, motions, texts, strict=True):
        _write(row[0], text, head, 0, poses)
        ground = joints[:, :1] * (1, 0, 1)
        for axes, frame in zip(row, np.linspace(0, len(joints) - 1, poses).round().astype(int), strict=True):
            Stage(axes, joints - ground, fps, ground[frame, 0, [0, 2]]).show_pose((joints - ground)[frame])
            time = f"{frame / fps:.1f} s"
            axes.text(0, -1.05, time, color=SOFT, ha="center", va="top", fontsize=_points(SMALL), **FONT)
    _draw(grid[0, 0].figure)
    return _picture(grid[0, 0].figure)


def wrapped(text: str, width: int) -> list[str]:
    """Lines of a caption that are about `width` pixels long; an ellipsis replaces what LINES lines cannot hold."""
    return textwrap.wrap(text, max(int(width / (WIDTH * TEXT)), 1), max_lines=LINES, placeholder="…")


def _grid(
    rows: int, columns: int, size: tuple[int, int], texts: Sequence[Sequence[str]], margin: int = 0, gap: int = 0
) -> tuple[np.ndarray, int]:
    """Axes (rows, columns) of `size` pixels, with room for captions above and FOOT below; also the captions' height."""
    lines = max(map(len, texts))
    head = 2 * round((lines * LEADING + 1.5 * MARGIN) / 2) if lines else 0
    width, height = 2 * margin + columns * (size[0] + gap) - gap, rows * (head + size[1] + FOOT)
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor=SKY)
    FigureCanvasAgg(figure)
    places = {"left": margin / width, "right": 1 - margin / width, "top": 1 - head / height, "bottom": FOOT / height}
    spaces = {"wspace": gap / size[0], "hspace": (head + FOOT) / size[1]}
    grid = figure.subplots(rows, columns, squeeze=False, gridspec_kw=places | spaces)
    for axes in grid.flat:
        axes.set_axis_off()
    return grid, head


def _write(axes: Axes, lines: Sequence[str], head: int, left: int, columns: int = 1) -> None:
    """Write a caption above axes, `left` pixels from their edge and cut off at the width of that many columns."""
    text = axes.annotate("\n".join(lines), (0, 1), (left, head - MARGIN), "axes fraction", "offset pixels", **FONT)
    text.set(color=INK, va="top", fontsize=_points(TEXT), linespacing=1.25, annotation_clip=False, clip_on=True)
    text.set_clip_box(TransformedBbox(Bbox(((0, 0), (columns, 2))), axes.transAxes))


def _points(pixels: int) -> float:
    return 72 * pixels / DPI


def _draw(figure: Figure) -> None:
    with warnings.catch_warnings():  # letters that the font lacks are shown as boxes
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        figure.canvas.draw()


def _picture(figure: Figure) -> Image.Image:
    return Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3].copy())
