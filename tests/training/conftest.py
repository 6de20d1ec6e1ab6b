"""What the tests of training start from: a pocket CLIP, extractors, and an objective made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from adaclip import AdaCLIP
from adaqf_train.config import RunConfig, override
from adaqf_train.encoders.moclip import motion_encoder
from adaqf_train.encoders.pocket_clip import fit_pocket_clip
from adaqf_train.encoders.tuning import build_encoder, save_clip
from adaqf_train.generators.diffusion import Diffusion
from adaqf_train.generators.mdm.networks import build_denoiser
from adaqf_train.generators.mdm.objective import AdaQFObjective, fit_adaqf
from adaqf_train.judges.extractors import Extractors
from adaqf_train.training.loop import Place

STILL = ("denoiser.dropout=0.0", "encoder.dropout=0.0")


@pytest.fixture(scope="session")
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


@pytest.fixture
def accelerator_of(accelerator) -> Iterator[Callable[[str, str], Accelerator]]:
    """accelerator_of(device, precision): a process has one state of accelerate, which is put back afterwards."""
    before = dict(AcceleratorState._shared_state)

    def make(device: str, precision: str = "no") -> Accelerator:
        AcceleratorState._reset_state()
        return Accelerator(cpu=device == "cpu", mixed_precision=precision)

    yield make
    AcceleratorState._reset_state()
    AcceleratorState._shared_state.update(before)


@pytest.fixture(scope="session")
def base(accelerator, tiny_train, tiny_config, tmp_path_factory) -> Path:
    """A folder of a CLIP text model of a few thousand parameters."""
    folder = tmp_path_factory.mktemp("base")
    model, tokenizer = fit_pocket_clip(accelerator, tiny_train, tiny_config.pocket_clip, Place(folder / "log.jsonl"))
    save_clip(folder / "pocket_clip", model, tokenizer)
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
def make_objective(accelerator, base, tiny_config, tiny_train, make_extractors) -> Callable[..., AdaQFObjective]:
    """make_objective("feedback.motion=0", …): Eq. 5 with fresh networks, always the same, in training mode.

    `.optimizer` is plain AdamW, `.schedule` the diffusion.
    """

    def make(*settings: str) -> AdaQFObjective:
        config = override(tiny_config, settings)
        torch.manual_seed(3)
        encoder = build_encoder(str(base), config.encoder, config.denoiser.conditioning)
        denoiser = build_denoiser(encoder, 263, config.denoiser, config.diffusion.steps)
        extractors = make_extractors(config) if config.feedback.active else None
        diffusion = Diffusion(config.diffusion)
        aligner = motion_encoder(263, encoder, config.extractors) if config.alignment.weight else None
        objective = AdaQFObjective(accelerator, encoder, denoiser, diffusion, extractors, config, tiny_train, aligner)
        for network in objective.learns.values():
            network.train()
        learnt = [p for p in objective.parameters() if p.requires_grad]
        objective.optimizer, objective.schedule = torch.optim.AdamW(learnt, lr=1e-3), diffusion
        return objective

    return make


@pytest.fixture
def fit(accelerator, base, make_extractors) -> Callable:
    """fit(dataset, config, folder, score): a whole fit, its checkpoints and log in that folder."""

    def run(dataset, config: RunConfig, folder: Path, score=None):
        judge = make_extractors(config) if config.feedback.active else None
        place = Place(folder / "adaqf.jsonl", folder / "checkpoints")
        return fit_adaqf(accelerator, dataset, str(base), judge, config, place, score)

    return run
