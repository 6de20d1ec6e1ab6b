"""Write pictures as a film: MP4 with PyAV, which includes an encoder, or GIF with Pillow."""

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

QUALITY = "20"  # H.264's constant rate factor: no visible artefacts on drawings, about 40 kB per second
COLOURS, RARE = 255, 64  # of a GIF's palette, and those of them for details that cover few pixels
PALETTE_FROM = 6  # pictures, spread evenly over a film, that determine its palette
FASTEST = 50  # pictures per second; viewers slow down a GIF whose pictures last less than two hundredths of a second


def check_encoder() -> None:
    """Raise an ExportError if PyAV is not installed."""
    if importlib.util.find_spec("av") is None:
        raise ExportError('MP4 files need PyAV: pip install "adaclip[export]" (or pip install av). GIF works without.')


def write_mp4(path: Path, film: Sequence[Image.Image], fps: float) -> None:
    """Write pictures of one size, whose sides are even, as H.264, which every browser plays; needs PyAV."""
    check_encoder()
    import av

    # 12.5 and 29.97 frames per second are fractions.
    rate = Fraction(fps).limit_denominator(1000)
    with atomic_file(path) as staging, av.open(str(staging), "w", "mp4", {"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": QUALITY, "preset": "veryfast"})
        for number, picture in enumerate(film):
            if number == 0:
                stream.width, stream.height, stream.pix_fmt = *picture.size, "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())


def write_gif(path: Path, film: Sequence[Image.Image], fps: float) -> None:
    """Write pictures as a GIF that repeats; above FASTEST frames per second, only every second, third … picture."""
    step = math.ceil(fps / FASTEST)
    palette = _palette(film)
    pictures = [film[n].quantize(palette=palette, dither=Image.Dither.NONE) for n in range(0, len(film), step)]
    # Durations are whole hundredths of a second; rounding times instead of durations keeps the film's length.
    times = [round(100 * step * number / fps) for number in range(len(pictures) + 1)]
    durations = [10 * (b - a) for a, b in itertools.pairwise(times)]
    # Pillow uses the last colour as "unchanged since the previous picture", which halves the file.
    options = {"save_all": True, "append_images": pictures[1:], "duration": durations, "loop": 0, "optimize": True}
    with atomic_file(path) as staging:
        pictures[0].save(staging, "GIF", **options)


def _palette(film: Sequence[Image.Image]) -> Image.Image:
    """One palette for all pictures of a film, from some of them; a palette for each picture would flicker."""
    some = [film[number] for number in np.unique(np.linspace(0, len(film) - 1, PALETTE_FROM).astype(int))]
    width, height = some[0].size
    together = Image.new("RGB", (width, height * len(some)))
    for number, picture in enumerate(some):
        together.paste(picture, (0, number * height))
    # Median cut keeps the shades of the floor and loses small marks; coverage does the opposite.
    common = together.quantize(COLOURS - RARE, Image.Quantize.MEDIANCUT).getpalette()
    rare = together.quantize(RARE, Image.Quantize.MAXCOVERAGE).getpalette()
    palette = Image.new("P", (1, 1))
    palette.putpalette([*common[: 3 * (COLOURS - RARE)], *rare[: 3 * RARE]])
    return palette
