"""The diffusion: MDM's schedule, the forward process, and samplers that agree with their definitions."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler
from torch import nn

from adaclip import TextFeatures
from adaqf_train.config import DiffusionConfig
from adaqf_train.models.diffusion import Diffusion

B, T, D = 2, 8, 5


class Shrinks(nn.Module):
    """A denoiser whose prediction is known: conditional predictions are `shift` higher than unconditional ones."""

    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, x_t, t, text, mask, keep_text):
        return 0.5 * x_t + self.shift * keep_text[:, None, None]


@pytest.fixture
def text() -> TextFeatures:
    return TextFeatures(torch.zeros(B, 4), torch.zeros(B, 3, 4), torch.ones(B, 3, dtype=torch.bool))


FULL = torch.ones(B, T, dtype=torch.bool)


def sample(model, text, mask=FULL, *, steps=50, scheduler="ddpm", guidance=1.0, seed=0):
    generators = [torch.Generator().manual_seed(seed + i) for i in range(len(mask))]
    return Diffusion(DiffusionConfig()).sample(
        model, text, mask, D, guidance=guidance, steps=steps, scheduler=scheduler, generators=generators
    )


def test_the_schedule_is_mdms():
    """Cosine over 50 steps: figures of GuyTevet/motion-diffusion-model, `diffusion/gaussian_diffusion.py`."""
    diffusion = Diffusion(DiffusionConfig())
    betas = diffusion.schedule().betas
    assert betas[0].item() == pytest.approx(0.00174751, abs=1e-8)
    assert betas[25].item() == pytest.approx(0.06304978, abs=1e-7)
    assert betas.max().item() == pytest.approx(0.999, abs=1e-6)
    assert diffusion.alpha_bar[49].item() == pytest.approx(9.7119e-7, rel=1e-3)


def test_the_forward_process_keeps_the_variance():
    diffusion = Diffusion(DiffusionConfig())
    g = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(50, 40, 40, generator=g), torch.randn(50, 40, 40, generator=g)
    x_t = diffusion.noised(x0, torch.arange(50), noise)
    assert (x_t.var(dim=(1, 2)) - 1).abs().max() < 0.12
    kept = (x_t * x0).mean(dim=(1, 2)) / x0.square().mean(dim=(1, 2))
    assert (kept - diffusion.alpha_bar.sqrt()).abs().max() < 0.1
    assert kept[0] > 0.9  # the first timestep is nearly clean, the last nearly noise
    assert kept[-1].abs() < 0.1


@pytest.mark.parametrize("seed", [0, 3])
def test_ddpm_sampling_equals_diffusers_ddpm(text, seed):
    """Our noise comes item by item, so the definition is replayed with the very same draws."""
    reference = DDPMScheduler(
        50,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="sample",
        variance_type="fixed_small",
        clip_sample=False,
    )
    generators = [torch.Generator().manual_seed(seed + i) for i in range(B)]
    x = torch.stack([torch.randn(T, D, generator=g) for g in generators])
    for t in reversed(range(50)):
        draws = torch.stack([torch.randn(T, D, generator=g) for g in generators])
        mean = _posterior_mean(reference, 0.5 * x, x, t)
        variance = reference._get_variance(t)
        x = mean + (variance.sqrt() * draws if t > 0 else 0)
    torch.testing.assert_close(sample(Shrinks(), text, seed=seed), x, atol=1e-4, rtol=1e-4)
    assert (sample(Shrinks(), text, seed=seed + 1) - x).abs().max() > 1e-2  # control: other draws


def _posterior_mean(scheduler: DDPMScheduler, x0: torch.Tensor, x_t: torch.Tensor, t: int) -> torch.Tensor:
    """q(x_{t-1} | x_t, x_0), Ho et al. 2020, Eq. 7."""
    now = scheduler.alphas_cumprod[t]
    before = scheduler.alphas_cumprod[t - 1] if t > 0 else torch.tensor(1.0)
    beta = 1 - now / before
    return (before.sqrt() * beta * x0 + (now / before).sqrt() * (1 - before) * x_t) / (1 - now)


def test_ddim_starts_at_the_noisiest_step_and_is_deterministic_given_the_start(text):
    timesteps = Diffusion(DiffusionConfig()).schedule()
    timesteps.set_timesteps(10)
    assert timesteps.timesteps.tolist() == [49, 44, 39, 34, 29, 24, 19, 14, 9, 4]
    assert torch.equal(
        sample(Shrinks(), text, steps=10, scheduler="ddim"), sample(Shrinks(), text, steps=10, scheduler="ddim")
    )


def test_guidance_extrapolates_from_unconditional_to_conditional(text):
    plain, guided = (sample(Shrinks(1.0), text, scheduler="ddim", guidance=g) for g in (1.0, 2.5))
    none = sample(Shrinks(0.0), text, scheduler="ddim")
    torch.testing.assert_close(guided - none, 2.5 * (plain - none), atol=1e-4, rtol=1e-4)


def test_a_motion_does_not_depend_on_its_batch(text):
    mask = torch.arange(T)[None] < torch.tensor([8, 4])[:, None]
    both = sample(Shrinks(), text, mask)
    assert (both[1, 4:] == 0).all()
    g = [torch.Generator().manual_seed(1)]
    one = TextFeatures(*(part[1:] for part in text))
    alone = Diffusion(DiffusionConfig()).sample(
        Shrinks(), one, mask[1:, :4], D, guidance=1.0, steps=50, scheduler="ddpm", generators=g
    )
    torch.testing.assert_close(alone[0], both[1, :4])
