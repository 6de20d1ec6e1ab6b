"""The verb that asks people: userstudy build, userstudy report."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from adaqf_train.errors import ConfigError


@dataclass(frozen=True)
class BuildStudy:
    """An offline page on which people rank several models' motions of the same prompts, and its key."""

    out: Path
    """FILE.html, or a folder for study.html. The key is written beside it: do not hand it out."""
    run: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """A finished run, whose baseline and AdaQF take part. Repeatable."""
    motions: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="NAME=FOLDER")] = ()
    """Motions of another model, NAME.npy each, as `evaluate --motions` reads them. Repeatable."""
    data: Path | None = None
    """The data set, for prompts and real motions; none: the first run's."""
    ground_truth: bool = False
    """Let the real motions take part."""
    prompts: int = 20
    """How many sentences everybody ranks; the paper's 20."""
    checks: int = 0
    """Attention checks: questions more in which one body stands on its head."""
    title: str = "Which motion is best?"
    """Participants read it; do not name a model."""
    seed: int = 0

    def __call__(self) -> None:
        from adaqf_train.userstudy.collect import collect
        from adaqf_train.userstudy.study import checked_key, write_study

        if self.seed < 0:
            raise ConfigError(f"--seed must not be negative, got {self.seed}.")
        if self.prompts < 1:
            raise ConfigError(f"--prompts must be at least one, got {self.prompts}.")
        page = self.out if self.out.suffix == ".html" else self.out / "study.html"
        checked_key(page, self.prompts, self.checks)
        folders = dict(map(_named_folder, self.motions))
        if len(folders) < len(self.motions):
            raise ConfigError("--motions: the same name twice. Give every model a name of its own.")
        questions, fps = collect(
            self.run, folders, prompts=self.prompts, data=self.data, real=self.ground_truth, seed=self.seed
        )
        key = write_study(page, questions, title=self.title, fps=fps, checks=self.checks, seed=self.seed)
        print(f"wrote {page}: {len(questions)} prompts, {len(questions[0].motions)} models; hand this out")
        print(f"wrote {key}: whose motion is whose; keep this")


@dataclass(frozen=True)
class ReportStudy:
    """Mean ranks, first places and pairs, with intervals, of the answers to a study."""

    answers: tyro.conf.Positional[tuple[Path, ...]]
    """Files that participants saved, or folders of them."""
    key: Path
    """The .key.json beside the page."""
    json: bool = False
    """Print the figures as JSON, and nothing else."""

    def __call__(self) -> None:
        from adaqf_train.userstudy.report import report

        found = report(self.answers, self.key)
        print(json.dumps(found.to_dict(), indent=2) if self.json else found.markdown())


@dataclass(frozen=True)
class UserStudy:
    """People rank motions, blinded: a page to hand out, and a report of their answers."""

    step: Annotated[
        Annotated[BuildStudy, tyro.conf.subcommand("build", prefix_name=False)]
        | Annotated[ReportStudy, tyro.conf.subcommand("report", prefix_name=False)],
        tyro.conf.arg(name=""),
    ]

    def __call__(self) -> None:
        self.step()


def _named_folder(setting: str) -> tuple[str, Path]:
    name, equals, folder = setting.partition("=")
    if not name.strip() or not equals or not folder:
        raise ConfigError(f"--motions {setting}: write it as NAME=FOLDER, such as MDM=samples/mdm.")
    if not Path(folder).is_dir():
        raise ConfigError(f"--motions {setting}: {folder} is no folder.")
    return name.strip(), Path(folder)
