"""What the tests of training start from: a pocket CLIP, extractors, and an objective made of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from adaclip import AdaCLIP
from adaqf_train.config import RunConfig, override
from adaqf_train.generators.diffusion import Diffusion
from adaqf_train.generators.mdm import objective as fit_adaqf
from adaqf_train.generators.mdm.networks import build_denoiser
from adaqf_train.judges import contrastive as fit_contrastive
from adaqf_train.judges import store
from adaqf_train.judges.extractors import Extractors

STILL = ("denoiser.dropout=0.0", "encoder.dropout=0.0")


@pytest.fixture(scope="session")
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


@pytest.fixture(scope="session")
def base(accelerator, tiny_train, tiny_config, tmp_path_factory) -> Path:
    """A folder of a CLIP text model of a few thousand parameters."""
    folder = tmp_path_factory.mktemp("base")
    model, tokenizer = fit_contrastive.fit_pocket_clip(
        accelerator, tiny_train, tiny_config.pocket_clip, folder / "log.jsonl"
    )
    store.save_clip(folder / "pocket_clip", model, tokenizer)
    return folder / "pocket_clip"


@pytest.fixture(scope="session")
def make_extractors(base) -> Callable[[RunConfig], Extractors]:
    def make(config: RunConfig) -> Extractors:
        torch.manual_seed(0)
        words = AdaCLIP.from_base(base).text_model.get_input_embeddings().weight
        module = Extractors(263, *words.shape, config.extractors)
        module.text.set_words(words.detach())
        return module

    return make


@pytest.fixture
def make_objective(accelerator, base, tiny_config, make_extractors) -> Callable[..., fit_adaqf.Objective]:
    """make_objective("feedback.motion=0", …): Eq. 5 with fresh networks, always the same; `.parts` has them by name."""

    def make(*settings: str) -> fit_adaqf.Objective:
        config = override(tiny_config, settings)
        torch.manual_seed(3)
        encoder = fit_adaqf.build_encoder(str(base), config)
        denoiser = build_denoiser(encoder, 263, config.denoiser, config.diffusion.steps)
        extractors = make_extractors(config) if config.feedback.active else None
        diffusion = Diffusion(config.diffusion)
        objective = fit_adaqf.Objective(accelerator, encoder, denoiser, diffusion, extractors, config)
        objective.parts = {"encoder": encoder, "denoiser": denoiser, "extractors": extractors, "diffusion": diffusion}
        return objective

    return make


@pytest.fixture
def fit(accelerator, base, make_extractors) -> Callable:
    """fit(dataset, config, folder, **more): a whole fit, its checkpoints and log in that folder."""

    def run(dataset, config: RunConfig, folder: Path, **more: object):
        judge = make_extractors(config) if config.feedback.active else None
        places = {"name": "adaqf", "checkpoints": folder / "checkpoints", "log": folder / "adaqf.jsonl"}
        return fit_adaqf.fit(accelerator, dataset, str(base), judge, config, **places | more)

    return run
