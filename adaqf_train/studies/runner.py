"""Runs the trials of a study, each once, and finds what was run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from adaclip.files import FileError
from adaqf_train.config import DataConfig
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.data.official import locate
from adaqf_train.errors import ConfigError, DataError, DivergenceError, RunLocked
from adaqf_train.studies import results, tables
from adaqf_train.studies.definitions import Study
from adaqf_train.studies.results import Result
from adaqf_train.studies.trial import TrialRunner, agreed


@dataclass(frozen=True)
class StudyRunner:
    """A study whose trials were run by this or an earlier call, or for another study, and are not run again."""

    study: Study
    trials: TrialRunner
    seeds: int
    kept: Path  # results go here: figures alone

    def run(self, arms: Sequence[str] | None = None) -> list[str]:
        """Runs the trials that have no result, seed by seed so that a study that is cut short can be read.

        What another process is running is left to it, and asked for again while there is anything else to do. A trial
        that diverges, or that the data are too few for, does not keep the others from being run: returns what went
        wrong, a line each.
        """
        unknown = set(arms or ()) - self.study.arms.keys()
        if unknown:
            raise ConfigError(f"There is no arm {sorted(unknown)}: choose from {', '.join(self.study.arms)}.")
        failed: dict[tuple[str, str, int], str] = {}
        while self._pass(arms or tuple(self.study.arms), failed):
            pass
        return list(failed.values())

    def _pass(self, arms: Sequence[str], failed: dict[tuple[str, str, int], str]) -> int:
        """Tries every trial that is missing, once; returns how many were run."""
        console, done = self.trials.console, 0
        for label, name, seed in self._all(arms):
            if (label, name, seed) in failed or agreed(self._result(label, name, seed) is not None):
                continue
            arm = self.study.arms[name]
            trial = self.trials.trial(label, arm, seed)
            console.print(f"[bold]{label}, {arm.title}, seed {seed}[/bold]: {trial.name}")
            try:
                result = self.trials.run(label, arm, seed)
            except RunLocked as error:
                console.print(f"left to the process that is at it ({error})")
                continue
            except (DivergenceError, DataError) as error:
                failed[label, name, seed] = f"{label}, {arm.title}, seed {seed}: {error}"
                console.print(failed[label, name, seed])
                continue
            if self.trials.accelerator.is_main_process:
                result.save(self.kept)
            self.trials.accelerator.wait_for_everyone()
            done += 1
        return done

    def found(self) -> dict[str, tables.Results]:
        """The results there are: {data set: {arm: {seed: result}}}.

        FileError where those of a data set were scored by different evaluators: they do not compare.
        """
        found: dict[str, dict[str, dict[int, Result]]] = {
            label: {arm: {} for arm in self.study.arms} for label in self.trials.data
        }
        evaluators: dict[str, dict[str, str]] = {label: {} for label in self.trials.data}
        for label, arm, seed in self._all(tuple(self.study.arms)):
            if (result := self._result(label, arm, seed)) is not None:
                found[label][arm][seed] = result
                if (evaluator := result.manifest["evaluator"]) is not None:
                    evaluators[label][evaluator] = result.trial.name
        for label, names in evaluators.items():
            if len(names) > 1:
                raise FileError(
                    f"{self.kept}: results on {label} were scored by different evaluators ({', '.join(names.values())} "
                    "are one of each). Delete those of one of them and run the study again."
                )
        return found

    def _all(self, arms: Sequence[str]) -> Iterator[tuple[str, str, int]]:
        for seed in range(self.seeds):
            for label in self.trials.data:
                for arm in arms:
                    yield label, arm, seed

    def _result(self, label: str, arm: str, seed: int) -> Result | None:
        """The result of a trial, if it was run; FileError when it is of other data, or other settings, under the same
        name.
        """
        trial = self.trials.trial(label, self.study.arms[arm], seed)
        result = results.load(self.kept, trial)
        if result is None:
            return None
        path, config, folder = self.kept / f"{trial.name}.json", self.trials.config, self.trials.data[label]
        if result.manifest["data"] != _fingerprint(folder, config.evaluation.split, config.data):
            raise FileError(
                f"{path}: of other data than {folder}, which has its label ({label}). Give the data another label."
            )
        if changed := self.trials.changes(label, self.study.arms[arm], seed, result.manifest):
            raise FileError(f"{path}: made with other settings ({changed}). Delete it to run the trial again.")
        return result


@cache
def _fingerprint(folder: Path, split: str, config: DataConfig) -> str:
    return MotionDataset(locate(folder), split, config).fingerprint()
