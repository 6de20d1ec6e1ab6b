"""The verbs that score and compare: evaluate, retrieval, compare."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from adaqf_train.cli.options import Overrides, open_run, report_on
from adaqf_train.config import override
from adaqf_train.errors import ConfigError

if TYPE_CHECKING:
    from adaqf_train.runs.scoring import Scoring


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
    evaluator: Path | None = None
    """Independent evaluator to score with in place of the run's own: a folder that `evaluator` made, or another run.
    Runs are compared by one evaluator."""
    official: Path | None = None
    """Folder with the official evaluators (text_mot_match/model/finest.tar) and glove/, at any depth: score with them
    as well. Exit code 3 when the real motions do not get the figures they are known to get."""
    settings: Overrides = ()
    """Of the groups evaluation and sampling: what was trained is trained."""

    def __call__(self) -> int:
        """Returns 3 when the figures cannot be compared with the literature's, else 0."""
        with _scoring(self.run, self.data, self.settings, self.evaluator, self.official) as scoring:
            if scoring is None:
                return 0
            if self.motions is None:
                report = report_on(scoring)
            else:
                report = scoring.evaluate_motions(self.motions)
                report.show(scoring.console)
                if self.out is not None:
                    report.save(self.out)
            return 3 if report.comparable is False else 0


@dataclass(frozen=True)
class Retrieval:
    """How the extractors and the evaluators of a run find real motions by their captions, and back (Table 8)."""

    run: Path
    """Folder of a run whose extractors and evaluator are trained."""
    data: Path | None = None
    """Where its data are now, if they have moved."""
    evaluator: Path | None = None
    """Independent evaluator in place of the run's own: a folder that `evaluator` made, or another run."""
    official: Path | None = None
    """Folder with the official evaluators and glove/, at any depth, to be told of as well."""
    settings: Overrides = ()
    """Of the group evaluation."""

    def __call__(self) -> None:
        from adaqf_train.evaluation import columns, extractors_report

        with _scoring(self.run, self.data, self.settings, self.evaluator, self.official) as scoring:
            if scoring is not None:
                pool = min(scoring.config.evaluation.pool, len(scoring.dataset))
                rows = extractors_report.table(scoring.retrieval(), pool)
                print("\n".join(columns.markdown(rows)))


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
        from adaqf_train.studies.compare import compare
        from adaqf_train.studies.paper import tables_of

        tables = [table for number in self.paper for table in tables_of(number)]
        print(compare(self.reports, tables, mix=self.mix).markdown())


@contextmanager
def _scoring(
    run: Path, data: Path | None, settings: Sequence[str], evaluator: Path | None, official: Path | None
) -> Iterator[Scoring | None]:
    """A run's scoring on the main process; None on the others."""
    from adaqf_train.runs.folder import read_config
    from adaqf_train.runs.scoring import Scoring
    from adaqf_train.runs.stages import Pipeline

    for setting in settings:
        if not setting.strip().startswith(("evaluation.", "sampling.")):
            raise ConfigError(f"--set {setting}: evaluate takes settings of evaluation and sampling only.")
    config, where = read_config(run)
    with open_run(run) as opened:
        pipeline = Pipeline(opened, override(config, settings), data or where)
        main = opened.accelerator.is_main_process
        yield Scoring(pipeline, evaluator=evaluator, official=official) if main else None
