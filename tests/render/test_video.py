"""Films: every frame is there, in its order, at its rate; GIFs keep colours and length."""

from __future__ import annotations

import av
import numpy as np
import pytest
from PIL import Image

from adaqf_train.render.pictures import Film
from adaqf_train.render.video import write_gif, write_mp4
from tests.files.motions import dancer


def bar(position: int) -> Image.Image:
    """A black picture whose left part, three columns for each step, is white."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:, : 3 * position] = 255
    return Image.fromarray(pixels)


BARS = [bar(number) for number in range(20)]


@pytest.mark.parametrize("fps", [20, 12.5, 30])
def test_mp4_files_hold_every_frame_at_its_time(tmp_path, fps):
    write_mp4(tmp_path / "a.mp4", BARS, fps)
    with av.open(str(tmp_path / "a.mp4")) as container:
        (stream,) = container.streams.video
        frames = list(container.decode(stream))
        assert stream.codec_context.name == "h264"
        assert float(stream.average_rate) == pytest.approx(fps)
    assert [(frame.width, frame.height) for frame in frames] == [(64, 48)] * 20
    values = [frame.to_ndarray(format="rgb24").mean() for frame in frames]
    assert np.abs(np.array(values) - 255 * 3 / 64 * np.arange(20)).max() < 6
    assert frames[-1].time == pytest.approx(19 / fps, abs=1e-3)


@pytest.mark.parametrize(("fps", "every"), [(20, 1), (12.5, 1), (30, 1), (60, 2), (120, 3)])
def test_gif_files_take_as_long_as_they_should(tmp_path, fps, every):
    write_gif(tmp_path / "a.gif", BARS, fps)
    image = Image.open(tmp_path / "a.gif")
    assert image.n_frames == len(range(0, 20, every))
    total = 0
    for number in range(image.n_frames):
        image.seek(number)
        total += image.info["duration"]
        assert np.abs(np.asarray(image.convert("RGB")).mean() - 255 * 3 / 64 * every * number) < 3
    assert total == pytest.approx(1000 * image.n_frames * every / fps, abs=10)
    assert image.info["loop"] == 0


def test_gifs_keep_the_colours_of_small_marks(tmp_path):
    film = Film([dancer(10)], ["a person dances"], 20)
    write_gif(tmp_path / "a.gif", film, 20)
    image = Image.open(tmp_path / "a.gif")
    image.seek(5)
    away = np.abs(np.asarray(image.convert("RGB"), int) - np.asarray(film[5], int)).sum(axis=-1)
    assert np.percentile(away, 99.5) < 40
    assert np.abs(np.asarray(film[0], int) - np.asarray(film[5], int)).sum(axis=-1).max() > 200  # control
