"""Extractors, evaluator and denoiser: sizes, masks that never leak, and gradients where they belong."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adaclip import TextFeatures
from adaqf_train.config import DenoiserConfig, EvaluatorConfig, ExtractorConfig
from adaqf_train.generators.mdm.networks import Denoiser
from adaqf_train.judges.extractors import Extractors, MotionExtractor
from adaqf_train.judges.matcher import Matcher
from adaqf_train.layers import PositionCodes, freeze
from tests.helpers import FLOAT32, deviation

B, T, D, L, VOCABULARY = 3, 24, 263, 7, 50
LENGTHS = (24, 16, 8)
WORDS = (7, 4, 2)


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def mask_of(lengths: tuple[int, ...], size: int) -> torch.Tensor:
    return torch.arange(size)[None] < torch.tensor(lengths)[:, None]


@pytest.fixture
def motion(rng) -> torch.Tensor:
    return torch.randn(B, T, D, generator=rng)


@pytest.fixture
def ids(rng) -> torch.Tensor:
    return torch.randint(VOCABULARY, (B, L), generator=rng)


FRAMES, TOKENS = mask_of(LENGTHS, T), mask_of(WORDS, L)


def towers(kind: str) -> torch.nn.Module:
    torch.manual_seed(0)
    if kind == "extractors":
        config = ExtractorConfig(movement=16, motion_hidden=12, text_hidden=12, embedding=8)
        return Extractors(D, VOCABULARY, 10, config).eval()
    return Matcher(D, VOCABULARY, EvaluatorConfig(width=16, layers=2, heads=2, feedforward=16, embedding=8)).eval()


def embeddings(module: torch.nn.Module, ids, tokens, motion, frames) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        return module(ids, tokens, motion, frames)


@pytest.mark.parametrize("kind", ["extractors", "matcher"])
def test_padding_never_leaks_into_an_embedding(kind, motion, ids):
    module = towers(kind)
    text, own = embeddings(module, ids, TOKENS, motion, FRAMES)
    noisy = torch.where(FRAMES[..., None], motion, 100 * torch.ones(()))
    other_ids = torch.where(TOKENS, ids, (ids + 1) % VOCABULARY)
    text_again, own_again = embeddings(module, other_ids, TOKENS, noisy, FRAMES)
    assert torch.equal(own, own_again)
    assert torch.equal(text, text_again)
    for row in range(B):  # and a clip alone embeds as it does in company
        alone = embeddings(
            module,
            ids[row : row + 1, : WORDS[row]],
            TOKENS[row : row + 1, : WORDS[row]],
            motion[row : row + 1, : LENGTHS[row]],
            FRAMES[row : row + 1, : LENGTHS[row]],
        )
        assert deviation(alone[0][0], text[row]) < FLOAT32
        assert deviation(alone[1][0], own[row]) < FLOAT32
    _, changed = embeddings(module, ids, TOKENS, motion + FRAMES[..., None] * 0.1, FRAMES)
    assert (changed - own).abs().max() > 1e-4  # control: real frames do count


@pytest.mark.parametrize("kind", ["extractors", "matcher"])
def test_foot_contacts_are_not_looked_at(kind, motion, ids):
    module = towers(kind)
    _, own = embeddings(module, ids, TOKENS, motion, FRAMES)
    other = motion.clone()
    other[..., -4:] += 5
    assert torch.equal(embeddings(module, ids, TOKENS, other, FRAMES)[1], own)
    other[..., -5] += 5
    assert not torch.equal(embeddings(module, ids, TOKENS, other, FRAMES)[1], own)


def test_the_extractors_have_t2ms_sizes():
    """Movement 1,842,688 and motion 15,747,584 parameters, as published; the text side has other word vectors."""
    extractor = MotionExtractor(D, ExtractorConfig())
    movement = [*extractor.movement.parameters(), *extractor.movement_out.parameters()]
    assert sum(p.numel() for p in movement) == 1_842_688
    assert sum(p.numel() for p in extractor.parameters()) == 1_842_688 + 15_747_584


def test_frozen_extractors_pass_gradients_to_their_input_only(motion, ids):
    module = freeze(towers("extractors").train())
    motion.requires_grad_()
    module.motion(motion, FRAMES).sum().backward()
    assert motion.grad[FRAMES].abs().sum() > 0
    assert motion.grad[~FRAMES].abs().sum() == 0
    assert all(p.grad is None for p in module.parameters())
    first = module.motion(motion, FRAMES)
    assert torch.equal(first, module.motion(motion, FRAMES))  # no dropout, though the GRU is in training mode
    assert module.motion.gru.gru.training


def denoiser(**settings) -> Denoiser:
    torch.manual_seed(0)
    config = DenoiserConfig(width=16, layers=2, heads=2, feedforward=16, **settings)
    return Denoiser(D, 10, config, timesteps=50).eval()


def text_features(rng) -> TextFeatures:
    return TextFeatures(torch.randn(B, 10, generator=rng), torch.randn(B, L, 10, generator=rng), TOKENS)


@pytest.mark.parametrize("group", [1, 4])
@pytest.mark.parametrize("conditioning", ["tokens", "pooled"])
def test_padding_and_missing_words_never_leak_into_a_prediction(conditioning, group, motion, rng):
    model = denoiser(conditioning=conditioning, frames_per_token=group)
    text, t = text_features(rng), torch.tensor([3, 20, 49])
    predicted = model(motion, t, text, FRAMES)
    assert predicted.shape == (B, T, D)
    noisy = torch.where(FRAMES[..., None], motion, 100 * torch.ones(()))
    padded = text._replace(tokens=torch.where(TOKENS[..., None], text.tokens, 100 * torch.ones(())))
    again = model(noisy, t, padded, FRAMES)
    assert deviation(again[FRAMES], predicted[FRAMES]) < FLOAT32
    assert (model(motion, t + 0 * t.flip(0), text, FRAMES)[FRAMES] - predicted[FRAMES]).abs().max() == 0
    assert (model(motion, (t + 7) % 50, text, FRAMES) - predicted)[FRAMES].abs().max() > 1e-4  # control: time counts


@pytest.mark.parametrize("conditioning", ["tokens", "pooled"])
def test_without_text_no_text_counts(conditioning, motion, rng):
    model = denoiser(conditioning=conditioning)
    text, t = text_features(rng), torch.tensor([3, 20, 49])
    other = TextFeatures(text.pooled + 1, text.tokens + 1, text.mask)
    keep = torch.tensor([True, False, True])
    a, b = model(motion, t, text, FRAMES, keep), model(motion, t, other, FRAMES, keep)
    assert torch.equal(a[1], b[1])
    assert (a[0] - b[0]).abs().max() > 1e-4
    assert torch.equal(model(motion, t, text, FRAMES)[0], model(motion, t, text, FRAMES, torch.ones(B).bool())[0])


def test_token_conditioning_sees_every_word_and_pooled_only_the_vector(motion, rng):
    text, t = text_features(rng), torch.tensor([3, 20, 49])
    tokens = text.tokens.clone()
    tokens[0, 1] += 1
    changed = text._replace(tokens=tokens)
    for conditioning, differs in (("tokens", True), ("pooled", False)):
        model = denoiser(conditioning=conditioning)
        a, b = model(motion, t, text, FRAMES), model(motion, t, changed, FRAMES)
        assert (not torch.equal(a[0], b[0])) == differs
        assert torch.equal(a[1:], b[1:])


def test_mdms_size_at_the_papers_defaults():
    """MDM's trans_dec has 26.29 M parameters with its one-token memory."""
    model = Denoiser(D, 512, DenoiserConfig(conditioning="pooled"), timesteps=50)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(26.29e6, rel=0.01)


def test_position_codes_grow_with_the_sequence():
    codes = PositionCodes(8, 0.0, positions=4)
    long = codes(torch.zeros(1, 9, 8))
    assert torch.equal(long[:, :4], PositionCodes(8, 0.0, positions=4)(torch.zeros(1, 4, 8)))
    assert len(np.unique(long[0].detach().numpy().round(6), axis=0)) == 9
