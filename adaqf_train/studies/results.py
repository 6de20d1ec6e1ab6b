"""The results of trials: one small JSON file each, and the figures read from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from adaclip.integrity import read_sealed, write_sealed
from adaqf_train.errors import ResultError
from adaqf_train.evaluation.curves import ArmCurve
from adaqf_train.studies.metrics import LAST, VAL
from adaqf_train.studies.trial import Trial

Figures = dict[str, float]
BY_EXTRACTORS = "r_precision_3_extractors"
JUDGED = ("r_precision_3", "joints_r_precision_3", BY_EXTRACTORS)  # by the independent evaluators and the feedback's


@dataclass(frozen=True)
class Result:
    """The figures of a finished trial. Test figures are means over the protocol's replications."""

    trial: Trial
    test: Figures  # the model's
    truth: Figures  # the real motions', by the same evaluator
    curve: list[Figures] = field(default_factory=list)  # on val during training: {"step", metric, …}
    manifest: Mapping[str, object] = field(default_factory=dict)  # seconds, machine, versions, settings, fingerprints
    # What versions since curves over guidance store beside it; `test` is at the guidance that the `ArmCurve` chose.
    guidance: Mapping[str, object] = field(default_factory=dict)
    truth_val: Figures = field(default_factory=dict)  # the real motions' on val
    floor: Figures = field(default_factory=dict)  # of one half of the real motions against the other half

    def save(self, folder: Path) -> Path:
        path = folder / f"{self.trial.name}.json"
        folder.mkdir(parents=True, exist_ok=True)
        write_sealed(path, asdict(self))
        return path


def read(path: Path) -> Result:
    """Read a result file; ResultError if it is not a result."""
    content = read_sealed(path, "Restore it, or delete it to run the trial again.")
    try:
        trial = Trial(**content["trial"] | {"settings": tuple(content["trial"]["settings"])})
        newer = {part: content[part] for part in ("guidance", "truth_val", "floor") if part in content}
        result = Result(trial, *(content[part] for part in ("test", "truth", "curve", "manifest")), **newer)
        if result.guidance:
            ArmCurve.of(result.guidance)
        return result
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ResultError(f"{path}: not the result of a trial ({error}). Delete it to run the trial again.") from error


def load(folder: Path, trial: Trial) -> Result | None:
    """The result of a trial, or None if it has not been run; ResultError if the file is another trial's."""
    path = folder / f"{trial.name}.json"
    if not path.is_file():
        return None
    result = read(path)
    if result.trial != trial:
        raise ResultError(f"{path}: holds another trial's figures. Delete it to run this one again.")
    return result


def is_older(result: Result) -> bool:
    """Whether a version without curves over guidance scored the motions of a result."""
    return "fid" in result.test and "guidances" not in result.manifest.get("config", {}).get("evaluation", {})


def by_seed(results: Mapping[int, Result], metric: str) -> dict[int, float]:
    """{seed: figure} of the results whose figure is known and finite."""
    values = {seed: figure(result, metric) for seed, result in results.items()}
    return {seed: value for seed, value in values.items() if value is not None and math.isfinite(value)}


def figure(result: Result, metric: str) -> float | None:
    """A figure of a result, or None if it has none.

    Beside the names in `Result.test`, "attributes" is the mean accuracy over the attributes, "delta" R@3 minus the
    ground truth's, "gap" R@3 by the feedback's own extractors minus R@3 by the independent evaluator, and "gap_joints"
    the same for the evaluator that reads decoded joints, each relative to the ground truth's. With the prefix "val_" a
    figure is taken on val, as the mean of the last points of the curve; older results have no ground truth on val, and
    theirs on test takes its place.
    """
    if metric.startswith(VAL):
        name, truth = metric.removeprefix(VAL), result.truth_val or result.truth
        points = [figure(Result(result.trial, point, truth), name) for point in result.curve[-LAST:]]
        return None if not points or None in points else sum(points) / len(points)
    test, truth = result.test, result.truth
    deltas = {name: test[name] - truth[name] for name in JUDGED if name in test and name in truth}
    derived = {"attributes": mean_attribute(test), "delta": deltas.get("r_precision_3")}
    for gap, judge in (("gap", "r_precision_3"), ("gap_joints", "joints_r_precision_3")):
        known = {judge, BY_EXTRACTORS} <= deltas.keys()
        derived[gap] = deltas[BY_EXTRACTORS] - deltas[judge] if known else None
    return derived[metric] if metric in derived else test.get(metric)


def mean_attribute(figures: Figures) -> float | None:
    """Mean accuracy over the attributes."""
    values = [value for name, value in figures.items() if name.startswith("attribute_")]
    return sum(values) / len(values) if values else None


def mean_curve(results: Sequence[Result], metric: str) -> tuple[list[int], list[list[float]]]:
    """The steps (S) that all curves share, and the metric at them (results, S)."""
    curves = [{int(p["step"]): p[metric] for p in result.curve if metric in p} for result in results]
    curves = [curve for curve in curves if curve]
    if not curves:
        return [], []
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    return steps, [[curve[step] for step in steps] for curve in curves]
