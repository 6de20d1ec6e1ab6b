"""Losses depend neither on caching of captions, nor on padding, nor on the other clips of a batch."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor, nn

from adaclip import AdaCLIP
from adaqf_train.data.batches import MotionBatch, StepBatches
from adaqf_train.data.captions import CaptionTable
from adaqf_train.generators.mdm.objective import AdaQFObjective
from tests.helpers import FLOAT32, deviation
from tests.training.conftest import STILL

QUIET = (*STILL, "extractors.dropout=0.0")
BASELINE = ("feedback.motion=0", "feedback.text=0", "encoder.tuning=frozen")


@pytest.fixture
def batch(tiny_train, base) -> MotionBatch:
    captions = CaptionTable(AdaCLIP.from_base(base).tokenizer, tiny_train.captions())
    return StepBatches(tiny_train, 8, 0, captions=captions)[1]


def losses(objective: AdaQFObjective, batch: MotionBatch) -> Tensor:
    with torch.no_grad():
        return torch.stack(list(objective(batch)[1].values()))


@pytest.mark.parametrize("arm", [BASELINE, ()])
def test_cached_captions_change_no_loss(make_objective, batch, arm):
    plain, cached = make_objective(*QUIET, *arm), make_objective(*QUIET, *arm, "training.cache_text=true")
    assert deviation(losses(plain, batch), losses(cached, batch)) < FLOAT32
    assert plain.features is None
    assert (cached.features is None) == (not arm)  # features of an adapter that learns are never cached
    swapped = replace(batch, captions=batch.captions[1:] + batch.captions[:1], caption=batch.caption.roll(-1))
    assert (losses(cached, swapped) - losses(cached, batch)).abs().max() > 1e-5  # control: the table is read


def test_features_of_an_encoder_that_learns_are_never_cached(make_objective, batch):
    objective = make_objective(*QUIET, "training.cache_text=true")
    before = losses(objective, batch)
    with torch.no_grad():
        for name, parameter in objective.encoder.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    assert (losses(objective, batch) - before).abs().max() > 1e-4


def longer(batch: MotionBatch, frames: int, *, garbage: float = 0.0) -> MotionBatch:
    """The same clips, padded by that many frames more."""
    motion = nn.functional.pad(batch.motion, (0, 0, 0, frames), value=garbage)
    return replace(batch, motion=motion, mask=nn.functional.pad(batch.mask, (0, frames)))


@pytest.mark.parametrize("garbage", [0.0, 1e3])
def test_padding_changes_no_loss(make_objective, batch, garbage):
    objective = make_objective(*QUIET)
    short, long = losses(objective, batch), losses(objective, longer(batch, 40, garbage=garbage))
    assert deviation(short, long) < FLOAT32
    unmasked = longer(batch, 40, garbage=garbage)
    unmasked = replace(unmasked, mask=torch.ones_like(unmasked.mask))
    assert (losses(objective, unmasked) - short).abs().max() > 1e-3  # control: the mask keeps padding out


def test_a_clip_has_the_same_loss_in_every_batch(make_objective, batch):
    """Bucketing changes which clips meet in a batch, and with them the padding of frames and tokens."""
    objective = make_objective(*QUIET)
    apart = []
    for row, length in enumerate(batch.lengths.tolist()):
        one = replace(
            batch,
            **{
                f.name: getattr(batch, f.name)[row : row + 1] for f in fields(batch) if f.name not in ("seed", "tokens")
            },
        )
        apart.append(losses(objective, replace(one, motion=one.motion[:, :length], mask=one.mask[:, :length])))
    apart = torch.stack(apart)
    assert deviation(apart.mean(dim=0), losses(objective, batch)) < FLOAT32
    assert apart[:, 0].std() > 1e-3  # control: the clips' losses are not all the same
