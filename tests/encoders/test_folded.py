"""The folded tower computes what the encoder computes, and sends the same gradients to its adapter."""

from __future__ import annotations

import pytest
import torch

from adaclip import AdaCLIP
from adaqf_train.config import PocketClipConfig
from adaqf_train.encoders import pocket_clip
from adaqf_train.encoders.folded import FoldedTower
from adaqf_train.encoders.tuning import save_clip, tune
from tests.helpers import deviation

PROMPTS = ["a person walks", "a person waves the left hand twice and then bows", "turns"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "clip"
    config = PocketClipConfig(vocabulary=600, width=16, layers=3, heads=2, feedforward=32, projection=12)
    tokenizer = pocket_clip.train_tokenizer(PROMPTS, config.vocabulary)
    torch.manual_seed(0)
    save_clip(folder, pocket_clip.build(tokenizer, config), tokenizer)
    return folder


def encoder_of(base, **settings) -> AdaCLIP:
    """An encoder whose adapter is not idle, as it is trained."""
    encoder = AdaCLIP.from_base(base, rank=2, alpha=6, **settings)
    torch.manual_seed(1)
    for parameter in encoder.adapter_parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    tune(encoder, "lora")
    return encoder.train()


@pytest.mark.parametrize("modules", [("q_proj", "k_proj", "v_proj", "fc1", "fc2"), ("v_proj", "out_proj")])
def test_folded_tower_equals_the_encoder(base, modules):
    encoder = encoder_of(base, modules=modules)
    assert FoldedTower.supports(encoder)
    tower, inputs = FoldedTower(encoder), encoder.tokenize(PROMPTS)
    gradients = []
    for network in (encoder, tower):
        features = network(*inputs)
        (features.pooled.square().sum() + features.tokens.square().sum()).backward()
        gradients.append([parameter.grad.clone() for parameter in encoder.adapter_parameters()])
        encoder.zero_grad()
    plain = AdaCLIP.from_base(base)(*inputs)
    for found, expected, without in zip(tower(*inputs), encoder(*inputs), plain, strict=True):
        if found.is_floating_point():
            assert deviation(found, expected) < 1e-5
            assert deviation(found, without) > 1e-2  # control: the adapter counts
    for found, expected in zip(*gradients, strict=True):
        assert deviation(found, expected) < 1e-4
        assert expected.abs().max() > 0
    assert not list(tower.parameters())  # the adapter's belong to the encoder


def test_what_cannot_be_folded_is_not_supported(base):
    assert not FoldedTower.supports(encoder_of(base, dropout=0.1))
    encoder = encoder_of(base)
    tune(encoder, "full")
    assert not FoldedTower.supports(encoder)
