"""A complete text-to-motion generator: encoder adapter, denoiser, statistics and configuration in one folder."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from adaclip import AdaCLIP
from adaclip.card import CardDetails
from adaclip.hub import LoadOptions, push_folder
from adaclip.text import LongPrompts
from adaqf_train.config import SamplingConfig, SchedulerName
from adaqf_train.errors import ConfigError
from adaqf_train.generators import folder as generator_files
from adaqf_train.generators.diffusion import Diffusion
from adaqf_train.generators.folder import GeneratorParts, build_denoiser
from adaqf_train.generators.inpainting import Keep, inpainted, kept_features, known_features
from adaqf_train.generators.mdm.denoiser import Denoiser
from adaqf_train.generators.requests import Limits, Request, Seconds, check_count, requests_of
from adaqf_train.generators.sampling import Draw, Sampler
from adaqf_train.motion import features as motion_features
from adaqf_train.motion.skeleton import skeleton_of_width

__all__ = ["MotionGenerator", "build_denoiser"]

Output = Literal["joints", "features"]


class MotionGenerator:
    """Prompts in, motions out; needs no data set.

    generator = MotionGenerator.from_pretrained("runs/demo/adaqf")
    joints = generator.generate(["a person bows"], seconds=4.0)[0]  # (80, 22, 3)
    """

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
        """mean, std: (D,) statistics of the features the denoiser was trained on. own_base: the encoder's base was
        trained too, so it is this generator's own and is saved with it.
        """
        self.encoder, self.denoiser, self.diffusion = encoder.eval(), denoiser.eval(), diffusion
        self.mean, self.std, self.sampling = mean, std, sampling
        self.unit_frames, self.max_frames = unit_frames, max_frames
        self.own_base = own_base
        self.skeleton = skeleton_of_width(len(mean))

    @classmethod
    def from_pretrained(cls, folder_or_repo: str | Path, **load: object) -> MotionGenerator:
        """A generator from its folder or a Hub repository, every tensor of it, or ArtefactError.

        load: device, dtype (of the networks; None: as trained), revision, token, cache_dir, local_files_only,
        subfolder, as in `AdaCLIP.from_pretrained`.
        """
        return cls(**vars(generator_files.load(folder_or_repo, LoadOptions(**load))))

    def save_pretrained(self, folder: str | Path, *, details: CardDetails | None = None) -> Path:
        """Writes everything `from_pretrained` needs; a base that is a local folder is copied along.

        details: licence, data sets and metrics for the card; by default the encoder's. A folder that holds anything
        but a generator is not replaced: ArtefactError.
        """
        return generator_files.save(Path(folder), self._parts(), details)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        details: CardDetails | None = None,
        token: str | bool | None = None,
        private: bool | None = None,
        revision: str | None = None,
        commit_message: str = "Upload text-to-motion generator",
    ) -> str:
        """Uploads everything `from_pretrained` needs to the Hugging Face Hub; returns the commit's address.

        repo_id: owner/name, made if it does not exist. revision: branch to push to. ArtefactError when it fails.
        """
        with tempfile.TemporaryDirectory() as staging:
            return push_folder(
                generator_files.save(Path(staging) / "generator", self._parts(), details, repo_id),
                repo_id,
                subfolder="",
                token=token,
                private=private,
                revision=revision,
                message=commit_message,
                what="generator",
            )

    @property
    def device(self) -> torch.device:
        return next(self.denoiser.parameters()).device

    @property
    def steps(self) -> int:
        """How often a sampler's `on_step` is called for each batch."""
        return self.sampling.steps

    @property
    def batch(self) -> int:
        """Prompts that are sampled together."""
        return self.sampling.batch

    @property
    def limits(self) -> Limits:
        """The lengths this model can make."""
        return Limits(self.skeleton.fps, self.unit_frames, self.max_frames)

    def to(self, device: torch.device | str) -> MotionGenerator:
        self.encoder.to(device)
        self.denoiser.to(device)
        return self

    def generate(
        self,
        prompts: str | Sequence[str],
        *,
        seconds: Seconds = 4.0,
        guidance: float | None = None,
        steps: int | None = None,
        scheduler: SchedulerName | None = None,
        seed: int = 0,
        num_samples: int = 1,
        batch_size: int | None = None,
        long: LongPrompts = "warn",
        output: Output = "joints",
        on_step: Callable[[], None] = lambda: None,
    ) -> list[np.ndarray]:
        """Motions for prompts: joints (T, J, 3), metres, Y up, at the skeleton's frame rate.

        prompts: one sentence each. A prompt with ` | `, such as "walk forward | turn left | sit", is one motion of
        several segments that flow into each other, and may be longer than what the model was trained on.
        seconds: of each motion, for segments of each segment; or one for each prompt, which may again be one for each
            of its segments. Rounded down to whole units of frames.
        guidance, steps, scheduler, batch_size: None takes those of `sampling`. Schedulers are ddpm, ddim and dpm++.
        seed: sample s of prompt i draws from (seed, i, s) alone.
        num_samples: motions for each prompt. The list is flat: all samples of the first prompt, then of the second.
        long: what becomes of a text over CLIP's 77 tokens, as in `AdaCLIP.encode`.
        output: "features" gives de-normalised features (T, D) in place of joints.
        on_step: called after every step of every batch.

        Raises, before anything is computed, ConfigError (a ValueError) for a value that does not hold, and TypeError
        for a prompt that is no string.
        """
        sampling = self._options(guidance, steps, scheduler, batch_size, long, output)
        wanted = requests_of(prompts, seconds, self.limits)
        draws = self._draws(wanted, seed, num_samples)
        return self._output(self._sample(draws, sampling, long=long, on_step=on_step), output)

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
        """A motion of which a part is kept and the rest made anew, to fit it and the prompt (MDM's editing).

        motion: joints (T, J, 3), metres, Y up, at the skeleton's frame rate, of which the last frame is lost; or
            features (T, D), de-normalised. Cut to whole units of frames.
        keep: "upper_body"; "lower_body", which holds the root's path; or slices of frames, such as
            [slice(0, 20), slice(60, 80)] for what comes in between.

        What is kept are features, exactly: with frames, poses and steps of the root. Where the body stands at later
        frames follows from the steps that were made before. The other arguments are those of `generate`.
        """
        sampling = self._options(guidance, steps, scheduler, None, long, output)
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
        normalised = ((known - self.mean) / self.std).to(self.device)
        vectors = self._sample(
            self._draws([wanted], seed, num_samples),
            sampling,
            long=long,
            condition=lambda predict: inpainted(predict, normalised, kept),
        )
        return self._output(vectors, output)

    def generate_features(
        self,
        prompts: Sequence[str],
        lengths: Sequence[int],
        *,
        seed: int | Sequence[int] = 0,
        on_step: Callable[[], None] = lambda: None,
    ) -> list[np.ndarray]:
        """De-normalised features (T_i, D) of T_i = lengths[i] frames for each prompt.

        lengths: multiples of unit_frames. Item i draws from a generator seeded with (seed, i). on_step: called after
        every step. Prompts are taken as they are: captions of a data set have no segments.
        """
        seeds = [seed] if isinstance(seed, int) else seed
        draws = [
            Draw(Request((prompt,), (int(frames),)), (*seeds, i))
            for i, (prompt, frames) in enumerate(zip(prompts, lengths, strict=True))
        ]
        return self._sample(draws, self.sampling, on_step=on_step)

    def _sample(self, draws: Sequence[Draw], settings: SamplingConfig, **options: object) -> list[np.ndarray]:
        """De-normalised features (T_i, D) of each draw. options: of `Sampler`."""
        width, margin = len(self.mean), self.limits.margin
        sample = Sampler(self.encoder, self.denoiser, self.diffusion, width, margin, settings, **options)
        vectors = [(x * self.std + self.mean).numpy() for x in sample(draws)]
        if not all(np.isfinite(v).all() for v in vectors):
            raise ConfigError(
                f"guidance {settings.guidance:g} makes the motion overflow: lower it; 1 to 10 is usual. If it does so "
                "at any guidance, the model's training diverged."
            )
        return vectors

    def _options(
        self,
        guidance: float | None,
        steps: int | None,
        scheduler: SchedulerName | None,
        batch: int | None,
        long: LongPrompts,
        output: Output,
    ) -> SamplingConfig:
        """The settings of a call: those given, the others from `sampling`. ConfigError for one that does not hold."""
        if output not in get_args(Output):
            raise ConfigError(f"output must be one of {', '.join(get_args(Output))}, got {output!r}.")
        if long not in get_args(LongPrompts):
            raise ConfigError(f"long must be one of {', '.join(get_args(LongPrompts))}, got {long!r}.")
        given = {"guidance": guidance, "steps": steps, "scheduler": scheduler, "batch": batch}
        try:
            sampling = replace(self.sampling, **{name: value for name, value in given.items() if value is not None})
        except ConfigError as error:  # it names the fields of a configuration, the caller knows arguments
            message = str(error).removeprefix("sampling.")
            raise ConfigError(re.sub(r"^batch\b", "batch_size", message)) from None
        trained = self.diffusion.config.steps
        if sampling.steps > trained:
            raise ConfigError(f"steps must lie between 1 and the {trained} of the training, got {sampling.steps}.")
        return sampling

    def _draws(self, wanted: Sequence[Request], seed: int, num_samples: int) -> list[Draw]:
        seed, samples = check_count("seed", seed, 0), check_count("num_samples", num_samples, 1)
        # The first sample has no number of its own: it is the one motion of a call for a single sample.
        return [
            Draw(request, (seed, i, s) if s else (seed, i)) for i, request in enumerate(wanted) for s in range(samples)
        ]

    def _output(self, vectors: Sequence[np.ndarray], output: Output) -> list[np.ndarray]:
        if output == "features":
            return list(vectors)
        return [motion_features.decode(v) / self.skeleton.units_per_metre for v in vectors]

    def _parts(self) -> GeneratorParts:
        return GeneratorParts(
            self.encoder,
            self.denoiser,
            self.diffusion,
            self.mean,
            self.std,
            self.sampling,
            self.unit_frames,
            self.max_frames,
            self.own_base,
        )
