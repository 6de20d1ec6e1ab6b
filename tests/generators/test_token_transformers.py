"""Transformers over motion tokens: masks, guidance, schedules, and draws that belong to each item."""

from __future__ import annotations

import math

import pytest
import torch

from adaqf_train.generators.masked.config import TransformerConfig
from adaqf_train.generators.masked.networks import (
    MaskedTransformer,
    ResidualTransformer,
    draw,
    guided,
    masked_share,
)
from adaqf_train.generators.noise import Noise
from tests.helpers import FLOAT32, deviation

B, N, P, CODES, LEVELS = 3, 6, 5, 12, 4
REAL = torch.arange(N)[None] < torch.tensor([6, 4, 2])[:, None]
SIZES = TransformerConfig(width=16, layers=2, heads=2, feedforward=32)


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def tokens(rng) -> torch.Tensor:
    return torch.randint(CODES, (B, N, LEVELS), generator=rng)


@pytest.fixture
def text(rng) -> torch.Tensor:
    return torch.randn(B, P, generator=rng)


def masked() -> MaskedTransformer:
    torch.manual_seed(0)
    return MaskedTransformer(CODES, P, SIZES).eval()


def residual() -> ResidualTransformer:
    torch.manual_seed(0)
    return ResidualTransformer(CODES, LEVELS, P, SIZES).eval()


def noise(*items: int) -> Noise:
    return Noise(torch.tensor(items))


LEVEL = torch.tensor([1, 2, 3])


@torch.no_grad()
def logits(kind: str, tokens, text, real, keep_text=None, level=LEVEL) -> torch.Tensor:
    if kind == "masked":
        return masked()(tokens[..., 0], text, real, keep_text)
    return residual()(tokens, level, text, real, keep_text)


@pytest.mark.parametrize("kind", ["masked", "residual"])
def test_padding_never_leaks_into_logits(kind, tokens, text):
    expected = logits(kind, tokens, text, REAL)
    assert expected.shape == (B, N, CODES)
    other = torch.where(REAL[..., None], tokens, (tokens + 1) % CODES)
    torch.testing.assert_close(logits(kind, other, text, REAL)[REAL], expected[REAL])
    alone = logits(kind, tokens[1:2, :4], text[1:2], REAL[1:2, :4], level=LEVEL[1:2])
    torch.testing.assert_close(alone[0], expected[1, :4])
    seen = torch.ones_like(REAL)  # control: unmasked, the same tokens do count
    assert (logits(kind, other, text, seen) - logits(kind, tokens, text, seen))[REAL].abs().max() > 1e-4


@pytest.mark.parametrize("kind", ["masked", "residual"])
def test_dropped_text_is_not_seen_and_kept_text_is(kind, tokens, text):
    keep = torch.tensor([True, False, True])
    expected = logits(kind, tokens, text, REAL, keep)
    changed = logits(kind, tokens, text + 1, REAL, keep)
    assert torch.equal(changed[1], expected[1])
    assert (changed[0] - expected[0]).abs().max() > 1e-4


def test_a_residual_level_reads_the_levels_before_it_alone(tokens, text):
    expected = logits("residual", tokens, text, REAL)
    for item, level in enumerate(LEVEL.tolist()):
        later, earlier = tokens.clone(), tokens.clone()
        later[..., level:] = (later[..., level:] + 1) % CODES
        earlier[..., level - 1] = (earlier[..., level - 1] + 1) % CODES
        assert torch.equal(logits("residual", later, text, REAL)[item], expected[item])
        assert (logits("residual", earlier, text, REAL)[item] - expected[item]).abs().max() > 1e-4
    same = torch.equal(logits("residual", tokens, text, REAL, level=torch.tensor([2, 2, 3]))[0], expected[0])
    assert not same  # control: the level itself counts


def test_guidance_of_one_is_the_conditional_prediction_and_of_zero_the_unconditional(tokens, text):
    network, base = masked(), tokens[..., 0]
    with torch.no_grad():
        conditional, without = network(base, text, REAL), network(base, 0 * text, REAL)
        assert deviation(guided(network, (base,), text, REAL, 1.0), conditional) < FLOAT32
        assert deviation(guided(network, (base,), text, REAL, 0.0), without) < FLOAT32
        assert (guided(network, (base,), text, REAL, 3.0) - conditional).abs().max() > 1e-3


def test_draws_follow_the_softmax_and_its_temperature():
    logit = torch.tensor([2.0, 1.0, 0.0, -1.0]).expand(1, 4000, 4)
    for temperature in (1.0, 0.5):
        drawn = draw(logit, temperature, noise(0), 0)
        share = torch.bincount(drawn[0], minlength=4) / 4000
        torch.testing.assert_close(share, (logit[0, 0] / temperature).softmax(dim=-1), atol=0.03, rtol=0)


def test_the_masked_share_falls_along_a_cosine():
    assert masked_share(0.0) == 1
    assert masked_share(2 / 3) == pytest.approx(0.5)
    assert masked_share(1.0) == pytest.approx(0, abs=1e-6)


def sample(text, real, items, steps: int = 4, watch=lambda: None) -> torch.Tensor:
    network = masked()
    return network.sample(text, real, guidance=2.0, steps=steps, temperature=1.0, noise=noise(*items), on_step=watch)


def test_the_base_level_is_filled_in_rounds_and_never_overwritten(text, monkeypatch):
    shown: list[torch.Tensor] = []
    forward = MaskedTransformer.forward

    def watched(self, tokens, *rest):
        shown.append(tokens[:B].clone())
        return forward(self, tokens, *rest)

    monkeypatch.setattr(MaskedTransformer, "forward", watched)
    steps = []
    final = sample(text, REAL, (0, 1, 2), watch=lambda: steps.append(1))
    assert len(steps) == len(shown) == 4
    for step, (tokens, after) in enumerate(zip(shown, [*shown[1:], final], strict=True), start=1):
        known = (tokens != CODES) & REAL
        assert torch.equal(after[known], tokens[known])
        still = [math.floor(math.cos(step / 4 * math.pi / 2) * n + 1e-6) for n in (6, 4, 2)]
        assert ((after == CODES) & REAL).sum(dim=-1).tolist() == still
    assert ((final >= 0) & (final < CODES)).all()
    assert not final[~REAL].any()


def test_an_item_draws_alone(text):
    together = sample(text, REAL, (0, 1, 2))
    assert torch.equal(sample(text[1:2], REAL[1:2, :4], (1,))[0], together[1, :4])
    assert torch.equal(sample(text, REAL, (0, 1, 2)), together)
    others = [sample(text[1:2], REAL[1:2, :4], (item,))[0] for item in range(2, 8)]
    assert any(not torch.equal(other, together[1, :4]) for other in others)  # control: the seed counts


def test_fewer_levels_are_the_first_of_more(tokens, text):
    network, base = residual(), tokens[..., 0] * REAL
    found = {
        levels: network.sample(base, text, REAL, levels=levels, guidance=1.5, temperature=1.0, noise=noise(0, 1, 2))
        for levels in (1, 2, 4)
    }
    assert [found[levels].shape[-1] for levels in found] == [1, 2, 4]
    assert torch.equal(found[1][..., 0], base)
    assert torch.equal(found[4][..., :2], found[2])
