"""A generator of a few thousand random parameters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adaclip import AdaCLIP
from adaqf_train.config import PocketClipConfig, RunConfig, SamplingConfig
from adaqf_train.encoders import pocket_clip
from adaqf_train.encoders.tuning import save_clip
from adaqf_train.generators.diffusion import Diffusion
from adaqf_train.generators.mdm.generator import MDMGenerator
from adaqf_train.generators.mdm.networks import build_denoiser
from tests.helpers import PROMPTS


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model's folder; not to be written to."""
    folder = tmp_path_factory.mktemp("base") / "pocket_clip"
    config = PocketClipConfig(vocabulary=560, width=16, layers=2, heads=2, feedforward=32, projection=12)
    tokenizer = pocket_clip.train_tokenizer(PROMPTS, config.vocabulary)
    torch.manual_seed(0)
    save_clip(folder, pocket_clip.build(tokenizer, config), tokenizer)
    return folder


@pytest.fixture
def generator(base: Path, tiny_config: RunConfig) -> MDMGenerator:
    torch.manual_seed(0)
    encoder = AdaCLIP.from_base(base, rank=2, alpha=2)
    for parameter in encoder.adapter_parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    denoiser = build_denoiser(encoder, 263, tiny_config.denoiser, tiny_config.diffusion.steps)
    mean, std = torch.zeros(263), torch.ones(263)
    sampling = SamplingConfig(scheduler="ddim", steps=2, batch=2)
    return MDMGenerator(encoder, denoiser, Diffusion(tiny_config.diffusion), mean, std, sampling, 4, 200)
