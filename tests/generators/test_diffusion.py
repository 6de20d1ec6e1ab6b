"""The diffusion: MDM's schedule, the forward process, and samplers that agree with their definitions."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from adaqf_train.config import DiffusionConfig
from adaqf_train.generators.diffusion import Diffusion
from adaqf_train.generators.noise import Noise
from tests.helpers import FLOAT32, deviation

B, T, D = 2, 8, 5


def half(x, t):
    """A prediction that is known."""
    return 0.5 * x


FINE = Diffusion(DiffusionConfig(steps=1000))
STD = 0.3


def of_gaussian(x, t):
    """What a perfect denoiser of FINE says where data is normal, with mean 0 and that deviation."""
    alpha_bar = FINE.alpha_bar[t]
    return alpha_bar.sqrt() * STD**2 / (alpha_bar * STD**2 + 1 - alpha_bar) * x


FULL = torch.ones(B, T, dtype=torch.bool)


def sample(predict=half, mask=FULL, *, steps=50, scheduler="ddpm", seed=0):
    noise = Noise(seed + torch.arange(len(mask)))
    return Diffusion(DiffusionConfig()).sample(predict, mask, D, steps=steps, scheduler=scheduler, noise=noise)


def test_the_schedule_is_mdms():
    """Cosine over 50 steps: figures of GuyTevet/motion-diffusion-model, `diffusion/gaussian_diffusion.py`."""
    diffusion = Diffusion(DiffusionConfig())
    betas = diffusion.solver("ddpm", 50).betas
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
def test_ddpm_sampling_equals_diffusers_ddpm(seed):
    """Our noise has steps, so the definition is replayed with the very same draws."""
    reference = DDPMScheduler(
        50,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="sample",
        variance_type="fixed_small",
        clip_sample=False,
    )
    noise = Noise(seed + torch.arange(B))
    x = noise.normal(0, T, D)
    for t in reversed(range(50)):
        draws = noise.normal(50 - t, T, D)
        mean = _posterior_mean(reference, 0.5 * x, x, t)
        variance = reference._get_variance(t)
        x = mean + (variance.sqrt() * draws if t > 0 else 0)
    torch.testing.assert_close(sample(seed=seed), x, atol=1e-4, rtol=1e-4)
    assert (sample(seed=seed + 1) - x).abs().max() > 1e-2  # control: other draws


def _posterior_mean(scheduler: DDPMScheduler, x0: torch.Tensor, x_t: torch.Tensor, t: int) -> torch.Tensor:
    """q(x_{t-1} | x_t, x_0), Ho et al. 2020, Eq. 7."""
    now = scheduler.alphas_cumprod[t]
    before = scheduler.alphas_cumprod[t - 1] if t > 0 else torch.tensor(1.0)
    beta = 1 - now / before
    return (before.sqrt() * beta * x0 + (now / before).sqrt() * (1 - before) * x_t) / (1 - now)


@pytest.mark.parametrize("steps", [50, 10, 5])
def test_ddim_sampling_equals_diffusers_ddim_where_its_stride_is_even(steps):
    reference = DDIMScheduler(
        50,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="sample",
        clip_sample=False,
        timestep_spacing="trailing",
    )
    reference.set_timesteps(steps)
    x = Noise(torch.arange(B)).normal(0, T, D)
    for t in reference.timesteps:
        x = reference.step(0.5 * x, t, x).prev_sample
    assert deviation(sample(steps=steps, scheduler="ddim"), x) < FLOAT32


def test_timesteps_go_evenly_from_pure_noise_down_for_any_number_of_steps():
    assert Diffusion(DiffusionConfig()).timesteps(10) == [49, 44, 39, 34, 29, 24, 19, 14, 9, 4]
    assert Diffusion(DiffusionConfig()).timesteps(8) == [49, 43, 37, 31, 24, 18, 12, 6]
    for trained in (2, 7, 50, 1000):
        diffusion = Diffusion(DiffusionConfig(steps=trained))
        for steps in {1, 2, 3, 8, 15, 20, 29, 31, 49, 50, 999, 1000}:
            if steps > trained:
                continue
            timesteps = diffusion.timesteps(steps)
            strides = [a - b for a, b in zip(timesteps, [*timesteps[1:], -1], strict=True)]
            assert timesteps[0] == trained - 1
            assert len(timesteps) == steps
            assert min(strides) >= 1
            assert max(strides) - min(strides) <= 1
            assert diffusion.solver("dpm++", steps).timesteps.tolist() == timesteps


def test_diffusers_own_spacing_would_go_below_the_first_timestep():
    """Why the timesteps are ours."""
    solver = Diffusion(DiffusionConfig()).solver("ddim", 50)
    solver.register_to_config(timestep_spacing="trailing")
    solver.set_timesteps(29)
    assert solver.timesteps[-1] == -1


@pytest.mark.parametrize("scheduler", ["ddpm", "ddim", "dpm++"])
@pytest.mark.parametrize("steps", [1, 7, 10, 20])
def test_the_last_step_lands_on_the_clean_prediction(scheduler, steps):
    predicted = []

    def predict(x, t):
        predicted.append(half(x, t))
        return predicted[-1]

    assert deviation(sample(predict, scheduler=scheduler, steps=steps), predicted[-1]) < FLOAT32
    assert len(predicted) == steps


def test_the_second_order_comes_closer_with_as_many_steps():
    """Both solve the same equation, whose solution here scales the noise by the data's deviation."""

    noise = Noise(torch.arange(B))
    start = noise.normal(0, T, D)

    def error(scheduler, steps):
        x = FINE.sample(of_gaussian, FULL, D, steps=steps, scheduler=scheduler, noise=noise)
        return (x - STD * start).abs().max()

    for steps in (10, 20, 50):
        assert error("dpm++", steps) < 0.8 * error("ddim", steps)
    assert error("ddim", 1000) < 0.02


@pytest.mark.parametrize("scheduler", ["ddpm", "ddim", "dpm++"])
def test_every_scheduler_draws_from_the_datas_distribution(scheduler):
    mask = torch.ones(1, 400, dtype=torch.bool)
    x = FINE.sample(of_gaussian, mask, 20, steps=1000, scheduler=scheduler, noise=Noise(torch.tensor([0])))
    assert x.std().item() == pytest.approx(STD, rel=0.03)
    assert x.mean().abs() < 0.02


@pytest.mark.parametrize("scheduler", ["ddpm", "ddim", "dpm++"])
def test_a_motion_does_not_depend_on_its_batch(scheduler):
    mask = torch.arange(T)[None] < torch.tensor([8, 4])[:, None]
    both = sample(mask=mask, scheduler=scheduler)
    assert (both[1, 4:] == 0).all()
    torch.testing.assert_close(sample(mask=mask[1:, :4], scheduler=scheduler, seed=1)[0], both[1, :4])
