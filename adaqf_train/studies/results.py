"""What the runs of a study gave: one small JSON file each, kept with the project, and read back as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from adaclip.files import FileError, read_json, write_json
from adaqf_train.config import digest
from adaqf_train.studies.metrics import LAST, VAL

Figures = dict[str, float]
_UNKNOWN = {"r_precision_3": 0.0, "r_precision_3_extractors": 0.0}  # truth on val: gaps there are not relative to it


@dataclass(frozen=True)
class Trial:
    """One training run: what it depends on, and nothing else, so that studies share runs."""

    data: str  # the data set's name
    recipe: str
    settings: tuple[str, ...]  # on top of the recipe, in the order they are applied
    seed: int
    generator: str = "mdm"  # or another kind of `studies.Arm`
    encoder: str | None = None  # that is held fixed: "base", or the key of what it was trained by

    @property
    def key(self) -> str:
        """What the trials that differ in nothing but their seed share."""
        return f"{self.data}-{self.generator}-{digest(asdict(self) | {'seed': None})[:8]}"

    @property
    def name(self) -> str:
        """Of its file and its run folder."""
        return f"{self.key}-seed{self.seed}"


@dataclass(frozen=True)
class Result:
    """The figures of a finished trial. Test figures are means over the protocol's replications."""

    trial: Trial
    test: Figures  # of the model
    truth: Figures  # of the real motions, by the same evaluator
    curve: list[Figures] = field(default_factory=list)  # on val while it trained: {"step", metric, …}
    manifest: Mapping[str, object] = field(default_factory=dict)  # seconds, machine, versions, fingerprints

    def save(self, folder: Path) -> Path:
        """Writes folder/NAME.json."""
        path = folder / f"{self.trial.name}.json"
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(self))
        return path


def load(folder: Path, trial: Trial) -> Result | None:
    """The result of a trial; None when it has not been run. FileError for a file that is not its."""
    path = folder / f"{trial.name}.json"
    if not path.is_file():
        return None
    content = read_json(path)
    try:
        kept = Trial(**content["trial"] | {"settings": tuple(content["trial"]["settings"])})
        result = Result(kept, *(content[part] for part in ("test", "truth", "curve", "manifest")))
    except (KeyError, TypeError) as error:
        raise FileError(f"{path}: not the result of a trial ({error}). Delete it to run the trial again.") from error
    if kept != trial:
        raise FileError(f"{path}: holds another trial's figures. Delete it to run this one again.")
    return result


def by_seed(results: Mapping[int, Result], metric: str) -> dict[int, float]:
    """{seed: figure} of the results that have the metric; one that is not finite is none."""
    values = {seed: figure(result, metric) for seed, result in results.items()}
    return {seed: value for seed, value in values.items() if value is not None and math.isfinite(value)}


def figure(result: Result, metric: str) -> float | None:
    """A test figure, or one of those that are made of several. val_…: on val, mean of the curve's last points.

    attributes: mean accuracy over the attributes. gap: R@3 by the feedback's own extractors minus that by the
    independent evaluator, each relative to the ground truth's. delta: R@3 minus the ground truth's.
    """
    if metric.startswith(VAL):
        name = metric.removeprefix(VAL)
        points = [figure(Result(result.trial, point, _UNKNOWN), name) for point in result.curve[-LAST:]]
        return None if not points or None in points else sum(points) / len(points)
    test, truth = result.test, result.truth
    if metric == "attributes":
        values = [value for name, value in test.items() if name.startswith("attribute_")]
        return sum(values) / len(values) if values else None
    if metric == "delta":
        return _difference(test, truth, "r_precision_3")
    if metric == "gap":
        own = _difference(test, truth, "r_precision_3_extractors")
        independent = _difference(test, truth, "r_precision_3")
        return None if own is None or independent is None else own - independent
    return test.get(metric)


def _difference(ours: Figures, theirs: Figures, metric: str) -> float | None:
    return ours[metric] - theirs[metric] if metric in ours and metric in theirs else None


def mean_curve(results: Sequence[Result], metric: str) -> tuple[list[int], list[list[float]]]:
    """Steps that every result's curve has, and the metric at them: (S,), (results, S)."""
    curves = [{int(p["step"]): p[metric] for p in result.curve if metric in p} for result in results]
    curves = [curve for curve in curves if curve]
    if not curves:
        return [], []
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    return steps, [[curve[step] for step in steps] for curve in curves]
