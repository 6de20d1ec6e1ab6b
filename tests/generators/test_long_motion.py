"""Long motions: windows that cover them, weights that add up to one, and seams that do not show."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from adaqf_train.config import DiffusionConfig
from adaqf_train.generators.diffusion import Diffusion
from adaqf_train.generators.long_motion import Blended, margin_frames, windows
from adaqf_train.generators.noise import Noise
from tests.helpers import FLOAT32, deviation

CPU = torch.device("cpu")


def test_margins_are_whole_units_of_about_half_the_overlap():
    assert margin_frames(20.0, 4) == 12
    assert margin_frames(12.5, 4) == 8
    assert margin_frames(20.0, 100) == 100


@pytest.mark.parametrize("segments", [[40], [40, 60], [60, 40, 80], [4, 40, 4, 4, 40], [12, 12, 12]])
def test_windows_cover_every_frame_and_reach_past_the_seams(segments):
    found = windows(segments, 12)
    assert len(found) == len(segments)
    assert (found[0].start, found[-1].stop) == (0, sum(segments))
    for i, (a, b) in enumerate(itertools.pairwise(found)):
        seam = sum(segments[: i + 1])
        reach = min(12, segments[i], segments[i + 1])
        assert (a.stop - seam, seam - b.start) == (reach, reach)
    assert all(0 <= w.start < w.stop <= sum(segments) for w in found)


@pytest.mark.parametrize("segments", [[40], [40, 60, 40], [4, 40, 4, 4, 40]])
def test_what_all_windows_agree_on_is_what_comes_out(segments):
    """With predictions that do not depend on the window, blending changes nothing, in a batch of unequal motions."""
    motions = [windows(segments, 12), windows([20], 12)]
    blend = Blended(motions, CPU)
    x = torch.randn(2, blend.frames, 3, generator=torch.Generator().manual_seed(0))
    x[1, 20:] = 0
    blended = blend.over(lambda frames, t: 2 * frames)(x, torch.tensor(0))
    torch.testing.assert_close(blended, 2 * x)
    assert blend.mask.sum() == sum(len(w) for own in motions for w in own)


def test_predictions_glide_from_one_window_to_the_next():
    blend = Blended([windows([40, 40], 12)], CPU)
    which = torch.tensor([0.0, 1.0])[:, None, None]
    x0 = blend.over(lambda frames, t: which.expand_as(frames))(torch.zeros(1, 80, 1), torch.tensor(0))[0, :, 0]
    assert (x0[:28] == 0).all()
    assert (x0[52:] == 1).all()
    steps = x0.diff()[27:52]
    torch.testing.assert_close(steps, torch.full((25,), 1 / 25))


def swaying(rate: float, pose: float):
    """A clean motion that depends on the place within a window: smooth inside, at odds with its neighbours."""
    return lambda frames: pose + torch.sin(rate * torch.arange(frames))


def test_seams_are_as_smooth_as_the_insides_of_windows():
    """Velocity jumps of a motion of three windows that disagree, beside those of the windows put end to end."""
    segments, margin = [40, 40, 40], 12
    cut = windows(segments, margin)
    clean = [
        swaying(rate, pose)(len(w)) for w, rate, pose in zip(cut, (0.2, 0.35, 0.25), (0.0, 1.5, -1.0), strict=True)
    ]
    blend = Blended([cut], CPU)

    def denoise(frames, t):
        target = torch.zeros(3, frames.shape[1])
        for row, own in zip(target, clean, strict=True):
            row[: len(own)] = own
        return 0.9 * target[..., None] + 0.1 * frames  # mostly its own opinion

    x = Diffusion(DiffusionConfig()).sample(
        blend.over(denoise),
        torch.ones(1, 120, dtype=torch.bool),
        1,
        steps=10,
        scheduler="ddim",
        noise=Noise(torch.tensor([0])),
    )
    joined = x[0, :, 0].numpy()
    first, second, third = (own.numpy() for own in clean)
    hard = np.concatenate([first[:40], second[12:52], third[12:52]])
    inside = max(np.abs(np.diff(part, 2)).max() for part in (first, second, third))

    def jump(motion):
        return max(np.abs(np.diff(motion, 2))[seam - 3 : seam + 2].max() for seam in (40, 80))

    assert jump(joined) < 1.5 * inside
    assert jump(hard) > 5 * inside  # control


def compose(generator, seed=3, **options):
    return generator.generate("a person walks forward | a person turns left", seconds=2.0, seed=seed, **options)[0]


def test_a_composition_is_one_motion_as_long_as_its_segments(generator):
    assert compose(generator).shape == (80, 22, 3)
    features = generator.generate(" | ".join(["a person walks"] * 5), seconds=[[2, 1, 8.6, 0.2, 3]], output="features")
    assert features[0].shape == (40 + 20 + 172 + 4 + 60, 263)
    assert np.isfinite(features[0]).all()


def test_each_segment_follows_its_own_prompt(generator):
    """Far from the seam a segment does not read the other's prompt; its own changes it."""
    text = "a person walks forward | {}"
    one, other = (
        generator.generate(text.format(p), seconds=2.0, steps=1, output="features")[0]
        for p in ("a person turns left", "a person waves twice")
    )
    assert deviation(one[:28], other[:28]) < FLOAT32
    assert np.abs(one[52:] - other[52:]).max() > 1e-3


def test_compositions_depend_neither_on_the_batch_nor_on_the_other_prompts(generator):
    three = "a person walks | a person turns | a person sits"
    prompts = [three, "a person walks", "a person waves | a person sits", "a person bows"]
    together = generator.generate(prompts, seconds=2.0, output="features", batch_size=64)
    alone = generator.generate(prompts, seconds=2.0, output="features", batch_size=1)
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    first = generator.generate(prompts[:1], seconds=2.0, output="features")[0]
    np.testing.assert_allclose(first, together[0], atol=1e-4)
    assert np.abs(compose(generator) - compose(generator, seed=4)).max() > 1e-3  # control
