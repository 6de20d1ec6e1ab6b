"""Stand-ins for what plotting code of the field expects of matplotlib, ffmpeg and moviepy 1.

matplotlib 3.7 made `Axes.lines` and the like read-only, and code from 2022 empties a plot by assigning `[]` to them. It
also dropped functions and arguments, and no longer adds `Axes3D(figure)` to the figure, so that pictures stay empty.
Videos need ffmpeg, or moviepy 1 with ffmpeg. Where these are missing, videos are skipped with one message, so that a
training or a generation does not die after its work is done.
"""

from __future__ import annotations

import functools
import operator
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
    _supply_names(undo)


def _supply_names(undo: ExitStack) -> None:
    """Supply functions and arguments that matplotlib 3.5 to 3.9 dropped."""
    from matplotlib import cm, figure, style
    from matplotlib.backend_bases import FigureCanvasBase
    from mpl_toolkits.mplot3d.axes3d import Axes3D

    undo.enter_context(patches.missing(cm, "get_cmap", _get_cmap))
    undo.enter_context(patches.missing(FigureCanvasBase, "set_window_title", lambda canvas, title: None))
    for name in "xyz":
        undo.enter_context(patches.missing(Axes3D, f"w_{name}axis", property(operator.attrgetter(f"{name}axis"))))
    get_axes, use, init = figure.FigureBase.gca, style.use, Axes3D.__init__

    def gca(shown, **kwargs):
        return shown.add_subplot(**kwargs) if kwargs else get_axes(shown)

    def use_style(name):
        renamed = isinstance(name, str) and name.startswith("seaborn") and name not in style.library
        use(name.replace("seaborn", "seaborn-v0_8", 1) if renamed else name)

    @functools.wraps(init)
    def add(axes, shown, *args, **kwargs):
        """Make axes; those that a program makes itself belong to the figure, as they did before matplotlib 3.7."""
        wanted = kwargs.pop("auto_add_to_figure", True)
        init(axes, shown, *args, **kwargs)
        maker = sys._getframe(1).f_globals.get("__name__", "").partition(".")[0]
        if wanted and maker not in ("matplotlib", "mpl_toolkits"):
            shown.add_axes(axes)

    undo.enter_context(patches.attribute(figure.FigureBase, "gca", gca))
    undo.enter_context(patches.attribute(style, "use", use_style))
    undo.enter_context(patches.attribute(Axes3D, "__init__", add))


def _get_cmap(name: object = None, lut: int | None = None) -> object:
    """In the place of `matplotlib.cm.get_cmap`."""
    import matplotlib

    found = name if hasattr(name, "resampled") else matplotlib.colormaps[name or matplotlib.rcParams["image.cmap"]]
    return found if lut is None else found.resampled(lut)


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
