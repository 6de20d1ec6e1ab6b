"""The verbs that score and compare: evaluate, compare."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from adaqf_train.cli.options import Overrides, open_run, report_on
from adaqf_train.config import ConfigError, override


@dataclass(frozen=True)
class Evaluate:
    """Scores a finished run again, on test or val, and writes its report."""

    run: Path
    """Folder of a finished run."""
    data: Path | None = None
    """Where its data are now, if they have moved."""
    motions: Path | None = None
    """Motions that another program wrote, to be scored by the run's evaluator instead of its generators: a folder of
    NAME.npy (features or joints), or MDM's results.npy."""
    out: Path | None = None
    """With --motions: folder for their report; none: only the screen."""
    official: Path | None = None
    """Folder with the official evaluators (text_mot_match/model/finest.tar) and glove/, at any depth: score with them
    as well. Exit code 3 when the real motions do not get the figures they are known to get."""
    settings: Overrides = ()
    """Of the groups evaluation and sampling: what was trained is trained."""

    def __call__(self) -> int:
        """Returns 3 when the figures cannot be compared with the literature's, else 0."""
        from adaqf_train.pipeline import Pipeline
        from adaqf_train.run_folder import read_config

        for setting in self.settings:
            if not setting.strip().startswith(("evaluation.", "sampling.")):
                raise ConfigError(f"--set {setting}: evaluate takes settings of evaluation and sampling only.")
        config, data = read_config(self.run)
        with open_run(self.run) as run:
            pipeline = Pipeline(run, override(config, self.settings), self.data or data)
            if not run.accelerator.is_main_process:
                return 0
            if self.motions is None:
                report = report_on(pipeline, self.official)
            else:
                report = pipeline.evaluate_motions(self.motions, self.official)
                report.show(pipeline.console)
                if self.out is not None:
                    report.save(self.out)
            return 0 if report.comparable else 3


@dataclass(frozen=True)
class Compare:
    """Reports side by side, with their intervals, and the paper's rows if asked for."""

    reports: tyro.conf.Positional[tuple[Path, ...]]
    """report.json files, or runs that have one."""
    paper: tyro.conf.UseAppendAction[tuple[int, ...]] = ()
    """Number of a table of the paper to show beside them. Repeatable."""
    mix: bool = False
    """Allow reports of different protocols in one table, and say so under it."""

    def __call__(self) -> None:
        from adaqf_train.experiments.compare import compare
        from adaqf_train.experiments.paper import tables_of

        tables = [table for number in self.paper for table in tables_of(number)]
        print(compare(self.reports, tables, mix=self.mix).markdown())
