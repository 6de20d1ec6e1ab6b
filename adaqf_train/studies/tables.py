"""A study's results as Markdown: figures, paired differences, verdicts, and the paper's rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from statistics import median

from adaqf_train.evaluation.curve_report import comparison_row
from adaqf_train.studies import guidance
from adaqf_train.studies.metrics import METRICS
from adaqf_train.studies.paper import tables_of
from adaqf_train.studies.results import Result, by_seed, mean_attribute
from adaqf_train.studies.schema import Claim, Study
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

WIDE = 12  # a table of more metrics has a row for each metric instead of a column
NOT_RUN = "*not run*"
NONE = "–"
Results = Mapping[str, Mapping[int, Result]]  # {arm: {seed: result}}


def figures_table(study: Study, results: Results) -> str:
    """Mean ± interval over seeds, a row for each arm, below the ground truth's row if it has figures."""
    shown = _shown(study, results)
    rows = [["", *(METRICS[metric][0] for metric in shown), "seeds"]]
    # The reference's ground truth comes first: other arms may have other extractors.
    in_order = [results.get(study.reference, {}), *results.values()]
    first = next((result for found in in_order for result in found.values()), None)
    for title, real in (("ground truth", first.truth), ("real, disjoint half", first.floor)) if first else ():
        cells = [mean_attribute(real) if metric == "attributes" else real.get(metric) for metric in shown]
        if any(value is not None for value in cells):
            rows.append([title, *(NONE if value is None else f"{value:.3f}" for value in cells), ""])
    for name, arm in study.arms.items():
        found = results.get(name, {})
        means = [_mean(by_seed(found, metric)) for metric in shown] if found else [NOT_RUN] * len(shown)
        rows.append([arm.title, *means, str(len(found))])
    return _table(rows, transposed=len(shown) > WIDE)


def differences_table(study: Study, results: Results) -> str:
    """Each arm minus its reference, paired by seed; bold if the whole interval lies on one side of zero."""
    shown = [metric for metric in _shown(study, results) if METRICS[metric][1] is not None]
    rows = [["", "minus", *(METRICS[metric][0] for metric in shown)]]
    for name, against in _compared(study):
        if results.get(name):
            cells = [_signed(_difference(results, name, against, metric)) for metric in shown]
            rows.append([study.arms[name].title, study.arms[against].title, *cells])
    return _table(rows, transposed=len(shown) > WIDE)


def verdicts_table(study: Study, results: Mapping[str, Results]) -> str:
    """The study's claims on each data set. results: {data set: {arm: {seed: result}}}."""
    rows = [["claim", "data", "power 80 % from", "difference", "seeds", "verdict"]]
    for claim in study.claims:
        decide = _decide_speed if claim.share is not None else _decide_along if claim.along else _decide_difference
        for data, found in results.items():
            cells, decided = decide(claim, found, study.seeds)
            rows.append([claim.text, data, *cells, f"**{decided}**"])
    return _table(rows)


def _decide_difference(claim: Claim, found: Results, seeds: int) -> tuple[list[str], Verdict]:
    difference = _difference(found, claim.arm, claim.than, claim.metric)
    return _decided(difference, seeds, lower=bool(METRICS[claim.metric][1]))


def _decide_along(claim: Claim, found: Results, seeds: int) -> tuple[list[str], Verdict]:
    ours, theirs = (found.get(arm, {}) for arm in (claim.arm, claim.than))
    shared = len(guidance.curves_of(ours).keys() & guidance.curves_of(theirs).keys())
    difference = guidance.along(guidance.compared(ours, theirs), claim.along, shared)
    cells, decided = _decided(difference, seeds, lower=claim.along != "precision")
    if difference is None and shared:
        cells = [NONE, "the curves do not meet", str(shared)]
    return cells, decided


def _decided(difference: Estimate | None, seeds: int, *, lower: bool) -> tuple[list[str], Verdict]:
    sees = None if difference is None else difference.sees
    cells = [NONE if sees is None else f"{sees:.3f}", _signed(difference), str(difference.seeds if difference else 0)]
    return cells, verdict(difference, lower=lower, seeds=seeds)


def _decide_speed(claim: Claim, found: Results, seeds: int) -> tuple[list[str], Verdict]:
    races = _races(found, claim.arm, claim.than, claim.metric, claim.way)
    votes = [race.within(claim.share) for race in races]
    shares = ", ".join(f"{race}{' (too coarse)' * (vote is None)}" for race, vote in zip(races, votes, strict=True))
    return [NONE, f"shares {shares}" if races else NOT_RUN, str(len(races))], verdict_on_votes(votes, seeds=seeds)


def guidance_table(study: Study, results: Results) -> str:
    """The points of every arm's curve over guidance, as means over seeds, on test and on val."""
    rows = [["", "guidance", "FID ↓", "R@3 ↑", "FID on val ↓", "R@3 on val ↑", "chosen by"]]
    for name, arm in study.arms.items():
        rows += guidance.points_rows(arm.title, results.get(name, {}))
    return _table(rows)


def along_table(study: Study, results: Results) -> str:
    """Each arm's curve minus its reference's: FID at the same R@3, R@3 at the same FID, area between them."""
    rows: list[list[str]] = []
    for name, against in _compared(study):
        found = guidance.compared(results.get(name, {}), results.get(against, {}))
        if found is not None:
            cells = comparison_row(found)
            rows = rows or [["", "minus", *cells]]
            rows.append([study.arms[name].title, study.arms[against].title, *cells.values()])
    return _table(rows)


def convergence_table(study: Study, results: Results) -> str:
    """Steps until an arm's curve on val reaches its reference's best, for each seed, and the median share of steps.

    A seed in which the arm never reaches it counts as slower than all others.
    """
    rows = [["", "compared with", "metric", "its best at step", "reached at step", "share of its steps"]]
    for name, against in _compared(study):
        for metric in ("fid", "r_precision_3"):
            if races := _races(results, name, against, metric):
                titles = study.arms[name].title, study.arms[against].title, METRICS[metric][0]
                rows.append([*titles, *_race_cells(races)])
    return _table(rows)


def ways_table(study: Study, results: Results) -> str:
    """The same for the claims about a share of the way to the real motions' figure."""
    rows = [["", "compared with", "goal", "its goal at step", "reached at step", "share of its steps"]]
    for claim in (claim for claim in study.claims if claim.way is not None):
        if races := _races(results, claim.arm, claim.than, claim.metric, claim.way):
            titles = (study.arms[name].title for name in (claim.arm, claim.than))
            goal = f"{METRICS[claim.metric][0]}, {100 * claim.way:g} % of the way"
            rows.append([*titles, goal, *_race_cells(races)])
    return _table(rows)


def _race_cells(races: Sequence[_Race]) -> list[str]:
    """The steps of both arms for each seed, and the median share."""
    steps = ([race.target for race in races], [race.step for race in races])
    middle = median(race.share for race in races)
    cells = (", ".join("never" if step is None else str(step) for step in arm) for arm in steps)
    return [*cells, "never" if middle == math.inf else f"{middle:.2f}"]


def levels_table(study: Study, results: Results) -> str:
    """Masked tokens with fewer residual levels (Table 9's R0 to Rn)."""
    rows = [["", "residual levels", "FID ↓", "R@3 ↑"]]
    for name, arm in study.arms.items():
        for level in count():
            values = [by_seed(results.get(name, {}), f"{metric}_R{level}") for metric in ("fid", "r_precision_3")]
            if not all(values):
                break
            rows.append([arm.title, f"R{level}", *map(_mean, values)])
    return _table(rows)


def paper_table(study: Study) -> str:
    """The paper's own rows. Data, sizes and evaluators differ, so only the direction of differences compares."""
    shown = ("fid", "r_precision_3", "skating")
    rows = [["the paper's figures", *(METRICS[metric][0] for metric in shown)]]
    for table in (table for number in study.tables for table in tables_of(number)):
        for row in table.rows:
            cells = [row.cells.get(metric) for metric in shown]
            if any(cells):
                means = [NONE if cell is None else f"{cell['mean']:g}" for cell in cells]
                rows.append([f"{row.method} (Table {table.number}, {table.dataset})", *means])
    return _table(rows)


@dataclass(frozen=True)
class _Race:
    """How soon a curve reaches a goal, compared with another curve."""

    target: int | None  # step at which the other reaches it; None: never
    step: int | None  # None: never
    first: int  # step of the curve's first point

    @property
    def share(self) -> float:
        if self.step is None:
            return math.inf
        return self.step / self.target if self.target else 0.0

    def __str__(self) -> str:
        return "never" if self.step is None else f"{self.share:.2f}"

    def within(self, most: float) -> bool | None:
        """Whether it took at most that share of the steps; None if the first point is already later than that."""
        if self.share > most and self.step == self.first:
            return None
        return self.share <= most


def _races(results: Results, arm: str, than: str, metric: str, way: float | None = None) -> list[_Race]:
    """One for each seed in which both arms have a curve.

    The goal is the best point of `than`, or with a `way` that share of the way from its first point to the figure of
    the real motions.
    """
    lower, races = bool(METRICS[metric][1]), []
    for seed in sorted(results.get(arm, {}).keys() & results.get(than, {}).keys()):
        curve, other = results[arm][seed].curve, results[than][seed]
        point = best(other.curve, metric, lower=lower)
        if point is None or not curve:
            continue
        target, goal = point
        if way is not None:
            start = other.curve[0][metric]
            goal = start + way * (other.truth[metric] - start)
            target = first_reaching(other.curve, metric, goal, lower=lower)
        races.append(_Race(target, first_reaching(curve, metric, goal, lower=lower), int(curve[0]["step"])))
    return races


def _compared(study: Study) -> Iterator[tuple[str, str]]:
    for name in study.arms:
        if (against := study.against(name)) != name:
            yield name, against


def _shown(study: Study, results: Results) -> list[str]:
    return [metric for metric in study.metrics if any(by_seed(found, metric) for found in results.values())]


def _mean(values: Mapping[int, float]) -> str:
    return str(estimate(list(values.values()))) if values else NONE


def _difference(results: Results, arm: str, than: str, metric: str) -> Estimate | None:
    return paired(by_seed(results.get(arm, {}), metric), by_seed(results.get(than, {}), metric))


def _signed(difference: Estimate | None) -> str:
    if difference is None:
        return NOT_RUN
    if difference.half is None:
        return f"{difference.mean:+.3f}"
    text = f"{difference.mean:+.3f} ± {difference.half:.3f}"
    return f"**{text}**" if abs(difference.mean) > difference.half else text


def _table(rows: Sequence[Sequence[str]], *, transposed: bool = False) -> str:
    """Rows of cells as Markdown, the titles first; "" for titles alone."""
    if len(rows) < 2:
        return ""
    rows = list(zip(*rows, strict=True)) if transposed else rows
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
