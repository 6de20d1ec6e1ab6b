"""The complete generator: saved whole, loaded whole, self-contained, and seeded prompt by prompt."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from adaclip import AdaCLIP, AdaCLIPError
from adaqf_train.config import ConfigError, PocketClipConfig, SamplingConfig
from adaqf_train.models import pocket_clip, store
from adaqf_train.models.diffusion import Diffusion
from adaqf_train.models.generator import MotionGenerator, build_denoiser

PROMPTS = ["a person walks forward", "a person waves twice", "a person turns left and then bows deeply"]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "pocket_clip"
    config = PocketClipConfig(vocabulary=560, width=16, layers=2, heads=2, feedforward=32, projection=12)
    tokenizer = pocket_clip.train_tokenizer(PROMPTS, config.vocabulary)
    torch.manual_seed(0)
    store.save_clip(folder, pocket_clip.build(tokenizer, config), tokenizer)
    return folder


@pytest.fixture
def generator(base, tiny_config) -> MotionGenerator:
    torch.manual_seed(0)
    encoder = AdaCLIP.from_base(base, rank=2, alpha=2)
    for parameter in encoder.adapter_parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    denoiser = build_denoiser(encoder, 263, tiny_config.denoiser, tiny_config.diffusion.steps)
    mean, std = torch.zeros(263), torch.ones(263)
    sampling = SamplingConfig(scheduler="ddim", steps=2, batch=2)
    return MotionGenerator(encoder, denoiser, Diffusion(tiny_config.diffusion), mean, std, sampling, 4, 200)


def test_a_saved_generator_generates_the_same_wherever_its_folder_goes(generator, base, tmp_path):
    folder = generator.save_pretrained(tmp_path / "run" / "adaqf")
    expected = generator.generate(PROMPTS, seconds=2.0, seed=3)
    moved = Path(shutil.move(str(folder), str(tmp_path / "elsewhere")))
    again = MotionGenerator.from_pretrained(moved).generate(PROMPTS, seconds=2.0, seed=3)
    for a, b in zip(expected, again, strict=True):
        assert a.shape == (40, 22, 3)
        np.testing.assert_array_equal(a, b)
    other = MotionGenerator.from_pretrained(moved).generate(PROMPTS, seconds=2.0, seed=4)
    assert np.abs(other[0] - expected[0]).max() > 1e-3  # control: the seed counts


def test_a_generator_has_one_configuration_and_no_pickles(generator, tmp_path):
    folder = generator.save_pretrained(tmp_path / "adaqf")
    assert (folder / "config.json").is_file()
    assert not (folder / "encoder" / "config.json").exists()
    assert not [p for p in folder.rglob("*") if p.suffix in (".bin", ".pt", ".pth", ".pkl")]


def test_motions_depend_on_prompt_seed_and_place_not_on_the_batch(generator):
    lengths = [40, 60, 20]
    together = generator.generate_features(PROMPTS, lengths, seed=0)
    assert [len(v) for v in together] == lengths
    generator.sampling = SamplingConfig(scheduler="ddim", steps=2, batch=64)
    for a, b in zip(together, generator.generate_features(PROMPTS, lengths, seed=0), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert np.abs(generator.generate_features(PROMPTS[1:2], [40], seed=0)[0] - together[0]).max() > 1e-3


def test_the_adapter_shapes_the_motion(generator):
    adapted = generator.generate(PROMPTS[:1], seconds=2.0)[0]
    for name, parameter in generator.encoder.named_parameters():
        if "lora_B" in name:
            torch.nn.init.zeros_(parameter)
    assert np.abs(generator.generate(PROMPTS[:1], seconds=2.0)[0] - adapted).max() > 1e-5


@pytest.mark.parametrize("seconds", [0.0, 0.1, 10.0, -1.0])
def test_lengths_that_were_not_trained_are_refused(generator, seconds):
    with pytest.raises(ConfigError, match=r"seconds must lie between 0\.2 and 9\.8"):
        generator.generate(PROMPTS[:1], seconds=seconds)


@pytest.mark.parametrize("name", ["config.json", "denoiser.safetensors", "statistics.safetensors"])
def test_incomplete_generators_are_refused(generator, tmp_path, name):
    folder = generator.save_pretrained(tmp_path / "adaqf")
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(AdaCLIPError, match="adaqf"):
        MotionGenerator.from_pretrained(folder)
    (folder / name).unlink()
    with pytest.raises(AdaCLIPError, match=f"{name}: missing"):
        MotionGenerator.from_pretrained(folder)
