"""Runs the trials of a study, each once, and tells what came out."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch
from accelerate import Accelerator
from rich.console import Console

from adaclip.files import FileError, atomic_file
from adaqf_train.config import ConfigError, DataConfig, RunConfig, digest, override, to_dict
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.data.official import locate
from adaqf_train.evaluation.manifest import hash_of_weights
from adaqf_train.evaluation.report import Report
from adaqf_train.experiments import figures, results, tables
from adaqf_train.experiments.results import Result, Trial
from adaqf_train.experiments.statistics import Estimate, estimate
from adaqf_train.experiments.studies import Study
from adaqf_train.pipeline import Pipeline
from adaqf_train.run_folder import RunFolder, RunLocked
from adaqf_train.scoring import Scoring

PATIENCE = 5.0  # seconds
ARM = "adaqf"  # the stage that holds a trial's generator, whatever its settings make of it
SHOWN = {
    "fid": "FID ↓",
    "r_precision_3": "R@3 ↑",
    "attributes": "attributes ↑",
    "minimal_pairs": "minimal pairs ↑",
}
DRAWN = {"fid": "FID on val ↓", "r_precision_3": "R@3 on val ↑"}


@dataclass(frozen=True)
class StudyRunner:
    """A study on some data sets.

    Trials share base, extractors and evaluator, differ in their arm's settings and the training seed, and are known by
    all that they depend on: what another study or an earlier call has run is not run again.
    """

    study: Study
    recipe: str
    config: RunConfig  # of the recipe, with the settings that hold for every arm
    settings: tuple[str, ...]  # those settings, as `--set` takes them
    data: Mapping[str, Path]  # label -> folder
    seeds: int
    runs: Path  # run folders go here: networks, logs
    kept: Path  # and results here: figures alone
    base: Path | None = None  # a CLIP text model in the place of the recipe's
    console: Console = field(default_factory=lambda: Console(stderr=True))

    def trial(self, label: str, arm: str, seed: int) -> Trial:
        """What an arm on a data set is with that training seed."""
        base = (f"base={hash_of_weights(self.base)[:16]}",) if self.base else ()
        return Trial(label, self.recipe, (*base, *self.settings, *self.study.arms[arm].settings), seed)

    def run(self, accelerator: Accelerator, arms: Sequence[str] | None = None) -> int:
        """Runs the trials that have no result, seed by seed so that a study that is cut short can be read.

        Trials that another process is running are left to it. Returns how many were run.
        """
        unknown = set(arms or ()) - self.study.arms.keys()
        if unknown:
            raise ConfigError(f"There is no arm {sorted(unknown)}: choose from {', '.join(self.study.arms)}.")
        done = 0
        for seed in range(self.seeds):
            for label in self.data:
                for arm in arms or self.study.arms:
                    trial = self.trial(label, arm, seed)
                    if self._result(trial) is not None:
                        continue
                    self.console.print(f"[bold]{label}, {self.study.arms[arm].title}, seed {seed}[/bold]: {trial.name}")
                    try:
                        self._run(accelerator, label, arm, seed).save(self.kept)
                    except RunLocked as error:
                        self.console.print(f"left to the process that is at it ({error})")
                        continue
                    done += 1
        return done

    def _run(self, accelerator: Accelerator, label: str, arm: str, seed: int) -> Result:
        shared = self._shared(accelerator, label)
        trial = self.trial(label, arm, seed)
        config = override(self.config, [*self.study.arms[arm].settings, f"training.seed={seed}"])
        run = RunFolder(self.runs / trial.name, accelerator)
        with run.locked():
            run.borrow_from(shared)
            pipeline = Pipeline(run, config, self.data[label], base=self.base)
            pipeline.check()
            run.write_config(config, pipeline.data)
            pipeline.extractors()
            pipeline.evaluator()
            pipeline.train(ARM)
            scoring = Scoring(pipeline, evaluator=shared / "evaluator")
            # A report voids minimal pairs where the real motions' own say that they mean nothing.
            rows = Report.of({name: scoring.row(name) for name in ("gt", ARM)}, {}).rows
            truth, test = _means(rows["gt"]), _means(rows[ARM])
            log = run / "logs" / f"{ARM}_validation.jsonl"
            manifest = {
                "seconds": {name: entry["seconds"] for name, entry in run.stages().items()},
                "data": scoring.dataset.fingerprint(),
                "evaluator": scoring.hashes["evaluator"],
                "threads": torch.get_num_threads(),
                "torch": torch.__version__,
                "python": platform.python_version(),
                "config": to_dict(config),
            }
            curve = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
            return Result(trial, test, truth, curve, manifest)

    def _shared(self, accelerator: Accelerator, label: str) -> Path:
        """A run with the stages that the trials on a data set have in common."""
        parts = to_dict(self.config)
        common = {name: parts[name] for name in ("data", "pocket_clip", "extractors", "evaluator")}
        train = MotionDataset(locate(self.data[label]), "train", self.config.data).fingerprint()
        key = digest(common | {"base": self.base and hash_of_weights(self.base), "train": train})
        run = RunFolder(self.runs / f"{label}-shared-{key[:8]}", accelerator)
        while not {"extractors", "evaluator"} <= run.stages().keys():
            try:
                with run.locked():
                    pipeline = Pipeline(run, self.config, self.data[label], base=self.base)
                    pipeline.check()
                    run.write_config(self.config, pipeline.data)
                    pipeline.extractors()
                    pipeline.evaluator()
            except RunLocked:
                time.sleep(PATIENCE)  # another process of the study is at it
        return run.path

    def _result(self, trial: Trial) -> Result | None:
        """The result of a trial, if it was run; FileError when it is of other data under the same label."""
        result = results.load(self.kept, trial)
        split = self.config.evaluation.split
        if result is not None and result.manifest["data"] != _fingerprint(
            self.data[trial.data], split, self.config.data
        ):
            raise FileError(
                f"{self.kept / trial.name}.json: of other data than {self.data[trial.data]}, which has its label "
                f"({trial.data}). Give the data another label."
            )
        return result

    def found(self) -> dict[str, tables.Results]:
        """The results there are: {data set: {arm: {seed: result}}}."""
        return {
            label: {
                arm: {
                    seed: result
                    for seed in range(self.seeds)
                    if (result := self._result(self.trial(label, arm, seed))) is not None
                }
                for arm in self.study.arms
            }
            for label in self.data
        }

    def report(self, folder: Path) -> Path:
        """Writes NAME.md with the tables, and the figures beside it."""
        study, found = self.study, self.found()
        lines = [f"# {study.title}", "", f"{study.paper} of the paper. {self._means_of()}", ""]
        for label, arms in found.items():
            lines += [f"## {label}", "", tables.figures_table(study, arms), ""]
            if differences := tables.differences_table(study, arms):
                lines += [differences, ""]
            titles = {name: arm.title for name, arm in study.arms.items() if name != study.reference}
            if any(result.curve for by_seed in arms.values() for result in by_seed.values()):
                lines += [tables.convergence_table(titles, study.reference, arms), ""]
            lines += self._figures(folder, label, arms)
        if verdicts := tables.verdicts_table(study, found):
            lines += ["## The paper's claims", "", verdicts, ""]
        if paper := tables.paper_table(study):
            lines += ["## The paper's figures", "", paper, ""]
        path = folder / f"{study.name}.md"
        with atomic_file(path) as staging:
            staging.write_text("\n".join(lines), encoding="utf-8")
        return path

    def _figures(self, folder: Path, label: str, arms: tables.Results) -> list[str]:
        estimates: dict[str, dict[str, Estimate]] = {
            arm.title: {
                metric: estimate(list(values.values()))
                for metric in SHOWN
                if (values := results.by_seed(arms.get(name, {}), metric))
            }
            for name, arm in self.study.arms.items()
        }
        titled = {arm.title: list(arms.get(name, {}).values()) for name, arm in self.study.arms.items()}
        lines = []
        for kind, drawn in (
            ("test", lambda path: figures.draw_estimates(path, estimates, SHOWN)),
            ("curves", lambda path: figures.draw_curves(path, titled, DRAWN)),
        ):
            name = f"{self.study.name}-{label}-{kind}.png"
            if drawn(folder / name):
                lines += [f"![{kind} of {label}]({name})", ""]
        return lines

    def _means_of(self) -> str:
        options = [f"--data {label}=FOLDER" for label in self.data] + [f"--set {setting}" for setting in self.settings]
        options += ["--base BASE"] if self.base else []
        return (
            "Means over training seeds, ± half the 95 % interval of Student's t where there are several; a difference "
            "in bold has its whole interval on one side of zero. Test split, by the independent evaluator; curves on "
            f"val. Command: `run.py study {self.study.name} --recipe {self.recipe} {' '.join(options)}`."
        )


@cache
def _fingerprint(folder: Path, split: str, config: DataConfig) -> str:
    return MotionDataset(locate(folder), split, config).fingerprint()


def _means(row: Mapping[str, Mapping[str, float | None]]) -> dict[str, float]:
    return {name: figure["mean"] for name, figure in row.items() if figure["mean"] is not None}
