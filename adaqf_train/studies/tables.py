"""A study's results as Markdown: figures, paired differences, verdicts, and the paper's rows beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from statistics import median

from adaqf_train.studies.definitions import Claim, Study
from adaqf_train.studies.metrics import METRICS
from adaqf_train.studies.paper import tables_of
from adaqf_train.studies.results import Result, by_seed
from adaqf_train.studies.statistics import (
    Estimate,
    Verdict,
    best,
    estimate,
    first_reaching,
    paired,
    verdict,
    verdict_on_votes,
)

WIDE = 12  # metrics; tables of more have a row a metric
NOT_RUN = "*not run*"
Results = Mapping[str, Mapping[int, Result]]  # {arm: {seed: result}}


def figures_table(study: Study, results: Results) -> str:
    """Mean ± interval over seeds, a row an arm; the ground truth first, where it has figures.

    Of many metrics the table has a row each, and a column an arm.
    """
    shown = [metric for metric in study.metrics if any(by_seed(found, metric) for found in results.values())]
    rows = [["", *(METRICS[m][0] for m in shown), "seeds"]]
    # The reference's first: the extractors of other arms may be others.
    in_order = [results.get(study.reference, {}), *results.values()]
    truth = next((result for found in in_order for result in found.values()), None)
    if truth is not None:
        real = {m: _truth(truth, m) for m in shown}
        if any(value is not None for value in real.values()):
            rows.append(["ground truth", *("–" if real[m] is None else f"{real[m]:.3f}" for m in shown), ""])
    for name, arm in study.arms.items():
        found = results.get(name, {})
        cells = (by_seed(found, m) for m in shown)
        told = [str(estimate(list(values.values()))) if values else "–" for values in cells] if found else []
        rows.append([arm.title, *(told or [NOT_RUN] * len(shown)), str(len(found))])
    return markdown(list(zip(*rows, strict=True)) if len(shown) > WIDE else rows)


def differences_table(study: Study, results: Results) -> str:
    """Each arm minus the one it is set against, paired by seed; bold where the whole interval lies on one side of
    zero.
    """
    shown = [m for m in study.metrics if METRICS[m][1] is not None]
    shown = [m for m in shown if any(by_seed(found, m) for found in results.values())]
    rows = [["", "minus", *(METRICS[m][0] for m in shown)]]
    for name, arm in study.arms.items():
        against = study.against(name)
        if name == against or not results.get(name):
            continue
        cells = [_signed(_difference(results, name, against, m)) for m in shown]
        rows.append([arm.title, study.arms[against].title, *cells])
    if len(rows) == 1:
        return ""
    return markdown(list(zip(*rows, strict=True)) if len(shown) > WIDE else rows)


def verdicts_table(study: Study, results: Mapping[str, Results]) -> str:
    """The study's claims on each data set. results: {data set: {arm: {seed: result}}}."""
    rows = [["claim", "data", "difference", "seeds", "verdict"]]
    for claim in study.claims:
        for data, found in results.items():
            cells, told = (_differs if claim.share is None else _hastens)(claim, found, study.seeds)
            rows.append([claim.text, data, *cells, f"**{told}**"])
    return markdown(rows) if len(rows) > 1 else ""


def _differs(claim: Claim, found: Results, seeds: int) -> tuple[list[str], Verdict]:
    difference = _difference(found, claim.arm, claim.than, claim.metric)
    told = verdict(difference, lower=bool(METRICS[claim.metric][1]), seeds=seeds)
    return [_signed(difference), str(difference.seeds if difference else 0)], told


def _hastens(claim: Claim, found: Results, seeds: int) -> tuple[list[str], Verdict]:
    races = _races(found, claim.arm, claim.than, claim.metric)
    votes = [race.within(claim.share) for race in races]
    told = ", ".join(f"{race}{' (too coarse)' * (vote is None)}" for race, vote in zip(races, votes, strict=True))
    return [f"shares {told}" if races else NOT_RUN, str(len(races))], verdict_on_votes(votes, seeds=seeds)


def convergence_table(study: Study, results: Results, metrics: Sequence[str] = ("fid", "r_precision_3")) -> str:
    """Steps until an arm's curve on val is as good as the best of the arm it is set against, seed by seed, and the
    median share. "" where nothing has a curve.

    A seed in which the arm never gets there is told as such, and counts as slower than all others.
    """
    rows = [["", "set against", "metric", "whose best is at step", "reached at step", "share of its steps"]]
    for name, arm in study.arms.items():
        against = study.against(name)
        for metric in metrics if name != against else ():
            races = _races(results, name, against, metric)
            if not races:
                continue
            middle = median(race.share for race in races)
            rows.append(
                [
                    arm.title,
                    study.arms[against].title,
                    METRICS[metric][0],
                    ", ".join(str(race.target) for race in races),
                    ", ".join("never" if race.step is None else str(race.step) for race in races),
                    "never" if middle == math.inf else f"{middle:.2f}",
                ]
            )
    return markdown(rows) if len(rows) > 1 else ""


def levels_table(study: Study, results: Results) -> str:
    """What masked tokens give with fewer residual levels (Table 9's R0 to Rn); "" where nothing has them."""
    rows = [["", "residual levels", "FID ↓", "R@3 ↑"]]
    for name, arm in study.arms.items():
        found = results.get(name, {})
        for level in count():
            told = [by_seed(found, f"{metric}_R{level}") for metric in ("fid", "r_precision_3")]
            if not all(told):
                break
            rows.append([arm.title, f"R{level}", *(str(estimate(list(values.values()))) for values in told)])
    return markdown(rows) if len(rows) > 1 else ""


@dataclass(frozen=True)
class _Race:
    """How soon a curve is as good as another's best point."""

    target: int  # the step of that point
    step: int | None  # None: never
    first: int  # step of the curve's first point

    @property
    def share(self) -> float:
        return math.inf if self.step is None else self.step / self.target

    def __str__(self) -> str:
        return "never" if self.step is None else f"{self.share:.2f}"

    def within(self, most: float) -> bool | None:
        """Whether it took at most that share of the steps; None where the first point is already too late to tell."""
        if self.share > most and self.step == self.first:
            return None
        return self.share <= most


def _races(results: Results, arm: str, than: str, metric: str) -> list[_Race]:
    """One for each seed that both arms have a curve of."""
    lower, races = bool(METRICS[metric][1]), []
    for seed in sorted(results.get(arm, {}).keys() & results.get(than, {}).keys()):
        curve = results[arm][seed].curve
        target = best(results[than][seed].curve, metric, lower=lower)
        if target is not None and curve:
            step = first_reaching(curve, metric, target[1], lower=lower)
            races.append(_Race(target[0], step, int(curve[0]["step"])))
    return races


def paper_table(study: Study) -> str:
    """The paper's own rows: other data, sizes and evaluators, so for the direction of differences alone."""
    shown = ("fid", "r_precision_3", "skating")
    rows = [["the paper's figures", *(METRICS[m][0] for m in shown)]]
    for number in study.tables:
        for table in tables_of(number):
            for row in table.rows:
                cells = [row.cells.get(m) for m in shown]
                told = ["–" if cell is None else f"{cell['mean']:g}" for cell in cells]
                if any(cells):
                    rows.append([f"{row.method} (Table {number}, {table.dataset})", *told])
    return markdown(rows) if len(rows) > 1 else ""


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, the first the titles."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _difference(results: Results, arm: str, than: str, metric: str) -> Estimate | None:
    return paired(by_seed(results.get(arm, {}), metric), by_seed(results.get(than, {}), metric))


def _signed(difference: Estimate | None) -> str:
    if difference is None:
        return NOT_RUN
    if difference.half is None:
        return f"{difference.mean:+.3f}"
    told = f"{difference.mean:+.3f} ± {difference.half:.3f}"
    return f"**{told}**" if abs(difference.mean) > difference.half else told


def _truth(result: Result, metric: str) -> float | None:
    if metric == "attributes":
        values = [value for name, value in result.truth.items() if name.startswith("attribute_")]
        return sum(values) / len(values) if values else None
    return result.truth.get(metric)
