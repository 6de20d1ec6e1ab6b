"""The verb for user studies: userstudy build, userstudy report."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from adaqf_train.cli.options import labelled
from adaqf_train.errors import ConfigError


@dataclass(frozen=True)
class BuildStudy:
    """Write an offline page on which people rank the motions of several models, and its key."""

    out: Path  # FILE.html, or a folder for study.html. The key is written beside it; keep it to yourself.
    run: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """Folder of a finished run, whose baseline and AdaQF take part."""
    model: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """Folder of a generator of any family, which takes part under the folder's name."""
    motions: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="LABEL=FOLDER")] = ()
    """Motions of another model: a folder of NAME.npy, as `evaluate --motions` reads it."""
    data: Path | None = None  # Data set for prompts and real motions; None: that of the first run.
    ground_truth: bool = False  # Include the real motions.
    prompts: int = 20  # Prompts that each participant ranks; the paper has 20.
    checks: int = 0  # Attention checks: additional questions in which one body stands on its head.
    title: str = "Which motion is best?"  # Title that participants read; it should not name a model.
    seed: int = 0  # Seed of prompts, motions and order.

    def __call__(self) -> None:
        from adaqf_train.userstudy.collect import collect
        from adaqf_train.userstudy.page import checked_key, write_user_study

        if self.seed < 0:
            raise ConfigError(f"--seed must not be negative, got {self.seed}.")
        if self.prompts < 1:
            raise ConfigError(f"--prompts must be at least 1, got {self.prompts}.")
        page = self.out if self.out.suffix == ".html" else self.out / "study.html"
        checked_key(page, self.prompts, self.checks)
        folders = labelled("--motions", self.motions, "MDM=samples/mdm")
        for name, folder in folders.items():
            if not folder.is_dir():
                raise ConfigError(f"--motions {name}={folder}: {folder} is not a folder.")
        questions, fps = collect(
            self.run,
            folders,
            prompts=self.prompts,
            generators=self.model,
            data=self.data,
            real=self.ground_truth,
            seed=self.seed,
        )
        key = write_user_study(page, questions, title=self.title, fps=fps, checks=self.checks, seed=self.seed)
        print(f"wrote {page}: {len(questions)} prompts, {len(questions[0].motions)} models; hand this out")
        print(f"wrote {key}: whose motion is whose; keep this")


@dataclass(frozen=True)
class ReportStudy:
    """Report mean ranks, first places and pairwise preferences, with intervals, from the answers to a user study."""

    answers: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="ANSWERS")]
    """Files that participants saved, or folders of such files."""
    key: Path  # The .key.json that was written beside the page.
    json: bool = False  # Print the figures as JSON, and nothing else.

    def __call__(self) -> None:
        from adaqf_train.userstudy.report import report

        found = report(self.answers, self.key)
        print(json.dumps(asdict(found), indent=2) if self.json else found.markdown())


@dataclass(frozen=True)
class UserStudy:
    """Run a blinded user study: build a page to hand out, and report the answers."""

    step: Annotated[
        Annotated[BuildStudy, tyro.conf.subcommand("build", prefix_name=False)]
        | Annotated[ReportStudy, tyro.conf.subcommand("report", prefix_name=False)],
        tyro.conf.arg(name=""),
    ]

    def __call__(self) -> None:
        self.step()
