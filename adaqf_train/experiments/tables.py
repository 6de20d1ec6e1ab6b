"""A study's results as Markdown: figures, paired differences, verdicts, and the paper's rows beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count

from adaqf_train.experiments.metrics import METRICS
from adaqf_train.experiments.paper import tables_of
from adaqf_train.experiments.results import Result, by_seed
from adaqf_train.experiments.statistics import (
    Estimate,
    Verdict,
    best,
    estimate,
    first_reaching,
    paired,
    verdict,
    verdict_on_shares,
)
from adaqf_train.experiments.studies import Claim, Study

WIDE = 12  # metrics; tables of more have a row a metric
NOT_RUN = "*not run*"
Results = Mapping[str, Mapping[int, Result]]  # {arm: {seed: result}}


def figures_table(study: Study, results: Results) -> str:
    """Mean ± interval over seeds, a row an arm; the ground truth first, where it has figures.

    Of many metrics the table has a row each, and a column an arm.
    """
    shown = [metric for metric in study.metrics if any(by_seed(found, metric) for found in results.values())]
    rows = [["", *(METRICS[m][0] for m in shown), "seeds"]]
    truth = next((result for found in results.values() for result in found.values()), None)
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
            cells, told = (_differs if claim.share is None else _hastens)(claim, found)
            rows.append([claim.text, data, *cells, f"**{told}**"])
    return markdown(rows) if len(rows) > 1 else ""


def _differs(claim: Claim, found: Results) -> tuple[list[str], Verdict]:
    difference = _difference(found, claim.arm, claim.than, claim.metric)
    told = verdict(difference, lower=bool(METRICS[claim.metric][1]))
    return [_signed(difference), str(difference.seeds if difference else 0)], told


def _hastens(claim: Claim, found: Results) -> tuple[list[str], Verdict]:
    race = _race(found, claim.arm, claim.than, claim.metric)
    told = ", ".join("never" if share is None else f"{share:.2f}" for _, _, share in race)
    return [f"shares {told}" if race else NOT_RUN, str(len(race))], verdict_on_shares(
        [share for _, _, share in race], claim.share
    )


def convergence_table(study: Study, results: Results, metrics: Sequence[str] = ("fid", "r_precision_3")) -> str:
    """Steps until an arm's curve on val is as good as the best of the arm it is set against, seed by seed, and the
    median share. "" where nothing has a curve.

    A seed in which the arm never gets there is told as such, and counts as slower than all others.
    """
    rows = [["", "set against", "metric", "whose best is at step", "reached at step", "share of its steps"]]
    for name, arm in study.arms.items():
        against = study.against(name)
        for metric in metrics if name != against else ():
            race = _race(results, name, against, metric)
            if not race:
                continue
            shares = sorted(share if share is not None else float("inf") for _, _, share in race)
            middle = shares[len(shares) // 2]
            rows.append(
                [
                    arm.title,
                    study.arms[against].title,
                    METRICS[metric][0],
                    ", ".join(str(target) for target, _, _ in race),
                    ", ".join("never" if step is None else str(step) for _, step, _ in race),
                    "never" if middle == float("inf") else f"{middle:.2f}",
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


def _race(results: Results, arm: str, than: str, metric: str) -> list[tuple[int, int | None, float | None]]:
    """(step of the best point of `than`, step at which `arm` is as good, their ratio) by seed; None: never."""
    lower, race = bool(METRICS[metric][1]), []
    for seed in sorted(results.get(arm, {}).keys() & results.get(than, {}).keys()):
        target = best(results[than][seed].curve, metric, lower=lower)
        if target is not None and results[arm][seed].curve:
            step = first_reaching(results[arm][seed].curve, metric, target[1], lower=lower)
            race.append((target[0], step, None if step is None else step / target[0]))
    return race


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
