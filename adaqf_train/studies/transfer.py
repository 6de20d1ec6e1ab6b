"""Generators of any family, trained from scratch under a text encoder that is held fixed (Tables 3, 8 and 9).

Encoders are compared by the generators: the same data order, noise, initial weights and budget for each.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, make_dataclass
from pathlib import Path
from typing import Any

from adaqf_train.config import POCKET_BASE, recipes
from adaqf_train.encoders import moclip
from adaqf_train.evaluation.manifest import hash_of_weights
from adaqf_train.generators import registry
from adaqf_train.generators.base import MotionGenerator
from adaqf_train.generators.registry import Codec, Fitting
from adaqf_train.runs.stages import Pipeline, without_incidental
from adaqf_train.runs.validator import validation_settings, validator


def families_of(recipe: str) -> Any:
    """Settings of the families and of the rival encoder at the size of a recipe.

    They are a frozen dataclass with a field for each family that has settings of its own, and `moclip`; its defaults
    are the published sizes.
    """
    pocket = recipes.load(recipe).encoder.base == POCKET_BASE
    own = [family for family in registry.families() if family.config]
    kinds = {family.name: family.config for family in own} | {"moclip": moclip.MoClipConfig}
    fields = [(name, kind, field(default_factory=kind)) for name, kind in kinds.items()]
    families = make_dataclass("Families", fields, frozen=True)
    if not pocket:
        return families()
    return families(**{family.name: family.pocket for family in own}, moclip=moclip.POCKET)


def codec_of(kind: str) -> Codec | None:
    """The codec that arms of that kind need; None if they need none, or train no generator."""
    return registry.family(kind).codec if kind in registry.names() else None


@dataclass(frozen=True)
class Transfer:
    """Trains generators in the run of a pipeline, with its data, its denoiser's sizes and its training seed."""

    pipeline: Pipeline
    families: Any  # as `families_of` gives them

    def codec(self, family: str) -> str:
        """Train the family's codec, a stage of its own; return its digest.

        It sees no text: one serves all encoders that are compared, and all training seeds.
        """
        pipeline, codec = self.pipeline, codec_of(family)
        config, training = codec.settings(getattr(self.families, family))
        settings = {"config": asdict(config), "training": without_incidental(training), **pipeline.inputs}

        def make() -> None:
            train = pipeline.dataset("train")
            place = pipeline.place(codec.stage, settings)
            network = codec.fit(pipeline.accelerator, train, config, training, place)
            if pipeline.accelerator.is_main_process:
                codec.save(pipeline.run / codec.stage, network, train.features)

        return pipeline.run.stage(codec.stage, settings, make)

    def train(self, family: str, encoder: Path) -> MotionGenerator:
        """Train a generator under an encoder, a text model's folder.

        If the configuration asks for validation, it has a curve on val (`RunLayout.curve`).
        """
        pipeline, run, own = self.pipeline, self.pipeline.run, registry.family(family)
        config = own.settings(pipeline.config, getattr(self.families, family, None))
        settings = {"family": family, "encoder": hash_of_weights(encoder), **pipeline.inputs}
        settings |= {"config": without_incidental(config)}
        if pipeline.config.validation.every is not None:
            settings |= validation_settings(pipeline.config)
        if own.codec:
            settings["codec"] = self.codec(family)

        def make() -> None:
            scored = None, None
            if pipeline.config.validation.every is not None:
                score = validator(run, pipeline.config, pipeline.dataset("val"), run.generator.name)
                scored = pipeline.config.validation, score
            to = Fitting(
                pipeline.accelerator,
                pipeline.dataset("train", few=True),
                encoder,
                own.codec.load(run / own.codec.stage) if own.codec else None,
                lambda name: pipeline.place(name, settings),
                *scored,
            )
            generator = own.fit(to, config)
            if pipeline.accelerator.is_main_process:
                generator.save_pretrained(run.generator)

        run.stage(run.generator.name, settings, make)
        return own.generator.from_pretrained(run.generator, device=pipeline.accelerator.device)
