"""What every family of generators offers, and what those that work on latent frames share."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from adaclip import AdaCLIP, TextFeatures
from adaclip.files import atomic_folder, read_json, write_json
from adaqf_train import seeding
from adaqf_train.errors import ArtefactError

CONFIG, WEIGHTS, ENCODER, BASE = "config.json", "model.safetensors", "encoder", "base"


class TextToMotion(Protocol):
    """A generator that the protocol can score, whatever its family."""

    @property
    def steps(self) -> int:
        """How often `on_step` is called for each batch."""

    @property
    def batch(self) -> int:
        """Prompts that are sampled together."""

    def generate_features(
        self,
        prompts: Sequence[str],
        lengths: Sequence[int],
        *,
        seed: int | Sequence[int] = 0,
        on_step: Callable[[], object] = lambda: None,
    ) -> list[np.ndarray]:
        """De-normalised features (T_i, D) of T_i = lengths[i] frames; item i draws from (seed, i) alone."""


class LatentFrameGenerator(nn.Module, ABC):
    """A generator whose networks work on latent frames, with the frozen text encoder at its side.

    The encoder is no submodule: it is saved as its own folder, and `parameters` are the generator's.
    """

    family: str  # what `from_pretrained` recognises a folder by

    def __init__(self, encoder: AdaCLIP, mean: Tensor, std: Tensor) -> None:
        """mean, std: (D,) statistics of the features the networks were trained on."""
        super().__init__()
        self._siblings = {"encoder": encoder.eval().requires_grad_(False)}
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    @property
    def encoder(self) -> AdaCLIP:
        return self._siblings["encoder"]

    @property
    def device(self) -> torch.device:
        return self.mean.device

    @property
    @abstractmethod
    def steps(self) -> int:
        """How often `on_step` is called for each batch."""

    @property
    @abstractmethod
    def batch(self) -> int:
        """Prompts that are sampled together."""

    @abstractmethod
    def _sample(
        self, text: TextFeatures, mask: Tensor, generators: Sequence[torch.Generator], on_step: Callable[[], object]
    ) -> Tensor:
        """Normalised features (B, T, D) of B prompts; mask: (B, T), True = real frame."""

    @abstractmethod
    def _settings(self) -> dict:
        """What `_build` needs beside encoder and statistics, ready for JSON."""

    @classmethod
    @abstractmethod
    def _build(cls, encoder: AdaCLIP, mean: Tensor, std: Tensor, settings: dict) -> Self:
        """An untrained generator of those settings."""

    @torch.no_grad()
    def generate_features(
        self,
        prompts: Sequence[str],
        lengths: Sequence[int],
        *,
        seed: int | Sequence[int] = 0,
        on_step: Callable[[], object] = lambda: None,
    ) -> list[np.ndarray]:
        """De-normalised features (T_i, D) of T_i = lengths[i] frames for each prompt.

        lengths: multiples of 4. Item i draws from a generator seeded with (seed, i). Prompts are sampled in batches
        of like length, so little is spent on padding. on_step: called after every step.
        """
        seeds = [seed] if isinstance(seed, int) else seed
        text = self.encoder.encode(list(prompts), output="both").to(self.device)
        result: list[np.ndarray | None] = [None] * len(prompts)
        for rows in by_length(lengths, self.batch):
            frames = torch.tensor([lengths[i] for i in rows], device=self.device)
            mask = torch.arange(int(frames.max()), device=self.device)[None] < frames[:, None]
            of = TextFeatures(*(part[torch.as_tensor(rows, device=self.device)] for part in text))
            x = self._sample(of, mask, [seeding.generator(*seeds, int(i)) for i in rows], on_step)
            x = (x.float() * self.std + self.mean).cpu()
            for row, i in enumerate(rows):
                result[i] = x[row, : lengths[i]].numpy()
        return result

    def save_pretrained(self, folder: str | Path) -> Path:
        """Writes everything `from_pretrained` needs; a base that is a local folder is copied along."""
        folder = Path(folder)
        with atomic_folder(folder) as staging:
            base = self.encoder.base
            if Path(base).is_dir():
                base = shutil.copytree(base, staging / BASE)
            self.encoder.save_pretrained(staging / ENCODER, base=base)
            save_file({name: value.cpu().contiguous() for name, value in self.state_dict().items()}, staging / WEIGHTS)
            write_json(staging / CONFIG, {"family": self.family, "features": len(self.mean), **self._settings()})
        return folder

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, device: torch.device | str = "cpu") -> Self:
        """A generator from its folder; ArtefactError names the file that is missing or does not fit."""
        folder = Path(folder)
        for name in (CONFIG, WEIGHTS):
            if not (folder / name).is_file():
                raise ArtefactError(f"{folder / name}: missing. Give the folder of a generator.")
        try:
            settings = read_json(folder / CONFIG)
            if settings["family"] != cls.family:
                raise ArtefactError(f"{folder / CONFIG}: a {settings['family']} generator, expected {cls.family}.")
            blank = torch.zeros(settings["features"])
            generator = cls._build(AdaCLIP.from_pretrained(folder / ENCODER), blank, blank.clone(), settings)
            generator.load_state_dict(load_file(folder / WEIGHTS))
        except (KeyError, TypeError, ValueError, RuntimeError, OSError, SafetensorError) as error:
            raise ArtefactError(f"{folder}: not a complete generator ({error}). Train or copy it again.") from error
        return generator.eval().to(device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # `to`, `cpu` and `cuda` arrive here; the encoder goes along.
        self.encoder._apply(fn, recurse)
        return super()._apply(fn, recurse)


def by_length(lengths: Sequence[int], batch: int) -> Iterator[np.ndarray]:
    """Indices of items in groups of at most `batch`, of like length."""
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), batch):
        yield order[start : start + batch]
