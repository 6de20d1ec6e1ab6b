"""Generators of three families, trained from scratch under a text encoder that is held fixed (Tables 3, 8 and 9).

Encoders are compared by what comes out: same data order, noise, initial weights and budget for each.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from adaclip import AdaCLIP
from adaqf_train.config import FeedbackConfig
from adaqf_train.config.families import Families
from adaqf_train.evaluation.manifest import hash_of_weights
from adaqf_train.generators import codecs as codec_store
from adaqf_train.generators.base import TextToMotion
from adaqf_train.generators.latent.generator import LatentGenerator
from adaqf_train.generators.latent.objective import fit_latent_autoencoder, fit_latent_diffusion
from adaqf_train.generators.masked.generator import MaskedGenerator
from adaqf_train.generators.masked.objective import fit_masked_generator, fit_tokenizer
from adaqf_train.generators.mdm.generator import MotionGenerator
from adaqf_train.generators.mdm.objective import fit_adaqf
from adaqf_train.runs.stages import Pipeline, without_incidental
from adaqf_train.runs.validator import ScoreGenerator, validator
from adaqf_train.training.loop import Place

Family = Literal["mdm", "latent", "masked"]
GENERATOR = "generator"  # the stage of a run, its folder and its log
CODECS = {"latent": "autoencoder", "masked": "motion_tokenizer"}  # what lies between frames and what is generated
_CLASSES: dict[str, type[TextToMotion]] = {
    "mdm": MotionGenerator,
    "latent": LatentGenerator,
    "masked": MaskedGenerator,
}


@dataclass(frozen=True)
class Transfer:
    """Trains generators in the run of a pipeline, with its data, its denoiser's sizes and its training seed."""

    pipeline: Pipeline
    families: Families

    def codec(self, family: Family) -> str:
        """Trains what lies between frames and latents or tokens, a stage of its own; returns its digest.

        It sees no text: one serves all encoders that are compared, and all training seeds.
        """
        pipeline, name = self.pipeline, CODECS[family]
        config, training = self._codec_config(family)
        settings = {"config": asdict(config), "training": without_incidental(training), **pipeline.inputs}
        fit = {"latent": fit_latent_autoencoder, "masked": fit_tokenizer}[family]

        def make() -> None:
            train = pipeline.dataset("train")
            codec = fit(pipeline.accelerator, train, config, training, self._place(name, settings))
            if pipeline.accelerator.is_main_process:
                codec_store.save_codec(pipeline.run / name, codec, train.features)

        return pipeline.run.stage(name, settings, make)

    def train(self, family: Family, encoder: Path) -> TextToMotion:
        """A generator under the text encoder of a folder (a CLIP text model), with a curve on val if the configuration
        asks for one (`curve_of`).
        """
        fit = {"mdm": self._fit_mdm, "latent": self._fit_latent, "masked": self._fit_masked}[family]
        settings = {"family": family, "encoder": hash_of_weights(encoder), **self.pipeline.inputs}
        settings |= {"config": without_incidental(self._config(family)), "every": self.pipeline.config.validation.every}
        if family in CODECS:
            settings["codec"] = self.codec(family)

        def make() -> None:
            generator = fit(encoder, settings)
            if self.pipeline.accelerator.is_main_process:
                generator.save_pretrained(self.pipeline.run / GENERATOR)

        self.pipeline.run.stage(GENERATOR, settings, make)
        folder = self.pipeline.run / GENERATOR
        return _CLASSES[family].from_pretrained(folder, device=self.pipeline.accelerator.device)

    def _config(self, family: Family) -> object:
        """All that a family's training depends on."""
        config, seed = self.pipeline.config, self.pipeline.config.training.seed
        if family == "mdm":
            # MDM's training: no feedback, an encoder that stays as it is.
            encoder = replace(config.encoder, tuning="frozen")
            return replace(config, encoder=encoder, feedback=FeedbackConfig(motion=0.0, text=0.0))
        if family == "latent":
            latent = self.families.latent
            return replace(latent, training=replace(latent.training, seed=seed))
        masked = self.families.masked
        seeded = {name: replace(getattr(masked, name), seed=seed) for name in ("masked_training", "residual_training")}
        return replace(masked, **seeded)

    def _codec_config(self, family: Family) -> tuple:
        if family == "latent":
            return self.families.latent.autoencoder, self.families.latent.autoencoder_training
        return self.families.masked.tokenizer, self.families.masked.tokenizer_training

    def _fit_mdm(self, encoder: Path, settings: dict) -> MotionGenerator:
        return fit_adaqf(
            self.pipeline.accelerator,
            self.pipeline.dataset("train", few=True),
            str(encoder),
            None,
            self._config("mdm"),
            self._place(GENERATOR, settings),
            self._score(),
        )

    def _fit_latent(self, encoder: Path, settings: dict) -> LatentGenerator:
        return fit_latent_diffusion(
            self.pipeline.accelerator,
            self.pipeline.dataset("train", few=True),
            AdaCLIP.from_base(str(encoder)),
            codec_store.load_autoencoder(self.pipeline.run / CODECS["latent"]),
            self._config("latent"),
            self._place(GENERATOR, settings),
            *self._watch(),
        )

    def _fit_masked(self, encoder: Path, settings: dict) -> MaskedGenerator:
        return fit_masked_generator(
            self.pipeline.accelerator,
            self.pipeline.dataset("train", few=True),
            AdaCLIP.from_base(str(encoder)),
            codec_store.load_tokenizer(self.pipeline.run / CODECS["masked"]),
            self._config("masked"),
            self._place(GENERATOR, settings),
            self._place("residual", settings),
            *self._watch(),
        )

    def _place(self, name: str, settings: dict) -> Place:
        return self.pipeline.place(name, settings)

    def _score(self) -> ScoreGenerator | None:
        pipeline = self.pipeline
        if pipeline.config.validation.every is None:
            return None
        return validator(
            pipeline.dataset("val"),
            pipeline.config,
            pipeline.run / "evaluator",
            pipeline.run / "extractors",
            pictures=pipeline.run / "validation" / GENERATOR,
            device=pipeline.accelerator.device,
        )

    def _watch(self) -> tuple:
        """When the other families' fits are scored, and by what; nothing where the configuration asks for no curve."""
        score = self._score()
        return () if score is None else (self.pipeline.config.validation, score)


def curve_of(run: Path, stage: str = GENERATOR) -> Path:
    """The file with a generator's scores on val during its training, a JSON line each."""
    return run / "logs" / f"{stage}_validation.jsonl"


def read_curve(path: Path) -> list[dict[str, float]]:
    """The points of a curve, none where it was not asked for."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
