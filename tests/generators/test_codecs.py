"""Frames to latents and tokens and back: shapes, masks that never leak, codebooks that follow, gradients that pass."""

from __future__ import annotations

import pytest
import torch

from adaqf_train.errors import ArtefactError
from adaqf_train.generators import registry
from adaqf_train.generators.latent.config import AutoencoderConfig
from adaqf_train.generators.latent.networks import MotionAutoencoder
from adaqf_train.generators.masked.config import TokenizerConfig
from adaqf_train.generators.masked.networks import MotionTokenizer, ResidualQuantiser
from adaqf_train.generators.temporal import latent_mask
from tests.helpers import FLOAT32, deviation

B, T, D = 3, 24, 263
FRAMES = torch.arange(T)[None] < torch.tensor([24, 16, 8])[:, None]
REAL = latent_mask(FRAMES)
SIZES = TokenizerConfig(width=16, depth=2, code=4, codes=8, levels=3, reset_below=0.1)


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def motion(rng) -> torch.Tensor:
    return torch.randn(B, T, D, generator=rng)


def autoencoder() -> MotionAutoencoder:
    torch.manual_seed(0)
    return MotionAutoencoder(D, AutoencoderConfig(width=16, depth=2, latent=4)).eval()


def tokenizer(config: TokenizerConfig = SIZES) -> MotionTokenizer:
    torch.manual_seed(0)
    module = MotionTokenizer(D, config).eval()
    module.quantiser.codes.normal_()
    return module


def through(module, motion: torch.Tensor, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What a codec makes of motions, and what comes back."""
    with torch.no_grad():
        coded = module.encode(motion, frames)
        return coded, module.decode(coded, latent_mask(frames))


@pytest.mark.parametrize("module", [autoencoder(), tokenizer()], ids=["autoencoder", "tokenizer"])
def test_padding_reaches_neither_latents_nor_frames(module, motion):
    coded, back = through(module, motion, FRAMES)
    assert back.shape == (B, T, D)
    assert not back[~FRAMES].any()
    noisy, noisy_back = through(module, torch.where(FRAMES[..., None], motion, torch.full((), 100.0)), FRAMES)
    assert torch.equal(coded[REAL], noisy[REAL])
    assert torch.equal(back, noisy_back)
    alone, alone_back = through(module, motion[2:, :8], FRAMES[2:, :8])
    torch.testing.assert_close(alone[0], coded[2, :2])
    torch.testing.assert_close(alone_back[0], back[2, :8])
    # Control: a frame of the clip itself counts, also for the latent frames around it.
    moved = motion.clone()
    moved[:, 7] += 10
    assert (through(module, moved, FRAMES)[1] - back)[FRAMES].abs().max() > 1e-3


def test_standardised_latents_have_unit_deviation_and_decode_to_the_same_frames(motion):
    module = autoencoder()
    raw = module.posterior(motion, FRAMES).mean.detach()
    _, before = through(module, motion, FRAMES)
    module.set_statistics(raw[REAL])
    latents, after = through(module, motion, FRAMES)
    assert deviation(latents[REAL].mean(dim=0), torch.zeros(4)) < FLOAT32
    torch.testing.assert_close(latents[REAL].std(dim=0), torch.ones(4), atol=1e-4, rtol=0)
    assert deviation(after, before) < FLOAT32
    assert not latents[~REAL].any()


def test_the_autoencoder_draws_around_its_mean(motion):
    module = autoencoder()
    mean, _ = module(motion, FRAMES, torch.zeros(B, T // 4, 4))
    torch.testing.assert_close(mean, through(module, motion, FRAMES)[1])
    drawn, _ = module(motion, FRAMES, torch.ones(B, T // 4, 4))
    assert (drawn - mean).abs().max() > 1e-4


def test_each_level_quantises_what_the_others_left(rng):
    quantiser = ResidualQuantiser(SIZES)
    quantiser.codes.normal_(generator=rng)
    latents = torch.randn(B, T // 4, 4, generator=rng)
    found = quantiser(latents, REAL, 3)
    left = latents.clone()
    for level in range(3):
        expected = torch.cdist(left, quantiser.codes[level]).argmin(dim=-1)
        assert torch.equal(found.tokens[..., level], expected)
        torch.testing.assert_close(found.residuals[..., level, :], left)
        left = left - quantiser.codes[level][expected]
    torch.testing.assert_close(found.latents, latents - left)
    torch.testing.assert_close(quantiser.look_up(found.tokens), latents - left)
    first = quantiser(latents, REAL, 1)
    assert torch.equal(first.tokens[..., 0], found.tokens[..., 0])


def test_the_gradient_passes_straight_through_the_codes(rng):
    quantiser = ResidualQuantiser(SIZES)
    quantiser.codes.normal_(generator=rng)
    latents = torch.randn(B, T // 4, 4, generator=rng, requires_grad=True)
    weight = torch.randn(B, T // 4, 4, generator=rng)
    (quantiser(latents, REAL, 3).latents * weight).sum().backward()
    torch.testing.assert_close(latents.grad, weight)
    latents.grad = None
    quantiser(latents, REAL, 3).commitment.sum().backward()
    assert latents.grad[REAL].abs().sum() > 0
    assert not latents.grad[~REAL].any()  # padding commits to nothing


def clusters(rng, places: int = 8) -> torch.Tensor:
    """Latents (512, 4) in tight clusters."""
    centres = 5 * torch.randn(places, 4, generator=rng)
    return centres[torch.randint(places, (512,), generator=rng)] + 0.05 * torch.randn(512, 4, generator=rng)


def follow(quantiser: ResidualQuantiser, latents: torch.Tensor, levels: int = 3) -> torch.Tensor:
    everything = torch.ones(1, len(latents), dtype=torch.bool)
    found = quantiser(latents[None], everything, levels)
    quantiser.follow(*quantiser.counts(found, everything), found.residuals[everything])
    return (latents - found.latents[0]).square().mean()


def test_codebooks_move_to_the_means_of_what_they_stand_for(rng):
    quantiser, latents = ResidualQuantiser(SIZES), clusters(rng)
    torch.manual_seed(0)
    quantiser.start(latents)
    errors = [follow(quantiser, latents) for _ in range(300)]
    assert errors[-1] < errors[0]
    everything = torch.ones(1, len(latents), dtype=torch.bool)
    found = quantiser(latents[None], everything, 1)
    uses, sums = quantiser.counts(found, everything)
    used = uses[0] > 0
    means = sums[0, used] / uses[0, used, None]
    torch.testing.assert_close(quantiser.codes[0, used], means, atol=0.05, rtol=0)


def test_an_idle_code_is_put_where_it_is_needed(rng):
    quantiser, latents = ResidualQuantiser(SIZES), clusters(rng)
    quantiser.start(latents)
    quantiser.codes[:, 0] = 1e4  # nothing is ever near it
    quantiser.sums[:, 0], quantiser.uses[:, 0] = 1e4, 1.0
    torch.manual_seed(0)
    for _ in range(400):
        follow(quantiser, latents)
    assert quantiser.codes.abs().max() < 100
    unmoved = ResidualQuantiser(TokenizerConfig(width=16, depth=2, code=4, codes=8, levels=3, reset_below=0.0))
    unmoved.start(latents)
    unmoved.codes[:, 0], unmoved.sums[:, 0], unmoved.uses[:, 0] = 1e4, 1e4, 1.0
    for _ in range(400):
        follow(unmoved, latents)
    assert unmoved.codes[0, 0].abs().max() > 100  # control: without resets it stays lost


def test_levels_that_a_batch_left_out_stay_as_they_are(rng):
    quantiser, latents = ResidualQuantiser(SIZES), clusters(rng)
    quantiser.start(latents)
    before = quantiser.codes.clone()
    follow(quantiser, latents + 0.3, levels=1)
    assert not torch.equal(quantiser.codes[0], before[0])
    assert torch.equal(quantiser.codes[1:], before[1:])


def test_uses_and_sums_are_counted_over_real_frames(rng):
    quantiser = ResidualQuantiser(SIZES)
    quantiser.codes.normal_(generator=rng)
    found = quantiser(torch.randn(B, T // 4, 4, generator=rng), REAL, 2)
    uses, sums = quantiser.counts(found, REAL)
    assert uses.sum(dim=1).tolist() == [REAL.sum(), REAL.sum()]
    for level, code in ((0, 3), (1, 5), (1, 0)):
        here = REAL & (found.tokens[..., level] == code)
        assert uses[level, code] == here.sum()
        torch.testing.assert_close(sums[level, code], found.residuals[..., level, :][here].sum(dim=0))


def test_codes_are_found_and_kept_in_full_precision_under_autocast(rng, motion):
    module = tokenizer()
    latents = torch.randn(B, T // 4, 4, generator=rng)
    expected = module.quantiser(latents, REAL, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(module.quantiser(latents, REAL, 3).tokens, expected.tokens)
        _, found = module(motion, FRAMES, 3)
        module.quantiser.follow(*module.quantiser.counts(found, REAL), found.residuals[REAL])
    assert module.quantiser.codes.dtype == found.residuals.dtype == torch.float32


@pytest.mark.parametrize(("name", "module"), [("latent", autoencoder()), ("masked", tokenizer())])
def test_codec_is_saved_whole_or_refused(name, module, motion, tmp_path):
    codec, folder = registry.family(name).codec, tmp_path / "codec"
    codec.save(folder, module, D)
    again = codec.load(folder)
    assert again.config == module.config
    for a, b in zip(through(again, motion, FRAMES), through(module, motion, FRAMES), strict=True):
        assert torch.equal(a, b)
    other = registry.family("masked" if name == "latent" else "latent").codec
    with pytest.raises(ArtefactError, match="expected a Motion"):
        other.load(folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ArtefactError, match="cannot be loaded"):
        codec.load(folder)
    weights.unlink()
    with pytest.raises(ArtefactError, match=r"model\.safetensors: missing"):
        codec.load(folder)
