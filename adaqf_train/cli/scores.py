"""The verbs that score and compare: evaluate, retrieval, compare."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

import tyro

from adaqf_train.cli.options import Overrides, open_run, peek, report_on, unparsed
from adaqf_train.config import EvaluationConfig, SamplingConfig, override
from adaqf_train.errors import ConfigError

if TYPE_CHECKING:
    from adaqf_train.runs.scoring import Scoring


@dataclass(frozen=True, kw_only=True)
class OfRun:
    """Options of the verbs that score a run."""

    run: Path  # Folder of the run; its networks must be trained.
    data: Path | None = None  # With --run: folder of its data, if they have moved.
    evaluator: Path | None = None
    """Independent evaluator that replaces the run's own: a folder made by `adaqf evaluator`, another run, or
    adaclip-pocket (for procedural motions)."""
    official: Path | None = None
    """With --run: folder with the official evaluators (text_mot_match/model/finest.tar) and glove/, at any depth, to
    score with as well."""
    settings: Overrides = ()
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    @classmethod
    def start(cls, arguments: Sequence[str]) -> Self:
        """The verb before its flags are parsed: with the settings of the run, changed by --set."""
        given = peek(arguments, run=None)
        if given.run is None:  # --help, or an error that the parser reports
            return unparsed(cls)
        from adaqf_train.runs.layout import read_config

        config, groups = read_config(Path(given.run))[0], cls._groups()
        for setting in given.set:
            if setting.strip().partition(".")[0] not in groups:
                raise ConfigError(f"--set {setting}: this verb takes settings of {' and '.join(groups)} only.")
        config = override(config, given.set)
        return unparsed(cls, **{group: getattr(config, group) for group in groups})

    @contextmanager
    def scoring(self) -> Iterator[Scoring | None]:
        """The run's scoring on the main process; None on the others."""
        from adaqf_train.runs.layout import read_config
        from adaqf_train.runs.scoring import Scoring
        from adaqf_train.runs.stages import Pipeline

        config, where = read_config(self.run)
        config = replace(config, **{group: getattr(self, group) for group in self._groups()})
        with open_run(self.run) as opened:
            pipeline = Pipeline(opened, config, self.data or where)
            main = opened.accelerator.is_main_process
            yield Scoring(pipeline, evaluator=self.evaluator, official=self.official) if main else None

    @classmethod
    def _groups(cls) -> list[str]:
        """Groups of settings that the verb has flags for."""
        return [f.name for f in fields(cls) if f.name in ("evaluation", "sampling")]


@dataclass(frozen=True, kw_only=True)
class Evaluate(OfRun):
    """Score motions of any model, or a finished run again, on test or val, and write its report.

    Without --run, PATHS are scored by themselves. Exit code 3: the official evaluators do not give real motions their
    known figures.
    """

    paths: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="PATHS")] = ()
    """Motions to score without a run, a row each: folders of .npy or .npz files at any depth (joints or features),
    MDM's results.npy, BVH files, a pack, or a data set."""
    run: Path | None = None  # Folder of a run whose generators are scored; its networks must be trained.
    evaluator: Path | None = None
    """Evaluator to score with: a folder made by `adaqf evaluator`, a run, or adaclip-pocket, which comes with this
    package and is for procedural motions. Default: adaclip-pocket for procedural data sets, none for other PATHS; with
    --run, the run's own."""
    motions: Path | None = None
    """With --run: motions of another program to score in place of the run's generators, by the run's protocol: a folder
    of NAME.npy (features or joints), or MDM's results.npy."""
    out: Path | None = None  # Folder for the report of PATHS or --motions; None: only the screen.
    reference: Path | None = None  # Of PATHS: real motions to compare with, in any of these forms; for FID.
    captions: Path | None = None
    """Of PATHS: JSON {name: caption}, CSV (name, caption) or TXT (a line each); for R-precision. None: NAME.txt or
    captions.json beside the motions, or those inside the files."""
    fps: float | None = None  # Of PATHS: frame rate of joints. None: the file's own, else 20 (21 joints: 12.5).
    up: Literal["x", "y", "z", "-x", "-y", "-z"] | None = None
    """Of PATHS: axis of joints that points up. None: y, and motions that lie are refused."""
    scale: float | None = None  # Of PATHS: factor that makes metres of joints. None: 1; other units are refused.
    floor: Literal["auto", "keep", "clip"] = "auto"
    """Of PATHS: keep leaves the floor at height 0, clip puts it under each clip, auto does so if it is far from 0."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def __call__(self) -> int:
        if self.run is None:
            return self._without_run()
        given = [name for name in ("reference", "captions", "fps", "up", "scale") if getattr(self, name) is not None]
        given += ["floor"] * (self.floor != "auto")
        if self.paths or given:
            wrong = f"--{given[0]}" if given else str(self.paths[0])
            raise ConfigError(f"{wrong}: is for motions without a run. Omit --run, or give the motions with --motions.")
        if self.out is not None and self.motions is None:
            raise ConfigError("--out: is for motions. The report of a run is written to its folder; omit --out.")
        _check_out(self.out)
        with self.scoring() as scoring:
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

    def _without_run(self) -> int:
        if not self.paths:
            raise ConfigError("Nothing to score: give motions, such as adaqf evaluate samples/, or a run with --run.")
        for name in ("data", "official", "motions"):
            if getattr(self, name) is not None:
                raise ConfigError(f"--{name} needs a run: give one with --run, or real motions with --reference.")
        if ignored := self._ignored():
            raise ConfigError(
                f"{ignored}: has no effect without a run, where only --evaluation.replications and --evaluation.seed "
                "do. Omit it, or give a run with --run."
            )
        _check_out(self.out)
        from rich.console import Console

        from adaqf_train.evaluation.foreign import Reading
        from adaqf_train.evaluation.standalone import evaluate_motions

        report = evaluate_motions(
            self.paths,
            reference=self.reference,
            captions=self.captions,
            evaluator=self.evaluator,
            reading=Reading(self.fps, self.up, self.scale, self.floor),
            replications=self.evaluation.replications,
            seed=self.evaluation.seed,
        )
        report.show(Console())
        if self.out is not None:
            report.save(self.out)
        return 0

    def _ignored(self) -> str | None:
        """The first option that changes nothing without a run."""
        if self.settings:
            return f"--set {self.settings[0]}"
        for given in (self.evaluation, self.sampling):
            changed = (f.name for f in fields(given) if getattr(given, f.name) != getattr(type(given)(), f.name))
            for name in changed:
                if name not in ("replications", "seed"):
                    return f"--{'sampling' if given is self.sampling else 'evaluation'}.{name}"
        return None


def _check_out(folder: Path | None) -> None:
    """Raise ConfigError, before anything is computed, if a report cannot be written to a folder."""
    if folder is not None and folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out {folder}: is a file, but the report needs a folder. Give another name.")


@dataclass(frozen=True, kw_only=True)
class Retrieval(OfRun):
    """Measure how well extractors and evaluators retrieve real motions by their captions, and back (Table 8)."""

    def __call__(self) -> None:
        from adaqf_train.evaluation import columns, retrieval

        with self.scoring() as scoring:
            if scoring is not None:
                pool = min(scoring.config.evaluation.pool, len(scoring.dataset))
                rows = retrieval.table(scoring.retrieval(), pool)
                print("\n".join(columns.markdown(rows)))


@dataclass(frozen=True)
class Compare:
    """Compare reports side by side, with their intervals, and with rows of the paper."""

    reports: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="REPORTS")]
    """report.json files, or folders of runs."""
    paper: tyro.conf.UseAppendAction[tuple[int, ...]] = ()  # Number of a table of the paper to show as well.
    mix: bool = False  # Allow reports of different protocols in one table, with a note below it.

    def __call__(self) -> None:
        from adaqf_train.studies.compare import compare
        from adaqf_train.studies.paper import tables_of

        tables = [table for number in self.paper for table in tables_of(number)]
        print(compare(self.reports, tables, mix=self.mix).markdown())
