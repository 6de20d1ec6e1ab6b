"""Writes pictures as a film: MP4 with PyAV, which brings its own encoder, or GIF with Pillow."""

from __future__ import annotations

import importlib.util
import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from adaclip.files import atomic_file
from adaqf_train.errors import ExportError

QUALITY = "20"  # H.264's constant rate factor: artefacts are not seen on drawings, a second takes some 40 kB
COLOURS, RARE = 256, 64  # of a GIF's palette, and how many of them are for what covers few pixels
PALETTE_FROM = 6  # pictures of a film, evenly over it, that its palette is made from
FASTEST = 50  # pictures a second that viewers still play at their speed in a GIF, which counts hundredths


def check_encoder() -> None:
    """ExportError where PyAV is not installed."""
    if importlib.util.find_spec("av") is None:
        raise ExportError('MP4 files need PyAV: pip install "adaclip[export]" (or pip install av). GIF works without.')


def write_mp4(path: str | Path, film: Sequence[Image.Image], fps: float) -> Path:
    """Writes pictures of one even size as H.264, which every browser plays. ExportError without PyAV."""
    check_encoder()
    import av

    # Down to 1/1000 of a picture a second, as 12.5 and 29.97 need.
    rate = Fraction(fps).limit_denominator(1000)
    with atomic_file(Path(path)) as staging, av.open(str(staging), "w", "mp4", {"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": QUALITY, "preset": "veryfast"})
        for number, picture in enumerate(film):
            if number == 0:
                stream.width, stream.height, stream.pix_fmt = *picture.size, "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    return Path(path)


def write_gif(path: str | Path, film: Sequence[Image.Image], fps: float) -> Path:
    """Writes pictures as a GIF that repeats; of more than FASTEST a second every second, third … one."""
    step = math.ceil(fps / FASTEST)
    palette = _palette(film)
    pictures = [film[n].quantize(palette=palette, dither=Image.Dither.NONE) for n in range(0, len(film), step)]
    # Durations are whole hundredths of a second; rounding the times, not the durations, keeps the film's length.
    times = [round(100 * step * number / fps) for number in range(len(pictures) + 1)]
    durations = [10 * (b - a) for a, b in itertools.pairwise(times)]
    with atomic_file(Path(path)) as staging:
        pictures[0].save(
            staging, "GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=False
        )
    return Path(path)


def _palette(film: Sequence[Image.Image]) -> Image.Image:
    """Colours for all pictures, from some of them: a palette of its own for each would flicker."""
    some = [film[number] for number in np.unique(np.linspace(0, len(film) - 1, PALETTE_FROM).astype(int))]
    width, height = some[0].size
    together = Image.new("RGB", (width, height * len(some)))
    for number, picture in enumerate(some):
        together.paste(picture, (0, number * height))
    # Median cut gives the floor its even shades and forgets small marks, coverage does the opposite.
    common = together.quantize(COLOURS - RARE, Image.Quantize.MEDIANCUT).getpalette()
    rare = together.quantize(RARE, Image.Quantize.MAXCOVERAGE).getpalette()
    palette = Image.new("P", (1, 1))
    palette.putpalette([*common[: 3 * (COLOURS - RARE)], *rare[: 3 * RARE]])
    return palette
