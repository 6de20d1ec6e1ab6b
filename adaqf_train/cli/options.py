"""Options that verbs share, their settings as flags, and how a run is opened."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Self, TypeVar

import tyro

from adaqf_train.config import RunConfig, override, recipes
from adaqf_train.errors import ConfigError
from adaqf_train.runs.accelerator import new_accelerator

if TYPE_CHECKING:
    from adaqf_train.evaluation.report import Report
    from adaqf_train.runs.folder import RunFolder
    from adaqf_train.runs.scoring import Scoring
    from adaqf_train.runs.stages import Pipeline

Verb = TypeVar("Verb")
Overrides = Annotated[
    tyro.conf.UseAppendAction[tuple[str, ...]],
    tyro.conf.arg(
        name="set",
        metavar="NAME=VALUE",
        help="Change a setting by its name, such as diffusion.steps=50. A flag wins over it.",
    ),
]
Recipe = Annotated[
    str, tyro.conf.arg(metavar=f"{{{','.join(recipes.RECIPES)}}}", help="Named settings, which flags and --set change.")
]
Flags = tyro.conf.arg(name="")  # of a group of settings: flags without the name of the verb's field before them


class WithSettings:
    """Base of verbs with the settings of a run as flags, whose defaults come from a recipe."""

    recipe: ClassVar[str]  # Name of the recipe; a verb with --recipe has a field of this name.

    @classmethod
    def start(cls, arguments: Sequence[str]) -> Self:
        """The verb before its flags are parsed: with the settings of the recipe, changed by --set."""
        given = peek(arguments, recipe=cls.recipe)
        return unparsed(cls, config=override(recipes.load(given.recipe), given.set))


def peek(arguments: Sequence[str], **options: str | None) -> argparse.Namespace:
    """Values of some options, and of --set, ahead of the parser proper. options: {name: default}."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name, default in options.items():
        parser.add_argument(f"--{name}", default=default)
    parser.add_argument("--set", action="append", default=[])
    return parser.parse_known_args(arguments)[0]


def labelled(option: str, entries: Sequence[str], example: str) -> dict[str, Path]:
    """Folders by label of entries LABEL=FOLDER; ConfigError for another form, or a label that occurs twice."""
    found: dict[str, Path] = {}
    for entry in entries:
        label, _, folder = (part.strip() for part in entry.partition("="))
        if not (label and folder) or "/" in label:
            raise ConfigError(f"{option} {entry}: expected LABEL=FOLDER, such as {example}.")
        if label in found:
            raise ConfigError(f"{option}: two folders have the same label, {label}. Give each its own.")
        found[label] = Path(folder)
    return found


def unparsed(verb: type[Verb], **known: object) -> Verb:
    """A verb with some of its fields; required ones are left to the command line."""
    required = [f.name for f in fields(verb) if f.default is MISSING and f.default_factory is MISSING]
    return verb(**dict.fromkeys(required, tyro.MISSING) | known)


@dataclass(frozen=True)
class RunOptions(WithSettings):
    """Options of the verbs that train."""

    data: Path
    """Folder in HumanML3D's layout (made by `adaqf prepare`, or the data set as distributed), or a folder around it,
    such as a checkout of MDM or MoMask with its dataset/."""
    out: Path  # Folder of the run. The same command, started again, continues where it stopped.
    recipe: Recipe = "pocket"
    base: Path | None = None  # Folder of a text encoder that replaces the recipe's base.
    reuse: Path | None = None  # Earlier run whose finished stages are copied if their settings are the same.
    settings: Overrides = ()
    config: Annotated[RunConfig, Flags] = recipes.RECIPES["pocket"]


@contextmanager
def open_run(out: Path, precision: str | None = None) -> Iterator[RunFolder]:
    """A run's folder, locked, with accelerate and its threads set up."""
    from adaqf_train.runs.folder import RunFolder

    run = RunFolder(out, new_accelerator(precision))
    with run.locked():
        yield run
    run.accelerator.end_training()


@contextmanager
def opened(options: RunOptions) -> Iterator[Pipeline]:
    """The stages of the run that the options describe."""
    config = options.config
    with open_run(options.out, config.training.precision) as run:
        if options.reuse is not None:
            run.borrow_from(options.reuse)
        with opened_pipeline(run, config, options.data, options.base) as pipeline:
            yield pipeline


@contextmanager
def opened_pipeline(run: RunFolder, config: RunConfig, data: Path, base: Path | None = None) -> Iterator[Pipeline]:
    """The stages of a run; its run.json is updated once the stages have been checked."""
    from adaqf_train.runs.stages import Pipeline

    pipeline = Pipeline(run, config, data, base=base)
    pipeline.check()
    run.write_config(config, pipeline.data, pipeline.base_revision(), replace=False)
    yield pipeline
    run.write_config(config, pipeline.data, pipeline.base_revision())


def report_on(scoring: Scoring) -> Report:
    """Evaluates a run on the main process; writes its report and page, and prints them."""
    report = scoring.evaluate()
    report.save(scoring.place.path)
    page = scoring.page(report)
    report.show(scoring.console)
    encoder = "encoder" if scoring.config.encoder.tuning == "full" else "adapter"
    for what, path in ((encoder, scoring.run.adaclip), ("report", scoring.place.report_text), ("motions", page)):
        scoring.console.print(f"{what:<8}{path}", soft_wrap=True)
    return report
