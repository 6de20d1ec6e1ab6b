"""Gaussian diffusion with x0-prediction; schedule and solvers are diffusers'."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from adaqf_train.config import DiffusionConfig, SchedulerName
from adaqf_train.generators.noise import Noise

if TYPE_CHECKING:
    from diffusers import DPMSolverMultistepScheduler

# x_t (B, T, D) and a timestep () -> the predicted clean motion x0 (B, T, D), guidance included
Predict = Callable[[Tensor, Tensor], Tensor]

# DPM-Solver++ (Lu et al. 2022) includes the others: its first order is DDIM, and in the stochastic form DDPM.
SOLVERS = {
    "ddpm": {"algorithm_type": "sde-dpmsolver++", "solver_order": 1},
    "ddim": {"algorithm_type": "dpmsolver++", "solver_order": 1},
    "dpm++": {"algorithm_type": "dpmsolver++", "solver_order": 2},  # the order its authors advise for guidance
}


def noised(x0: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """x_t of the forward process (Eq. 1, corrected). x0, noise: (B, T, D); alpha_bar: (B,)."""
    scale = alpha_bar[:, None, None]
    return scale.sqrt() * x0 + (1 - scale).sqrt() * noise


class Diffusion:
    """The forward process and sampling (MDM's settings)."""

    def __init__(self, config: DiffusionConfig) -> None:
        self.config = config
        # x_t = sqrt(abar) x0 + sqrt(1 - abar) noise; Eq. 1 of the paper prints beta where abar is meant.
        self.alpha_bar: Tensor = self.solver("ddpm", config.steps).alphas_cumprod  # (steps,)

    def solver(self, scheduler: SchedulerName, steps: int) -> DPMSolverMultistepScheduler:
        """A solver that leads from noise to the clean motion in `steps` steps, on MDM's cosine schedule.

        Samples are not clipped, and DDPM's variance is the fixed small one. The last step gives x0 itself.
        """
        from diffusers import DPMSolverMultistepScheduler

        solver = DPMSolverMultistepScheduler(
            num_train_timesteps=self.config.steps,
            beta_schedule="squaredcos_cap_v2",  # max beta 0.999
            prediction_type="sample",
            final_sigmas_type="zero",
            **SOLVERS[scheduler],
        )
        solver.set_timesteps(timesteps=self.timesteps(steps))
        return solver

    def timesteps(self, steps: int) -> list[int]:
        """The timesteps of `steps` steps, noisiest first: evenly spaced from the last one ("trailing" spacing).

        diffusers' own trailing spacing rounds floats, and with 29 or 31 of 50 steps goes below timestep 0; its default
        spacing starts below the last timestep, where a sample is not pure noise.
        """
        return [-(-self.config.steps * left // steps) - 1 for left in range(steps, 0, -1)]

    def noised(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """`noised` at timesteps t (B,)."""
        return noised(x0, noise, self.alpha_bar.to(x0.device)[t])

    @torch.no_grad()
    def sample(
        self,
        predict: Predict,
        mask: Tensor,
        features: int,
        *,
        steps: int,
        scheduler: SchedulerName,
        noise: Noise,
        on_step: Callable[[], None] = lambda: None,
    ) -> Tensor:
        """Sample motions.

        predict: the denoiser with its conditions; mask: (B, T), True = real frame; noise: of the items; on_step: called
        after every step. Returns (B, T, features) normalised features, zero beyond the lengths.
        """
        solver, shape = self.solver(scheduler, steps), (mask.shape[1], features)
        solver.set_begin_index(0)  # or it would look for each timestep among those on the device
        x = noise.normal(0, *shape)
        for step, t in enumerate(self.timesteps(steps), start=1):
            # Filled on the device: a copy from the host would wait, and cannot be captured as a graph.
            x0 = predict(x, torch.full((), t, device=mask.device))
            more = noise.normal(step, *shape) if scheduler == "ddpm" else None
            x = solver.step(x0, t, x, variance_noise=more).prev_sample
            on_step()
        return x * mask[..., None]
