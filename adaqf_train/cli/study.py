"""The verb that runs the paper's studies: study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from adaqf_train.cli.options import Overrides, new_accelerator
from adaqf_train.config import override, recipes
from adaqf_train.errors import ConfigError
from adaqf_train.studies import definitions as studies

# Curves are part of a study, and every arm is shown as it ends: choosing its best point would add to the noise.
POINTS = 8  # of a curve, where the recipe does not validate
CURVES = ("validation.select=last", "validation.strips=0")
FAMILIES = "families."
SHORTER = ("evaluation.multimodality_texts=none",)  # sampling for it takes as long as all the rest


@dataclass(frozen=True)
class StudyVerb:
    """Runs a study of the paper, every trial once, and writes its tables and figures. Goes on where it was stopped;
    started twice, two processes share the trials."""

    name: tyro.conf.Positional[str]
    """components, convergence, weights, samples, feedback, retrieval, transfer, datasets, encoders or forgetting."""
    data: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="LABEL=FOLDER")]
    """A data set and what to call it. Repeatable."""
    out: Path = Path("runs/studies")
    """Folder of the run folders."""
    results: Path = Path("docs/studies")
    """Where tables and figures go, and the figures of each trial (results/)."""
    recipe: str = "pocket"
    seeds: int | None = None
    """Training seeds; none: as many as the study asks for."""
    arms: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Only these arms. Repeatable."""
    base: Path | None = None
    """Folder of a CLIP text model to use as the base, in place of the recipe's."""
    report_only: bool = False
    """Run nothing: write the tables of what there is."""
    settings: Overrides = ()
    """For every arm. Those that begin with families. are of the other generators and the rival encoder
    (families.latent.training.steps=1000)."""

    def __call__(self) -> None:
        study = studies.load(self.name)
        ours = [setting for setting in self.settings if not setting.startswith(FAMILIES)]
        config = override(recipes.load(self.recipe), ours)
        every = config.validation.every or max(1, config.training.steps // POINTS)
        settings = (f"validation.every={every}", *CURVES, *SHORTER, *self.settings)
        config = override(config, [setting for setting in settings if not setting.startswith(FAMILIES)])
        theirs = [setting.removeprefix(FAMILIES) for setting in self.settings if setting.startswith(FAMILIES)]
        try:
            families = override(recipes.families_of(self.recipe), theirs)
        except ConfigError as error:
            raise ConfigError(f"{error} (All of these begin with {FAMILIES})") from error
        pairs = [_labelled(entry) for entry in self.data]
        data = dict(pairs)
        if len(data) < len(pairs):
            raise ConfigError("--data: two data sets have one label. Give each its own.")
        if not data:
            raise ConfigError("--data is missing: give LABEL=FOLDER, such as procedural=runs/demo/data.")
        seeds = study.seeds if self.seeds is None else self.seeds
        if seeds < 1:
            raise ConfigError(f"--seeds must be at least 1, got {seeds}.")
        from adaqf_train.studies.page import write_study
        from adaqf_train.studies.runner import StudyRunner
        from adaqf_train.studies.trial import TrialRunner

        accelerator = new_accelerator(config.training.precision)
        trials = TrialRunner(accelerator, self.recipe, config, families, settings, data, self.out, self.base)
        runner = StudyRunner(study, trials, seeds, self.results / "results")
        failed = [] if self.report_only else runner.run(self.arms)
        if accelerator.is_main_process:
            print(f"wrote {write_study(study, runner.found(), self.results, self._command())}")
        if failed:
            raise ConfigError(f"{len(failed)} trials failed: {'; '.join(failed)}")

    def _command(self) -> str:
        """What makes the page again, but for where things are."""
        words = [f"adaqf study {self.name} --recipe {self.recipe}"]
        words += [f"--data {_labelled(entry)[0]}=FOLDER" for entry in self.data]
        words += ["--base BASE"] * (self.base is not None)
        words += [] if self.seeds is None else [f"--seeds {self.seeds}"]
        return " ".join([*words, *(f"--set {setting}" for setting in self.settings)])


def _labelled(entry: str) -> tuple[str, Path]:
    label, equals, folder = entry.partition("=")
    if not (label and equals and folder) or "/" in label:
        raise ConfigError(f"--data {entry}: expected LABEL=FOLDER, such as procedural=runs/demo/data.")
    return label, Path(folder)
