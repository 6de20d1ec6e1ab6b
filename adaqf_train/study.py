"""Runs the trials of a study, each once, and tells what came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from adaclip.files import FileError, atomic_file
from adaqf_train.config import ConfigError, DataConfig
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.data.official import locate
from adaqf_train.experiments import figures, results, tables
from adaqf_train.experiments.metrics import METRICS
from adaqf_train.experiments.results import Result
from adaqf_train.experiments.studies import Study
from adaqf_train.run_folder import RunLocked
from adaqf_train.trials import TrialRunner

DRAWN = ("fid", "r_precision_3", "attributes", "minimal_pairs")  # of test figures, where a study shows these
CURVES = {"fid": "FID on val ↓", "r_precision_3": "R@3 on val ↑"}


@dataclass(frozen=True)
class StudyRunner:
    """A study whose trials were run by this or an earlier call, or for another study, and are not run again."""

    study: Study
    trials: TrialRunner
    seeds: int
    kept: Path  # results go here: figures alone

    def run(self, arms: Sequence[str] | None = None) -> int:
        """Runs the trials that have no result, seed by seed so that a study that is cut short can be read.

        Trials that another process is running are left to it. Returns how many were run.
        """
        unknown = set(arms or ()) - self.study.arms.keys()
        if unknown:
            raise ConfigError(f"There is no arm {sorted(unknown)}: choose from {', '.join(self.study.arms)}.")
        console, done = self.trials.console, 0
        for seed in range(self.seeds):
            for label in self.trials.data:
                for name in arms or self.study.arms:
                    arm = self.study.arms[name]
                    trial = self.trials.trial(label, arm, seed)
                    if self._result(label, name, seed) is not None:
                        continue
                    console.print(f"[bold]{label}, {arm.title}, seed {seed}[/bold]: {trial.name}")
                    try:
                        result = self.trials.run(label, arm, seed)
                    except RunLocked as error:
                        console.print(f"left to the process that is at it ({error})")
                        continue
                    if self.trials.accelerator.is_main_process:
                        result.save(self.kept)
                    self.trials.accelerator.wait_for_everyone()
                    done += 1
        return done

    def _result(self, label: str, arm: str, seed: int) -> Result | None:
        """The result of a trial, if it was run; FileError when it is of other data under the same label."""
        trial = self.trials.trial(label, self.study.arms[arm], seed)
        result = results.load(self.kept, trial)
        config, folder = self.trials.config, self.trials.data[label]
        if result is not None and result.manifest["data"] != _fingerprint(folder, config.evaluation.split, config.data):
            raise FileError(
                f"{self.kept / trial.name}.json: of other data than {folder}, which has its label ({label}). Give the "
                "data another label."
            )
        return result

    def found(self) -> dict[str, tables.Results]:
        """The results there are: {data set: {arm: {seed: result}}}."""
        return {
            label: {
                arm: {
                    seed: result for seed in range(self.seeds) if (result := self._result(label, arm, seed)) is not None
                }
                for arm in self.study.arms
            }
            for label in self.trials.data
        }

    def report(self, folder: Path) -> Path:
        """Writes NAME.md with the tables, and the figures beside it."""
        study, found = self.study, self.found()
        lines = [f"# {study.title}", "", f"{study.paper} of the paper. {self._means_of()}", "", _cost(found), ""]
        for label, arms in found.items():
            lines += [f"## {label}", "", tables.figures_table(study, arms), ""]
            if differences := tables.differences_table(study, arms):
                lines += [differences, ""]
            for table in (tables.convergence_table, tables.levels_table):
                if told := table(study, arms):
                    lines += [told, ""]
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
        shown = {name: METRICS[name][0] for name in DRAWN if name in self.study.metrics}
        shown = shown or {name: METRICS[name][0] for name in self.study.metrics[: len(DRAWN)]}
        figures_by_arm: dict[str, dict[str, list[float]]] = {
            arm.title: {
                metric: list(values.values())
                for metric in shown
                if (values := results.by_seed(arms.get(name, {}), metric))
            }
            for name, arm in self.study.arms.items()
        }
        titled = {arm.title: list(arms.get(name, {}).values()) for name, arm in self.study.arms.items()}
        lines = []
        for kind, drawn in (
            ("test", lambda path: figures.draw_estimates(path, figures_by_arm, shown)),
            ("curves", lambda path: figures.draw_curves(path, titled, CURVES)),
        ):
            name = f"{self.study.name}-{label}-{kind}.png"
            if drawn(folder / name):
                lines += [f"![{kind} of {label}]({name})", ""]
        return lines

    def _means_of(self) -> str:
        options = [f"--data {label}=FOLDER" for label in self.trials.data] + ["--base BASE"] * bool(self.trials.base)
        return (
            "Means over training seeds, ± half the 95 % interval of Student's t where there are several; a difference "
            "in bold has its whole interval on one side of zero. Test split, by the independent evaluator; curves on "
            f"val. Command: `run.py study {self.study.name} --recipe {self.trials.recipe} {' '.join(options)}`."
        )


def _cost(found: Mapping[str, tables.Results]) -> str:
    """How long the trials trained, and on what. Trials that other studies share are counted in each."""
    manifests = [result.manifest for arms in found.values() for by_seed in arms.values() for result in by_seed.values()]
    hours = sum(sum(manifest["seconds"].values()) for manifest in manifests) / 3600
    used = ("threads", "torch", "python")
    told = "; ".join(f"{name} {', '.join(sorted({str(manifest[name]) for manifest in manifests}))}" for name in used)
    return f"{len(manifests)} trials, {hours:.1f} hours of training in all, with what other studies share ({told})."


@cache
def _fingerprint(folder: Path, split: str, config: DataConfig) -> str:
    return MotionDataset(locate(folder), split, config).fingerprint()
