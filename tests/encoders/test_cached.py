"""What is saved changes no loss: captions that were encoded beforehand, and padding that is left out."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from accelerate import Accelerator
from adaqf_train.encoders.cached import CaptionEmbeddings, CaptionFeatures
from torch import Tensor, nn

from adaclip import AdaCLIP
from adaclip.adapter import new_adapter
from adaclip.config import LoRASettings
from adaqf_train.config import RunConfig
from adaqf_train.data.batches import MotionBatch, StepBatches
from adaqf_train.encoders import pocket_clip
from adaqf_train.generators.diffusion import Diffusion
from adaqf_train.generators.mdm.networks import build_denoiser
from adaqf_train.generators.mdm.objective import Objective
from adaqf_train.judges.extractors import Extractors
from tests.helpers import FLOAT32, deviation


@pytest.fixture(scope="module")
def config(tiny_config) -> RunConfig:
    """Without dropout, so that losses can be compared."""
    return replace(
        tiny_config,
        denoiser=replace(tiny_config.denoiser, dropout=0.0),
        extractors=replace(tiny_config.extractors, dropout=0.0),
    )


@pytest.fixture(scope="module")
def batch(tiny_train) -> MotionBatch:
    return StepBatches(tiny_train, 8, 0)[1]


def objective(config: RunConfig, dataset, captions=None) -> Objective:
    torch.manual_seed(3)
    tokenizer = pocket_clip.train_tokenizer(dataset.captions(), config.pocket_clip.vocabulary)
    model = pocket_clip.build(tokenizer, config.pocket_clip)
    encoder = AdaCLIP(new_adapter(model, LoRASettings(rank=2, alpha=2)), tokenizer, "tiny")
    if config.encoder.tuning == "frozen":
        encoder.requires_grad_(False)
    words = encoder.text_model.get_input_embeddings().weight.detach()
    extractors = Extractors(dataset.features, *words.shape, config.extractors)
    extractors.text.set_words(words)
    denoiser = build_denoiser(encoder, dataset.features, config.denoiser, config.diffusion.steps)
    diffusion = Diffusion(config.diffusion)
    return Objective(Accelerator(cpu=True), encoder, denoiser, diffusion, extractors, config, captions)


def losses(step: Objective, batch: MotionBatch) -> Tensor:
    with torch.no_grad():
        return torch.stack(list(step(batch)[1].values()))


@pytest.mark.parametrize("arm", ["baseline", "adaqf"])
def test_captions_that_were_encoded_beforehand_change_no_loss(config, tiny_train, batch, arm):
    config = config if arm == "adaqf" else config.baseline()
    plain, cached = objective(config, tiny_train), objective(config, tiny_train, tiny_train.captions())
    assert deviation(losses(plain, batch), losses(cached, batch)) < FLOAT32
    assert plain.features is None
    assert (cached.features is None) == (arm == "adaqf")  # what an adapter that learns makes is never remembered
    swapped = replace(batch, captions=batch.captions[1:] + batch.captions[:1])
    assert (losses(cached, swapped) - losses(cached, batch)).abs().max() > 1e-4  # control: the table is looked at


def test_an_encoder_that_learns_is_never_remembered(config, tiny_train, batch):
    step = objective(config, tiny_train, tiny_train.captions())
    before = losses(step, batch)
    with torch.no_grad():
        for name, parameter in step.encoder.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    assert (losses(step, batch) - before).abs().max() > 1e-4


def test_tables_do_not_depend_on_what_is_asked_together(config, tiny_train, batch):
    step = objective(config, tiny_train)
    captions = tiny_train.captions()
    features = CaptionFeatures(step.encoder, captions)
    embeddings = CaptionEmbeddings(step.feedback.judge.text, step.encoder, captions)
    alone, together = features(batch.captions[:1]), features(batch.captions)
    length = alone.tokens.shape[1]
    assert torch.equal(alone.tokens[0], together.tokens[0, :length])
    assert torch.equal(alone.pooled[0], together.pooled[0])
    assert torch.equal(embeddings(batch.captions)[2:3], embeddings(batch.captions[2:3]))
    assert not together.tokens[~together.mask].any()
    again = CaptionFeatures(step.encoder, captions)(batch.captions)  # as a run that goes on makes them
    assert all(torch.equal(a, b) for a, b in zip(again, together, strict=True))
    with pytest.raises(KeyError):
        embeddings(["a caption nobody wrote"])


def longer(batch: MotionBatch, frames: int, *, garbage: float = 0.0) -> MotionBatch:
    """The same clips, padded by that many frames more."""

    def padded(part: Tensor) -> Tensor:
        if part.ndim == 3:
            return nn.functional.pad(part, (0, 0, 0, frames), value=garbage)
        return nn.functional.pad(part, (0, frames)) if part.ndim == 2 else part

    tensors = {f.name: getattr(batch, f.name) for f in fields(batch) if isinstance(getattr(batch, f.name), Tensor)}
    return replace(batch, **{name: padded(part) for name, part in tensors.items()})


@pytest.mark.parametrize("garbage", [0.0, 1e3])
def test_padding_changes_no_loss(config, tiny_train, batch, garbage):
    step = objective(config, tiny_train)
    short, long = losses(step, batch), losses(step, longer(batch, 40, garbage=garbage))
    assert deviation(short, long) < FLOAT32
    unmasked = longer(batch, 40, garbage=garbage)
    unmasked = replace(unmasked, mask=torch.ones_like(unmasked.mask), frames=None)
    assert (losses(step, unmasked) - short).abs().max() > 1e-3  # control: it is the mask that keeps padding out


def test_a_clip_has_the_same_loss_whoever_is_in_its_batch(config, tiny_train, batch):
    """What bucketing changes is the company of a clip, and with it the padding of frames and tokens."""
    step = objective(config, tiny_train)
    alone = [replace(batch, **{f.name: getattr(batch, f.name)[i : i + 1] for f in fields(batch)}) for i in range(8)]
    trimmed = [
        replace(one, **{n: getattr(one, n)[:, : one.frames[0]] for n in ("motion", "noise", "mask")}) for one in alone
    ]
    apart = torch.stack([losses(step, one) for one in trimmed])
    assert deviation(apart.mean(dim=0), losses(step, batch)) < FLOAT32
    assert apart[:, 0].std() > 1e-3  # control: the clips' losses are not all the same


def test_lengths_from_the_host_are_those_of_the_mask(config, tiny_train, batch):
    extractor = objective(config, tiny_train).feedback.judge.motion
    known, counted = (extractor(batch.motion, batch.mask, frames) for frames in (batch.frames, None))
    assert torch.equal(known, counted)
    wrong = extractor(batch.motion, batch.mask, [length - 8 for length in batch.frames])
    assert (wrong - known).abs().max() > 1e-6
