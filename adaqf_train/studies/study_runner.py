"""Runs the trials of a study, each once, and collects their results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adaqf_train.errors import ConfigError, DataError, DivergenceError, ResultError, RunLocked
from adaqf_train.studies import results, tables
from adaqf_train.studies.results import Result, is_older
from adaqf_train.studies.runner import TrialRunner
from adaqf_train.studies.schema import Study
from adaqf_train.studies.workspace import Workspace, agreed

_DIFFERENT_VERSIONS = (
    "results of an earlier version, such as {names}, scored every arm at one guidance; new ones are scored at the "
    "guidance that val chooses, and do not compare. Give another --results, or delete the earlier ones."
)

Place = tuple[str, str, int]  # data set, arm, seed


@dataclass(frozen=True)
class StudyRunner:
    """A study. Trials that an earlier call or another study has run are not run again."""

    study: Study
    workspace: Workspace
    seeds: int
    kept: Path  # folder of the result files

    def run(self, arms: Sequence[str] = ()) -> list[str]:
        """Run the trials that have no result, seed by seed, so that an interrupted study can be read.

        Trials that another process is running are left to it, and checked again as long as other trials are run. A
        trial that diverges, or has too little data, does not stop the others. Without `arms`, all arms run. Returns a
        line for each trial that failed.
        """
        if unknown := set(arms) - self.study.arms.keys():
            raise ConfigError(f"There is no arm {sorted(unknown)}: choose from {', '.join(self.study.arms)}.")
        arms = arms or tuple(self.study.arms)
        self._check_versions(arms)
        if not self.study.may_coincide:
            self.workspace.setup.check_arms({name: self.study.arms[name] for name in arms})
        failed: dict[Place, str] = {}
        missing = self._all(arms)
        while missing:
            left = [place for place in missing if not self._settle(place, failed)]
            if left == missing:
                break
            missing = left
        return list(failed.values())

    def _settle(self, place: Place, failed: dict[Place, str]) -> bool:
        """Run a trial that has no result; False if it is left to the process that is running it."""
        if agreed(self._result(*place) is not None):
            return True
        workspace, (label, name, seed) = self.workspace, place
        arm, console = self.study.arms[name], workspace.console
        title = f"{label}, {arm.title}, seed {seed}"
        console.print(f"[bold]{title}[/bold]: {workspace.setup.trial(label, arm, seed).name}")
        try:
            result = TrialRunner(workspace).run(label, arm, seed)
        except RunLocked as error:
            console.print(f"left to the process that is running it ({error})")
            return False
        except (DivergenceError, DataError) as error:
            failed[place] = f"{title}: {error}"
            console.print(failed[place])
            return True
        if workspace.accelerator.is_main_process:
            result.save(self.kept)
        workspace.accelerator.wait_for_everyone()
        return True

    def found(self) -> dict[str, tables.Results]:
        """Collect the results that exist: {data set: {arm: {seed: result}}}.

        ResultError if those on a data set come from different evaluators, so they do not compare, or if one comes from
        other data or other settings.
        """
        found: dict[str, dict[str, dict[int, Result]]] = {
            label: {arm: {} for arm in self.study.arms} for label in self.workspace.setup.data
        }
        for label, arm, seed in self._all(tuple(self.study.arms)):
            if (result := self._result(label, arm, seed)) is not None:
                found[label][arm][seed] = result
        for label, arms in found.items():
            _check_one_version([result for by_seed in arms.values() for result in by_seed.values()], self.kept)
            names = {r.manifest["evaluator"]: r.trial.name for by_seed in arms.values() for r in by_seed.values()}
            names.pop(None, None)  # of trials that no evaluator scores
            if len(names) > 1:
                raise ResultError(
                    f"{self.kept}: results on {label} were scored by different evaluators ({', '.join(names.values())} "
                    "are one of each). Delete those of one of them and run the study again."
                )
        return found

    def _check_versions(self, arms: Sequence[str]) -> None:
        """Refuse to add results to those of a version without curves over guidance, before anything is trained."""
        if not self.workspace.setup.config.evaluation.guidances:
            return
        found = {place: self._result(*place) for place in self._all(arms)}
        older = [result for result in found.values() if result is not None and is_older(result)]
        if older and None in found.values():
            raise ResultError(f"{self.kept}: {_DIFFERENT_VERSIONS.format(names=older[0].trial.name)}")

    def _all(self, arms: Sequence[str]) -> list[Place]:
        return [(label, arm, n) for n in range(self.seeds) for label in self.workspace.setup.data for arm in arms]

    def _result(self, label: str, arm: str, seed: int) -> Result | None:
        """The result of a trial if it was run; ResultError if it comes from other data or settings."""
        setup = self.workspace.setup.at(label)
        trial = setup.trial(label, self.study.arms[arm], seed)
        result = results.load(self.kept, trial)
        if result is None:
            return None
        path = self.kept / f"{trial.name}.json"
        if result.manifest["data"] != setup.fingerprint(label, setup.config.evaluation.split):
            raise ResultError(
                f"{path}: of other data than {setup.data[label]}, which has its label ({label}). Give the data another "
                "label."
            )
        if changed := setup.changes(self.study.arms[arm], seed, result.manifest):
            raise ResultError(f"{path}: made with other settings ({changed}). Delete it to run the trial again.")
        return result


def _check_one_version(found: Sequence[Result], folder: Path) -> None:
    """Refuse a table that mixes results with curves over guidance and results of a version without them."""
    older = [result.trial.name for result in found if is_older(result)]
    if older and any(result.guidance for result in found):
        raise ResultError(f"{folder}: {_DIFFERENT_VERSIONS.format(names=older[0])}")
