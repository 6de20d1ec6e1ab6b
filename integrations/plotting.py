"""Stand-ins for what plotting code of the field expects of matplotlib, ffmpeg and moviepy 1.

matplotlib 3.7 made `Axes.lines` and the like read-only, and code from 2022 empties a plot by assigning `[]` to them.
Videos need ffmpeg, or moviepy 1 with ffmpeg. Where these are missing, videos are skipped with one message, so that a
training or a generation does not die after its work is done.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from adaclip_integrations import patches

# Properties of matplotlib's Axes that were lists which code could assign to.
LISTS = ("artists", "collections", "images", "lines", "patches", "tables", "texts")
VIDEOS = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".webm"})
# Names of moviepy 1 that text-to-motion code uses, by module.
MOVIEPY = {
    "moviepy": (),
    "moviepy.editor": (
        *("AudioFileClip", "CompositeVideoClip", "ImageClip", "ImageSequenceClip", "TextClip", "VideoClip"),
        *("VideoFileClip", "clips_array", "concatenate_videoclips"),
    ),
    "moviepy.video": (),
    "moviepy.video.io": (),
    "moviepy.video.io.bindings": ("mplfig_to_npimage",),
}
_said: set[str] = set()


def supply_matplotlib(undo: ExitStack) -> None:
    """Make lists of artists assignable, supply `tostring_rgb`, and skip videos where ffmpeg is missing."""
    from matplotlib.animation import Animation
    from matplotlib.axes._base import _AxesBase
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    undo.enter_context(patches.missing(FigureCanvasAgg, "tostring_rgb", _tostring_rgb))  # matplotlib >= 3.10
    for name in LISTS:
        found = vars(_AxesBase).get(name)
        if isinstance(found, property) and found.fset is None:
            undo.enter_context(patches.attribute(_AxesBase, name, property(found.fget, _assign(name))))
    undo.enter_context(patches.attribute(Animation, "save", _save(Animation.save)))


def moviepy() -> list[types.ModuleType]:
    """Modules that stand for moviepy 1; their clips accept any use and write nothing."""
    made = [patches.absent_module(name, "moviepy<2") for name in MOVIEPY]
    for module in made:
        for name in MOVIEPY[module.__name__]:
            setattr(module, name, Skipped)
    return made


class Skipped:
    """A clip that is never rendered: any call and attribute gives another one, and iterating gives nothing."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __call__(self, *_: object, **__: object) -> Skipped:
        """Accept a call."""
        return Skipped()

    def __getattr__(self, name: str) -> Skipped:
        if name.startswith("__"):
            raise AttributeError(name)
        if name.startswith("write_"):
            skipped("videos", "moviepy 1 is not installed (pip install 'moviepy<2' 'decorator<5', and ffmpeg)")
        return Skipped()

    def __iter__(self) -> Iterator[object]:
        return iter(())


def skipped(what: str, why: str) -> None:
    """Report on stderr, once in a process, that something is not written."""
    if what not in _said:
        _said.add(what)
        print(f"adaclip-run: {what} are skipped: {why}", file=sys.stderr, flush=True)


def _tostring_rgb(canvas: object) -> bytes:
    return np.asarray(canvas.buffer_rgba())[..., :3].tobytes()


def _assign(name: str) -> Callable[[object, object], None]:
    """Return a setter: it removes the artists of that kind, and adds those that are given."""

    def assign(axes: object, artists: object) -> None:
        wanted = list(artists)
        for artist in list(getattr(axes, name)):
            if artist not in wanted:
                artist.remove()
        present = list(getattr(axes, name))
        for artist in wanted:
            if artist not in present:
                axes.add_artist(artist)

    return assign


def _save(original: Callable) -> Callable:
    @functools.wraps(original)
    def save(animation, filename, writer=None, *args, **kwargs):
        from matplotlib.animation import writers

        # Without ffmpeg matplotlib takes Pillow, which fails at the end because it cannot write videos.
        by_default = writer is None or writer in ("ffmpeg", "ffmpeg_file", "pillow")
        unable = by_default or type(writer).__name__ in ("FFMpegWriter", "FFMpegFileWriter", "PillowWriter")
        if Path(filename).suffix.lower() in VIDEOS and unable and not writers.is_available("ffmpeg"):
            animation._draw_was_started = True  # otherwise matplotlib warns that the animation was never drawn
            return skipped("videos", f"ffmpeg is not installed ({filename} and others)")
        return original(animation, filename, writer, *args, **kwargs)

    return save
