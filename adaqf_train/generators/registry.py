"""The families of generators: every package in this folder is one, under the package's name.

A family's package has a module `family` with an object `FAMILY`. `docs/adding-a-family.md` shows a whole one.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from accelerate import Accelerator
from torch import nn

from adaclip import AdaCLIP
from adaqf_train import generators, seeding
from adaqf_train.artefacts import load_network, save_network
from adaqf_train.config import RunConfig, TrainingConfig, ValidationConfig
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.errors import ConfigError
from adaqf_train.training.fit import fit
from adaqf_train.training.loop import Place
from adaqf_train.training.objective import Objective
from adaqf_train.training.validation import Validation

if TYPE_CHECKING:
    from adaqf_train.generators.base import MotionGenerator

Generator = TypeVar("Generator", bound="MotionGenerator")


@dataclass(frozen=True)
class Codec:
    """The network between frames and what a family generates: a stage of its own, which sees no text."""

    stage: str  # the stage of a run, its folder and its log
    network: type[nn.Module]  # network(features, config)
    config: type  # dataclass of the network's settings, its attribute `config`
    part: str  # field of the family's settings that holds them; `<part>_training` holds those of its training
    objective: Callable[[Accelerator, nn.Module], Objective]
    finish: Callable[[nn.Module, MotionDataset], None] = lambda network, dataset: None  # after the fit

    def settings(self, own: object) -> tuple[Any, TrainingConfig]:
        """Sizes and training of the codec in the family's settings."""
        return getattr(own, self.part), getattr(own, f"{self.part}_training")

    def fit(
        self, accelerator: Accelerator, dataset: MotionDataset, config: Any, training: TrainingConfig, place: Place
    ) -> nn.Module:
        """A codec trained on a split; it reads no text, so one serves all encoders that are compared."""
        torch.manual_seed(seeding.mix(training.seed))
        network = self.network(dataset.features, config)
        fit(accelerator, dataset, self.objective(accelerator, network), training, place)
        self.finish(network, dataset)
        return network

    def save(self, folder: Path, network: nn.Module, features: int) -> None:
        """Writes a codec's folder; features: width D of the motions it was trained on."""
        kind = type(network).__name__
        save_network(folder, network, {"kind": kind, "features": features, "config": asdict(network.config)})

    def load(self, folder: Path) -> nn.Module:
        """The codec of a folder; ArtefactError when it is incomplete or another network's."""

        def build(content: dict) -> nn.Module:
            if content["kind"] != self.network.__name__:
                raise ValueError(f"it holds a {content['kind']}, expected a {self.network.__name__}")
            return self.network(content["features"], self.config(**content["config"]))

        return load_network(folder, build)


@dataclass(frozen=True)
class Fitting:
    """Where and on what a generator is trained, from scratch, under a text encoder that is held fixed."""

    accelerator: Accelerator
    dataset: MotionDataset  # the training split
    encoder: Path  # folder of a text model
    codec: Any  # the family's trained codec; None: it has none
    place: Callable[[str], Place]  # where a fit of that name writes its log and checkpoints
    validation: ValidationConfig | None  # when the generator is scored on val; None: never
    score: Callable[[MotionGenerator, int], Mapping[str, float]] | None  # its figures after a step

    def untrained(self, kind: Callable[..., Generator], encoder: AdaCLIP, config: Any, seed: int) -> Generator:
        """A generator of this data with the codec, on the device: kind(encoder, codec, mean, std, config)."""
        torch.manual_seed(seeding.mix(seed))
        statistics = torch.from_numpy(self.dataset.mean), torch.from_numpy(self.dataset.std)
        generator = kind(encoder, self.codec, *statistics, config).eval().to(self.accelerator.device)
        data = self.dataset.config
        generator.unit_frames, generator.max_frames = data.unit_frames, data.max_frames
        return generator

    def watch(self, generator: MotionGenerator) -> Validation | None:
        """The validation of the fit of a generator."""
        return Validation(self.validation, lambda step: self.score(generator, step)) if self.score else None


@dataclass(frozen=True)
class Family:
    """One kind of text-to-motion generator: its class, its settings and how it is trained."""

    generator: type[MotionGenerator]
    settings: Callable[[RunConfig, Any], Any]  # everything that a training in a run depends on
    fit: Callable[[Fitting, Any], MotionGenerator]  # of what `settings` gave
    config: type | None = None  # dataclass of its own settings, as published; None: it has the run's alone
    pocket: Any = None  # the same at pocket size
    codec: Codec | None = None

    @property
    def name(self) -> str:
        """The key in config.json and in studies: the name of the family's folder."""
        return self.generator.family


def names() -> list[str]:
    """The names of all families; imports none of them."""
    return sorted(module.name for module in pkgutil.iter_modules(generators.__path__) if module.ispkg)


def family(name: str) -> Family:
    """The family of that name, or ConfigError with the names there are."""
    if name not in names():
        raise ConfigError(f"There is no family of generators {name!r}: choose from {', '.join(names())}.")
    return import_module(f"{generators.__name__}.{name}.family").FAMILY


def families() -> list[Family]:
    """All families, by name."""
    return [family(name) for name in names()]
