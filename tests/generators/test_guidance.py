"""Classifier-free guidance: the formula, in one pass, and half of it where the other half does not count."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from adaclip import TextFeatures
from adaqf_train.generators.guidance import Guided
from tests.helpers import FLOAT32, deviation

B, T, D = 2, 8, 5
MASK = torch.ones(B, T, dtype=torch.bool)


class Shifts(nn.Module):
    """A denoiser whose prediction is known: what the text says is added to half of x. It counts rows."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = 0

    def forward(self, x_t, t, text, mask, keep_text):
        self.rows += len(x_t)
        return 0.5 * x_t + (text.pooled[:, :1] * keep_text[:, None])[..., None]


def text(dtype=torch.float32) -> TextFeatures:
    pooled = torch.tensor([[1.0], [3.0]], dtype=dtype)
    return TextFeatures(pooled, torch.zeros(B, 3, 4, dtype=dtype), torch.ones(B, 3, dtype=torch.bool))


@pytest.mark.parametrize("guidance", [0.0, 0.5, 1.0, 2.5])
def test_guidance_goes_from_unconditional_towards_conditional_and_beyond(guidance):
    x, t = torch.randn(B, T, D, generator=torch.Generator().manual_seed(0)), torch.tensor(3)
    expected = 0.5 * x + guidance * torch.tensor([1.0, 3.0])[:, None, None]
    torch.testing.assert_close(Guided(Shifts(), text(), MASK, guidance)(x, t), expected)


@pytest.mark.parametrize(("guidance", "rows"), [(0.0, B), (1.0, B), (2.5, 2 * B)])
def test_at_guidance_one_and_zero_half_is_computed(guidance, rows):
    denoiser = Shifts()
    Guided(denoiser, text(), MASK, guidance)(torch.zeros(B, T, D), torch.tensor(0))
    assert denoiser.rows == rows


def test_the_half_equals_the_formula_on_a_real_denoiser(generator):
    """1.0 is the formula's limit: next to it, where both halves are computed, comes next to the same."""
    encoded = generator.encoder.encode(["a person walks", "a person waves twice"], output="both")
    x = torch.randn(B, T, 263, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        one, near, other = (
            Guided(generator.denoiser, encoded, MASK, g)(x, torch.tensor(3)) for g in (1.0, 1.0 + 1e-7, 2.5)
        )
    assert deviation(one, near) < FLOAT32
    assert (one - other).abs().max() > 1e-3  # control: guidance counts


def test_the_network_may_compute_in_half_precision_the_sums_do_not():
    x = torch.full((B, T, D), 1 + 2**-12)
    x0 = Guided(Shifts(), text(torch.bfloat16), MASK, 2.5)(x, torch.tensor(0))
    assert x0.dtype == torch.float32
