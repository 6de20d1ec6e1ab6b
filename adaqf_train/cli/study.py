"""The verb that runs the paper's studies: study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import tyro

from adaqf_train.cli.options import Flags, Overrides, Recipe, labelled, peek, unparsed
from adaqf_train.config import RunConfig, override, recipes, settings_between
from adaqf_train.errors import ConfigError
from adaqf_train.runs.accelerator import new_accelerator
from adaqf_train.studies.definitions import STUDIES, load

if TYPE_CHECKING:
    from adaqf_train.studies.trial import Setup

# Curves are part of a study, and every arm is scored at its last step: choosing the best would add to the noise.
POINTS = 8  # of a curve, where the recipe does not validate
CURVES = ("validation.select=last", "validation.strips=0")
FAMILIES = "families."
EXAMPLE = "procedural=runs/demo/data"
SETTINGS = (
    "Change a setting of every arm. Those of the other generators and of the rival encoder begin with families., such "
    "as families.latent.training.steps=1000, and have no flags."
)
SHORTER = ("evaluation.multimodality_texts=none",)  # sampling for it takes as long as all the rest


@dataclass(frozen=True)
class StudyVerb:
    """Run a study of the paper, every trial once, and write its tables and figures.

    The same command, started again, continues where it stopped; started twice, two processes share the trials.
    """

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME", help=f"One of: {', '.join(STUDIES)}.")]
    data: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="LABEL=FOLDER")]
    """A data set and its label."""
    out: Path = Path("runs/studies")  # Folder of the run folders.
    results: Path = Path("results")  # Folder of the results, a JSON file for each trial.
    pages: Path = Path("docs/studies")  # Folder of the study's page with its tables and figures.
    recipe: Recipe = "pocket"
    seeds: int | None = None  # Training seeds; None: as many as the study's verdicts need.
    arms: tyro.conf.UseAppendAction[tuple[str, ...]] = ()  # Only these arms.
    base: Path | None = None  # Folder of a text encoder that replaces the recipe's base.
    report_only: bool = False  # Run nothing: write the page from the results that exist.
    settings: Annotated[Overrides, tyro.conf.arg(name="set", metavar="NAME=VALUE", help=SETTINGS)] = ()
    config: Annotated[RunConfig, Flags] = recipes.RECIPES["pocket"]

    @classmethod
    def start(cls, arguments: Sequence[str]) -> Self:
        """The verb before its flags are parsed: with the settings of the recipe, changed by --set."""
        given = peek(arguments, recipe=cls.recipe)
        return unparsed(cls, config=override(recipes.load(given.recipe), _split(given.set)[0]))

    def __call__(self) -> None:
        study, setup = load(self.name), self.setup()
        seeds = study.seeds if self.seeds is None else self.seeds
        if seeds < 1:
            raise ConfigError(f"--seeds must be at least 1, got {seeds}.")
        from adaqf_train.studies.page import write_study
        from adaqf_train.studies.study_runner import StudyRunner
        from adaqf_train.studies.workspace import Workspace

        accelerator = new_accelerator(setup.config.training.precision)
        runner = StudyRunner(study, Workspace(setup, accelerator, self.out), seeds, self.results)
        failed = [] if self.report_only else runner.run(self.arms)
        if accelerator.is_main_process:
            print(f"wrote {write_study(study, runner.found(), self.pages, self._command())}")
        if failed:
            raise ConfigError(f"{len(failed)} trials failed: {'; '.join(failed)}")

    def setup(self) -> Setup:
        """What all trials have in common."""
        from adaqf_train.studies.transfer import families_of
        from adaqf_train.studies.trial import Setup

        given = self.given()
        ours, theirs = _split(given)
        config = override(recipes.load(self.recipe), ours)
        every = config.validation.every or max(1, config.training.steps // POINTS)
        own = STUDIES[self.name].settings if self.name in STUDIES else ()
        common = (f"validation.every={every}", *CURVES, *SHORTER, *own)
        try:
            families = override(families_of(self.recipe), theirs)
        except ConfigError as error:
            raise ConfigError(f"{error} (All of these begin with {FAMILIES})") from error
        data = labelled("--data", self.data, EXAMPLE)
        if not data:
            raise ConfigError(f"--data is missing: give LABEL=FOLDER, such as {EXAMPLE}.")
        config = override(config, [*common, *ours])
        return Setup(self.recipe, config, families, (*common, *given), data, self.base)

    def given(self) -> list[str]:
        """The changes to the recipe, by --set and by flags, in the form of --set."""
        by_set = override(recipes.load(self.recipe), _split(self.settings)[0])
        return [*self.settings, *settings_between(by_set, self.config)]

    def _command(self) -> str:
        """The command that makes the page, without the user's folders."""
        words = [f"adaqf study {self.name} --recipe {self.recipe}"]
        words += [f"--data {label}=FOLDER" for label in labelled("--data", self.data, EXAMPLE)]
        words += ["--base BASE"] * (self.base is not None)
        words += [] if self.seeds is None else [f"--seeds {self.seeds}"]
        return " ".join([*words, *(f"--set {setting}" for setting in self.given())])


def _split(settings: Sequence[str]) -> tuple[list[str], list[str]]:
    """Settings of the run, and those of the families without their prefix."""
    ours = [setting for setting in settings if not setting.startswith(FAMILIES)]
    return ours, [setting.removeprefix(FAMILIES) for setting in settings if setting.startswith(FAMILIES)]
