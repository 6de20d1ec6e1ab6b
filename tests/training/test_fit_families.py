"""Fits of the generator families: they learn, resume bit for bit, and leave alone what they should not touch."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from adaclip import AdaCLIP
from adaqf_train.config import DenoiserConfig, PocketClipConfig, SamplingConfig, TrainingConfig, ValidationConfig
from adaqf_train.data.batches import StepBatches, pad
from adaqf_train.encoders import pocket_clip
from adaqf_train.encoders.captions import FrozenCaptions
from adaqf_train.encoders.tuning import save_clip
from adaqf_train.errors import ArtefactError, ConfigError
from adaqf_train.generators import registry
from adaqf_train.generators.latent.config import AutoencoderConfig, LatentFamily
from adaqf_train.generators.latent.generator import LatentGenerator
from adaqf_train.generators.latent.networks import MotionAutoencoder
from adaqf_train.generators.latent.objective import fit_latent_diffusion
from adaqf_train.generators.masked.config import (
    MaskedFamily,
    TokenizerConfig,
    TokenSamplingConfig,
    TransformerConfig,
)
from adaqf_train.generators.masked.generator import MaskedGenerator
from adaqf_train.generators.masked.networks import MotionTokenizer
from adaqf_train.generators.masked.objective import _levels, fit_masked_generator, masked_tokens
from adaqf_train.generators.registry import Fitting
from adaqf_train.generators.temporal import latent_mask
from adaqf_train.training.loop import Place
from adaqf_train.training.losses import masked_mse
from tests.helpers import FLOAT32, deviation

TRAINING = TrainingConfig(
    steps=6, batch=8, learning_rate=1e-3, drop_at=4, ema=0.9, workers=0, checkpoint_every=2, log_every=1
)
CODEC_TRAINING = replace(TRAINING, ema=None)
LATENT = LatentFamily(
    autoencoder=AutoencoderConfig(width=16, depth=2, latent=8),
    autoencoder_training=CODEC_TRAINING,
    denoiser=DenoiserConfig(width=16, layers=1, heads=2, feedforward=16),
    training=TRAINING,
    sampling=SamplingConfig(scheduler="ddim", steps=2, batch=2),
)
MASKED = MaskedFamily(
    tokenizer=TokenizerConfig(width=16, depth=2, code=4, codes=16, levels=3, level_drop=0.5),
    tokenizer_training=CODEC_TRAINING,
    masked=TransformerConfig(width=16, layers=1, heads=2, feedforward=16),
    masked_training=TRAINING,
    residual=TransformerConfig(width=16, layers=1, heads=2, feedforward=16, text_drop=0.2),
    residual_training=TRAINING,
    sampling=TokenSamplingConfig(steps=3, batch=2),
)
FITS = {"latent": fit_latent_diffusion, "masked": fit_masked_generator}
CONFIGS = {"latent": LATENT, "masked": MASKED}
PROMPTS, LENGTHS = ["a person walks", "a person waves twice", "someone bows"], [40, 60, 20]


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


@pytest.fixture(scope="module")
def base(tiny_train, tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "pocket_clip"
    config = PocketClipConfig(vocabulary=600, width=16, layers=2, heads=2, feedforward=32, projection=12)
    tokenizer = pocket_clip.train_tokenizer(tiny_train.captions(), config.vocabulary)
    torch.manual_seed(0)
    save_clip(folder, pocket_clip.build(tokenizer, config), tokenizer)
    return folder


def encoder_of(base) -> AdaCLIP:
    """An adapted encoder: its adapter is not idle."""
    torch.manual_seed(0)
    encoder = AdaCLIP.from_base(base, rank=2, alpha=2)
    for parameter in encoder.adapter_parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return encoder.eval()


def untrained(kind: str) -> MotionAutoencoder | MotionTokenizer:
    torch.manual_seed(0)
    if kind == "latent":
        return MotionAutoencoder(263, LATENT.autoencoder).eval()
    codec = MotionTokenizer(263, MASKED.tokenizer).eval()
    codec.quantiser.codes.normal_()
    return codec


def fit(kind: str, accelerator, dataset, base, folder, *, config=None, every=None, score=None):
    """One fit of four, writing to `folder`."""
    place = Place(folder / "log.jsonl", folder / "checkpoints")
    sizes = {"autoencoder": ("latent", LATENT.autoencoder), "tokenizer": ("masked", MASKED.tokenizer)}
    if kind in sizes:
        family, own = sizes[kind]
        return registry.family(family).codec.fit(accelerator, dataset, own, config or CODEC_TRAINING, place)
    to = fitting(kind, accelerator, dataset, base, folder, every=every, score=score)
    return FITS[kind](to, encoder_of(base), config or CONFIGS[kind])


def fitting(kind: str, accelerator, dataset, base, folder, *, every=None, score=None) -> Fitting:
    watch = ValidationConfig(every=every, select="last") if score else None
    places = {name: Place(folder / f"{name}.jsonl", folder / name) for name in ("generator", "residual")}
    return Fitting(accelerator, dataset, base, untrained(kind), places.__getitem__, watch, score)


def weights(module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(a, b) -> bool:
    return all(torch.equal(value, b[name]) for name, value in a.items())


class Killed(Exception):
    """Stands for a power cut."""


@pytest.mark.parametrize("kind", ["autoencoder", "tokenizer", "latent", "masked"])
def test_a_resumed_fit_equals_an_uninterrupted_one(kind, accelerator, tiny_train, base, tmp_path, monkeypatch):
    whole = weights(fit(kind, accelerator, tiny_train, base, tmp_path / "whole"))
    batch_of, seen = StepBatches.__getitem__, []

    def killed(self, step):
        if step == 5:
            raise Killed
        return batch_of(self, step)

    def counted(self, step):
        seen.append(step)
        return batch_of(self, step)

    monkeypatch.setattr(StepBatches, "__getitem__", killed)
    with pytest.raises(Killed):
        fit(kind, accelerator, tiny_train, base, tmp_path / "cut")
    monkeypatch.setattr(StepBatches, "__getitem__", counted)
    again = weights(fit(kind, accelerator, tiny_train, base, tmp_path / "cut"))
    assert seen[:2] == [4, 5]  # control: it did go on from its checkpoint
    assert same(whole, again)


@pytest.mark.parametrize("kind", ["latent", "masked"])
def test_a_fit_trains_its_own_networks_and_nothing_else(kind, accelerator, tiny_train, base, tmp_path):
    dataset = copy.copy(tiny_train)
    dataset.config = replace(dataset.config, max_frames=160)
    generator = fit(kind, accelerator, dataset, base, tmp_path)
    codec = generator.autoencoder if kind == "latent" else generator.tokenizer
    assert same(weights(untrained(kind)), weights(codec))
    assert same(weights(encoder_of(base)), weights(generator.encoder))
    assert generator.max_frames == 160
    torch.manual_seed(0)
    learnt = [generator.denoiser] if kind == "latent" else [generator.masked, generator.residual]
    for network in learnt:
        assert all(p.requires_grad for p in network.parameters())
    assert not any(p.requires_grad for p in [*codec.parameters(), *generator.encoder.parameters()])


@pytest.mark.parametrize("kind", ["latent", "masked"])
def test_looking_at_a_curve_does_not_change_the_training(kind, accelerator, tiny_train, base, tmp_path):
    unwatched = weights(fit(kind, accelerator, tiny_train, base, tmp_path / "a"))
    found = {}

    def score(generator, step):
        network = generator.denoiser if kind == "latent" else generator.masked
        assert not network.training
        assert [len(v) for v in generator.generate_features(PROMPTS, LENGTHS)] == LENGTHS
        found[step] = weights(network)
        return {"fid": 1.0}

    watched = fit(kind, accelerator, tiny_train, base, tmp_path / "b", every=2, score=score)
    assert list(found) == [2, 4, 6]
    assert same(unwatched, weights(watched))
    network = watched.denoiser if kind == "latent" else watched.masked
    assert same(found[6], weights(network))
    assert not same(found[4], found[6])
    # What was seen at step 4 is what training for 4 steps gives, average and all.
    config = {"latent": LATENT, "masked": MASKED}[kind]
    short = replace(TRAINING, steps=4)
    config = replace(config, **{"training" if kind == "latent" else "masked_training": short})
    ended = fit(kind, accelerator, tiny_train, base, tmp_path / "c", config=config)
    assert same(found[4], weights(ended.denoiser if kind == "latent" else ended.masked))


@pytest.mark.parametrize("kind", ["latent", "masked"])
def test_the_encoder_counts(kind, accelerator, tiny_train, base, tmp_path):
    """Same start, same batches: only the text features differ between two encoders that are compared."""
    adapted = fit(kind, accelerator, tiny_train, base, tmp_path / "a")
    torch.manual_seed(5)
    plain = AdaCLIP.from_base(base, rank=2, alpha=2)
    frozen = FITS[kind](fitting(kind, accelerator, tiny_train, base, tmp_path / "b"), plain, CONFIGS[kind])
    assert not same(weights(adapted), weights(frozen))


def reconstruction(codec, dataset, levels: int | None = None) -> float:
    motion, mask = pad([dataset.normalise(item.vectors[: len(item.vectors) // 4 * 4]) for item in dataset.items])
    with torch.no_grad():
        coded = codec.encode(motion, mask)
        return masked_mse(codec.decode(coded[..., :levels], latent_mask(mask)), motion, mask).mean().item()


@pytest.mark.parametrize("kind", ["autoencoder", "tokenizer"])
def test_a_codec_learns_to_reconstruct(kind, accelerator, tiny_train, base, tmp_path):
    errors = {
        steps: reconstruction(
            fit(
                kind,
                accelerator,
                tiny_train,
                base,
                tmp_path / str(steps),
                config=replace(CODEC_TRAINING, steps=steps, drop_at=None, learning_rate=3e-3, checkpoint_every=1000),
            ),
            tiny_train,
        )
        for steps in (1, 120)
    }
    assert errors[120] < 0.6 * errors[1]


def test_more_levels_reconstruct_better(accelerator, tiny_train, base, tmp_path):
    training = replace(CODEC_TRAINING, steps=120, drop_at=None, learning_rate=3e-3, checkpoint_every=1000)
    codec = fit("tokenizer", accelerator, tiny_train, base, tmp_path, config=training)
    errors = [reconstruction(codec, tiny_train, levels) for levels in (1, 2, 3)]
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("kind", ["latent", "masked"])
def test_the_loss_falls(kind, accelerator, tiny_train, base, tmp_path):
    long = replace(TRAINING, steps=60, drop_at=None, learning_rate=3e-3, checkpoint_every=1000)
    config = (
        replace(LATENT, training=long)
        if kind == "latent"
        else replace(MASKED, masked_training=long, residual_training=long)
    )
    fit(kind, accelerator, tiny_train, base, tmp_path, config=config)
    for log in tmp_path.glob("*.jsonl"):
        losses = [float(line.split('"loss": ')[1].split(",")[0].rstrip("}")) for line in log.read_text().splitlines()]
        assert np.mean(losses[-10:]) < 0.95 * np.mean(losses[:5]), log.name


def trained_generator(kind: str, base) -> LatentGenerator | MaskedGenerator:
    torch.manual_seed(1)
    config = LATENT if kind == "latent" else MASKED
    make = LatentGenerator if kind == "latent" else MaskedGenerator
    return make(encoder_of(base), untrained(kind), torch.randn(263), torch.rand(263) + 0.5, config).eval()


@pytest.mark.parametrize("kind", ["latent", "masked"])
def test_motions_depend_on_prompt_seed_and_place_not_on_the_batch(kind, base):
    generator = trained_generator(kind, base)
    calls = []
    together = generator.generate_features(PROMPTS, LENGTHS, seed=(3, 1), on_step=lambda: calls.append(1))
    assert [v.shape for v in together] == [(length, 263) for length in LENGTHS]
    assert len(calls) == 2 * generator.steps  # two batches of at most two
    generator.sampling = replace(generator.sampling, batch=64)
    for a, b in zip(together, generator.generate_features(PROMPTS, LENGTHS, seed=(3, 1)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    other = generator.generate_features(PROMPTS, LENGTHS, seed=(3, 2))
    assert max(np.abs(a - b).max() for a, b in zip(together, other, strict=True)) > 1e-3


@pytest.mark.parametrize("kind", ["latent", "masked"])
def test_a_saved_generator_generates_the_same(kind, base, tmp_path):
    generator = trained_generator(kind, base)
    if kind == "masked":
        generator.levels = 2
    folder = generator.save_pretrained(tmp_path / "generator")
    again = type(generator).from_pretrained(folder)
    motions = (g.generate_features(PROMPTS, LENGTHS, seed=3) for g in (generator, again))
    for a, b in zip(*motions, strict=True):
        np.testing.assert_array_equal(a, b)
    other = MaskedGenerator if kind == "latent" else LatentGenerator
    with pytest.raises(ArtefactError, match=f"a {kind} generator, expected"):
        other.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ArtefactError, match=r"model\.safetensors: missing"):
        type(generator).from_pretrained(folder)


def test_fewer_levels_are_another_motion_on_the_same_base_tokens(base):
    generator = trained_generator("masked", base)
    every = generator.generate_features(PROMPTS, LENGTHS)
    generator.levels = 1
    assert np.abs(generator.generate_features(PROMPTS, LENGTHS)[0] - every[0]).max() > 1e-4
    for levels in (0, 4):
        with pytest.raises(ConfigError, match="between 1 and 3"):
            generator.levels = levels


def test_frozen_text_is_what_the_encoder_says_whatever_is_asked_for_first(base):
    encoder = encoder_of(base)
    captions = [*PROMPTS, "a person walks in a circle to the left and then sits down"]
    text = FrozenCaptions(encoder, captions, "both")
    expected = encoder.encode(captions, output="both")
    found = text.features(captions)
    for a, b in zip(found, expected, strict=True):
        assert deviation(a, b) < FLOAT32
    again = FrozenCaptions(encoder, captions[::-1], "both").features(captions)
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))
    assert text.features(captions[:1]).tokens.shape[1] < found.tokens.shape[1]
    torch.testing.assert_close(FrozenCaptions(encoder, captions, "pooled").pooled(captions), expected.pooled)
    with pytest.raises(KeyError):
        text.pooled(["a caption of another data set"])


def test_masks_follow_the_schedule_and_stay_on_real_tokens(tiny_train):
    batch = StepBatches(tiny_train, 32, 0)[0]
    real = latent_mask(batch.mask)
    tokens = torch.arange(real.shape[1]).expand(real.shape) % 16
    shown, asked = masked_tokens(tokens, real, batch, 16, 0.5)
    assert not asked[~real].any()
    assert torch.equal(shown[~asked], tokens[~asked])
    share = asked.sum(dim=-1) / real.sum(dim=-1)
    assert (asked.sum(dim=-1) >= 1).all()
    assert share.mean().item() == pytest.approx(2 / np.pi, abs=0.12)  # the cosine's mean
    instead = shown[asked]
    assert 0.3 < (instead == 16).float().mean() < 0.7
    assert (masked_tokens(tokens, real, batch, 16, 0.0)[0][asked] == 16).all()


@pytest.mark.parametrize(
    ("kind", "setting", "says"),
    [
        ("tokenizer", {"accumulate": 2}, "accumulate would change this fit"),
        ("tokenizer", {"compile": True}, "compile is not available"),
        ("autoencoder", {"cache_text": True}, "cache_text has no effect"),
        ("autoencoder", {"adapter_learning_rate": 1e-3}, "trains no text encoder"),
    ],
)
def test_settings_that_a_codec_cannot_follow_are_refused(kind, setting, says, accelerator, tiny_train, base, tmp_path):
    with pytest.raises(ConfigError, match=says):
        fit(kind, accelerator, tiny_train, base, tmp_path, config=replace(CODEC_TRAINING, **setting))


def test_levels_are_drawn_for_the_whole_batch(tiny_train):
    config = replace(MASKED.tokenizer, level_drop=1.0)
    whole = StepBatches(tiny_train, 8, 0)
    halves = [StepBatches(tiny_train, 8, 0, process=number, processes=2) for number in range(2)]
    drawn = [_levels(whole[step], 1, config) for step in range(12)]
    for half in halves:
        assert [_levels(half[step], 2, config) for step in range(12)] == drawn
    assert set(drawn) == {1, 2, 3}
    assert _levels(whole[0], 1, replace(config, level_drop=0.0)) == 3
