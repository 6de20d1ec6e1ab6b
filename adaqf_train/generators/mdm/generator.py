"""Motion diffusion from text (MDM's family): frames, denoised under the prompt, in segments if need be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adaclip import AdaCLIP
from adaclip.text import LongPrompts
from adaqf_train.config import DenoiserConfig, DiffusionConfig, SamplingConfig, SchedulerName
from adaqf_train.data.batches import pad
from adaqf_train.errors import ConfigError
from adaqf_train.generators.base import MotionGenerator, OnStep, Output
from adaqf_train.generators.diffusion import Diffusion, Predict
from adaqf_train.generators.guidance import Guided
from adaqf_train.generators.inpainting import Keep, inpainted, kept_features, known_features
from adaqf_train.generators.long_motion import Blended, windows
from adaqf_train.generators.mdm.networks import Denoiser, build_denoiser
from adaqf_train.generators.requests import Request, requests_of
from adaqf_train.generators.sampling import Batch, Draw, batches


class MDMGenerator(MotionGenerator):
    """A denoiser of motions and its diffusion."""

    family = "mdm"
    title = "motion diffusion"
    segments = True

    def __init__(
        self,
        encoder: AdaCLIP,
        denoiser: Denoiser,
        diffusion: Diffusion,
        mean: Tensor,
        std: Tensor,
        sampling: SamplingConfig,
        unit_frames: int,
        max_frames: int,
        *,
        own_base: bool = False,
    ) -> None:
        """Takes the networks as they are; own_base: the encoder's base was trained too, and is saved with them."""
        super().__init__(encoder, mean, std, sampling, unit_frames, max_frames)
        self.denoiser, self.diffusion = denoiser.eval(), diffusion
        self.group, self.own_base = denoiser.config.frames_per_token, own_base

    @property
    def most_steps(self) -> int:
        """The timesteps of the diffusion."""
        return self.diffusion.config.steps

    def edit(
        self,
        motion: np.ndarray,
        prompt: str,
        keep: Keep,
        *,
        guidance: float | None = None,
        steps: int | None = None,
        scheduler: SchedulerName | None = None,
        seed: int = 0,
        num_samples: int = 1,
        long: LongPrompts = "warn",
        output: Output = "joints",
    ) -> list[np.ndarray]:
        """Keeps a part of a motion and makes the rest to fit it and the prompt (MDM's editing).

        What is kept are features, exactly: with frames, poses and steps of the root. Where the body stands at later
        frames follows from the steps before them.

        Args:
            motion: Joints (T, J, 3), metres, Y up, at the skeleton's frame rate, of which the last frame is lost; or
                de-normalised features (T, D). Cut to whole units of frames.
            prompt: One sentence, without segments.
            keep: "upper_body"; "lower_body", which includes the root's path; or slices of frames, such as
                [slice(0, 20), slice(60, 80)] to make what lies between.
            guidance: As in `generate`.
            steps: As in `generate`.
            scheduler: As in `generate`.
            seed: As in `generate`.
            num_samples: As in `generate`.
            long: As in `generate`.
            output: As in `generate`.

        Returns:
            The edited motions, as `generate` returns them.

        Raises:
            ConfigError: The motion, the part to keep or another value does not hold.
        """
        settings = self._options(long, output, guidance=guidance, steps=steps, scheduler=scheduler)
        known = known_features(motion, self.skeleton, self.unit_frames)
        longest = round(self.limits.longest(segment=False) * self.skeleton.fps)
        if not self.unit_frames <= len(known) <= longest:
            raise ConfigError(
                f"motion must have features of {self.unit_frames} to {longest} frames, for which joints have one frame "
                f"more, got {len(motion)}. Cut it, or give a longer one."
            )
        (wanted,) = requests_of([prompt], len(known) / self.skeleton.fps, self.limits)
        if len(wanted.texts) > 1:
            raise ConfigError(f"An edit has one prompt without segments, got {prompt[:60]!r}.")
        kept = kept_features(keep, self.skeleton, len(known)).to(self.device)
        normalised = ((known - self.mean.cpu()) / self.std.cpu()).to(self.device)
        vectors = self._make(
            self._draws([wanted], seed, num_samples),
            settings,
            long=long,
            condition=lambda predict: inpainted(predict, normalised, kept),
        )
        return self._output(vectors, output)

    @torch.no_grad()
    def denoised(
        self, motions: Sequence[np.ndarray], prompts: Sequence[str], *, seed: Sequence[int] = (0,)
    ) -> list[np.ndarray]:
        """Predicts real motions from themselves with the noise of timestep 0, under their prompts, without guidance.

        No sample of the denoiser can be closer to real motions than what it makes of them at the last step.

        Args:
            motions: De-normalised features, (T_i, D) each, T_i a multiple of unit_frames.
            prompts: One for each motion.
            seed: The noise of item i is seeded with (seed, i).

        Returns:
            De-normalised features (T_i, D), in the given order.
        """
        wanted = [Request((prompt,), (len(motion),)) for prompt, motion in zip(prompts, motions, strict=True)]
        draws = [Draw(request, (*seed, i)) for i, request in enumerate(wanted)]
        mean, std = self.mean.cpu().numpy(), self.std.cpu().numpy()
        found: list[np.ndarray] = [np.empty(0)] * len(draws)
        for rows in batches(draws, self.sampling.batch):
            text = self._text_of([prompts[row] for row in rows])
            batch = Batch.of([draws[row] for row in rows], text)
            x0 = pad([(motions[row] - mean) / std for row in rows])[0].to(self.device)
            t = torch.zeros(len(rows), dtype=torch.long, device=self.device)
            noisy = self.diffusion.noised(x0, t, batch.noise.normal(0, *x0.shape[1:]))
            clean = Guided(self.denoiser, batch.text, batch.mask, 1.0)(noisy, t[0]).cpu().numpy() * std + mean
            for row, motion in zip(rows, clean, strict=True):
                found[row] = motion[: len(motions[row])]
        return found

    def _sample(
        self,
        batch: Batch,
        settings: SamplingConfig,
        on_step: OnStep,
        *,
        condition: Callable[[Predict], Predict] = lambda predict: predict,
    ) -> Tensor:
        """condition: what else the prediction is held to."""
        guidance = float(settings.guidance)
        predict: Predict = Guided(self.denoiser, batch.text, batch.mask, guidance)
        if batch.segments:
            blend = Blended([windows(each, self.limits.margin) for each in batch.segments], batch.mask.device)
            predict = blend.over(Guided(self.denoiser, batch.text, blend.mask, guidance))
        return self.diffusion.sample(
            condition(predict),
            batch.mask,
            len(self.mean),
            steps=settings.steps,
            scheduler=settings.scheduler,
            noise=batch.noise,
            on_step=on_step,
        )

    def settings(self) -> dict[str, Any]:
        """The sizes of the denoiser, the diffusion and the sampling settings."""
        parts = {"denoiser": self.denoiser.config, "diffusion": self.diffusion.config, "sampling": self.sampling}
        return {name: asdict(part) for name, part in parts.items()}

    @classmethod
    def build(cls, encoder: AdaCLIP, mean: Tensor, std: Tensor, settings: dict[str, Any]) -> MDMGenerator:
        """An untrained generator of those sizes."""
        diffusion = Diffusion(DiffusionConfig(**settings["diffusion"]))
        denoiser = build_denoiser(encoder, len(mean), DenoiserConfig(**settings["denoiser"]), diffusion.config.steps)
        sampling = SamplingConfig(**settings["sampling"])
        return cls(encoder, denoiser, diffusion, mean, std, sampling, settings["unit_frames"], settings["max_frames"])
