"""A complete text-to-motion generator: encoder adapter, denoiser, statistics and configuration in one folder."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from adaclip import AdaCLIP, AdaCLIPError
from adaclip.files import atomic_folder, read_json, write_json
from adaqf_train import seeding
from adaqf_train.config import ConfigError, DenoiserConfig, DiffusionConfig, SamplingConfig
from adaqf_train.models.denoiser import Denoiser
from adaqf_train.models.diffusion import Diffusion
from adaqf_train.models.store import save_clip
from adaqf_train.motion import features as motion_features
from adaqf_train.motion.skeleton import skeleton_of_width

CONFIG, DENOISER, STATISTICS, ENCODER, BASE = (
    "config.json",
    "denoiser.safetensors",
    "statistics.safetensors",
    "encoder",
    "base",
)


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

    @property
    def device(self) -> torch.device:
        return next(self.denoiser.parameters()).device

    def to(self, device: torch.device | str) -> MotionGenerator:
        self.encoder.to(device)
        self.denoiser.to(device)
        return self

    def generate(self, prompts: Sequence[str], *, seconds: float = 4.0, seed: int = 0) -> list[np.ndarray]:
        """One motion for each prompt: joints (T, J, 3), metres, Y up, at the skeleton's frame rate.

        seconds: rounded down to whole units of frames. seed: motion i draws from (seed, i) alone. Raises
        ConfigError (a ValueError) for a length outside what the model was trained on.
        """
        finite = math.isfinite(seconds)
        frames = int(seconds * self.skeleton.fps) // self.unit_frames * self.unit_frames if finite else 0
        if not self.unit_frames <= frames < self.max_frames:
            longest = (self.max_frames - 1) // self.unit_frames * self.unit_frames / self.skeleton.fps
            raise ConfigError(
                f"seconds must lie between {self.unit_frames / self.skeleton.fps} and {longest}, got {seconds}."
            )
        vectors = self.generate_features(prompts, [frames] * len(prompts), seed=seed)
        return [motion_features.decode(v) / self.skeleton.units_per_metre for v in vectors]

    @torch.no_grad()
    def generate_features(
        self, prompts: Sequence[str], lengths: Sequence[int], *, seed: int | Sequence[int] = 0, on_step=lambda: None
    ) -> list[np.ndarray]:
        """De-normalised features (T_i, D) of T_i = lengths[i] frames for each prompt.

        lengths: multiples of unit_frames. Item i draws from a generator seeded with (seed, i). Prompts are
        sampled in batches of like length, so little is spent on padding. on_step: called after every step.
        """
        seeds = [seed] if isinstance(seed, int) else seed
        text = self.encoder.encode(list(prompts), output="both").to(self.device)
        result: list[np.ndarray | None] = [None] * len(prompts)
        order = np.argsort(lengths, kind="stable")
        for start in range(0, len(order), self.sampling.batch):
            rows = order[start : start + self.sampling.batch]
            frames = torch.tensor([lengths[i] for i in rows], device=self.device)
            mask = torch.arange(int(frames.max()), device=self.device)[None] < frames[:, None]
            x = self.diffusion.sample(
                self.denoiser,
                type(text)(*(part[torch.as_tensor(rows, device=self.device)] for part in text)),
                mask,
                len(self.mean),
                guidance=self.sampling.guidance,
                steps=self.sampling.steps,
                scheduler=self.sampling.scheduler,
                generators=[seeding.generator(*seeds, int(i)) for i in rows],
                on_step=on_step,
            )
            x = x.float().cpu() * self.std + self.mean
            for row, i in enumerate(rows):
                result[i] = x[row, : lengths[i]].numpy()
        return result

    def save_pretrained(self, folder: str | Path) -> Path:
        """Writes everything `from_pretrained` needs; a base that is a local folder is copied along.

        With a base of its own, `base/` holds the trained text model and `encoder/` an adapter that changes nothing.
        """
        folder = Path(folder)
        with atomic_folder(folder) as staging:
            base = self.encoder.base
            if self.own_base:
                base = staging / BASE
                save_clip(base, self.encoder.merged(), self.encoder.tokenizer)
            elif Path(base).is_dir():
                base = shutil.copytree(base, staging / BASE)
            self.encoder.save_pretrained(staging / ENCODER, base=base)
            save_file(_state(self.denoiser), staging / DENOISER)
            save_file({"mean": self.mean, "std": self.std}, staging / STATISTICS)
            config = {
                "features": len(self.mean),
                "unit_frames": self.unit_frames,
                "max_frames": self.max_frames,
                "denoiser": asdict(self.denoiser.config),
                "diffusion": asdict(self.diffusion.config),
                "sampling": asdict(self.sampling),
            }
            write_json(staging / CONFIG, config)
        return folder

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, device: torch.device | str = "cpu") -> MotionGenerator:
        """A generator from its folder; AdaCLIPError names the file that is missing or does not fit."""
        folder = Path(folder)
        for name in (CONFIG, DENOISER, STATISTICS):
            if not (folder / name).is_file():
                raise AdaCLIPError(f"{folder / name}: missing. Give the folder of a generator, such as RUN/adaqf.")
        try:
            config = read_json(folder / CONFIG)
            statistics = load_file(folder / STATISTICS)
            diffusion = Diffusion(DiffusionConfig(**config["diffusion"]))
            encoder = AdaCLIP.from_pretrained(folder / ENCODER)
            denoiser = build_denoiser(
                encoder, config["features"], DenoiserConfig(**config["denoiser"]), diffusion.config.steps
            )
            denoiser.load_state_dict(load_file(folder / DENOISER))
            sampling = SamplingConfig(**config["sampling"])
        except (KeyError, TypeError, ValueError, RuntimeError, OSError, SafetensorError) as error:
            raise AdaCLIPError(f"{folder}: not a complete generator ({error}). Train or copy it again.") from error
        return cls(
            encoder,
            denoiser,
            diffusion,
            statistics["mean"],
            statistics["std"],
            sampling,
            config["unit_frames"],
            config["max_frames"],
        ).to(device)


def build_denoiser(encoder: AdaCLIP, features: int, config: DenoiserConfig, timesteps: int) -> Denoiser:
    """An untrained denoiser that reads that encoder's features."""
    width = encoder.projection_size if config.conditioning == "pooled" else encoder.hidden_size
    return Denoiser(features, width, config, timesteps, encoder.projection_size)


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
