"""A study's results as Markdown: figures, paired differences, verdicts, and the paper's rows beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from adaqf_train.experiments.paper import tables_of
from adaqf_train.experiments.results import Result, by_seed
from adaqf_train.experiments.statistics import Estimate, best, estimate, first_reaching, paired, verdict
from adaqf_train.experiments.studies import Study

# In the order they are shown: title, and whether smaller is better (None: neither).
METRICS: dict[str, tuple[str, bool | None]] = {
    "fid": ("FID ↓", True),
    "r_precision_1": ("R@1 ↑", False),
    "r_precision_3": ("R@3 ↑", False),
    "delta": ("R@3 − GT", None),
    "gap": ("extractors' gap ↓", True),
    "attributes": ("attributes ↑", False),
    "minimal_pairs": ("minimal pairs ↑", False),
    "mm_dist": ("MM-dist ↓", True),
    "skating": ("skating ↓", True),
}
NOT_RUN = "*not run*"
Results = Mapping[str, Mapping[int, Result]]  # {arm: {seed: result}}


def figures_table(study: Study, results: Results) -> str:
    """Mean ± interval over seeds, a row an arm; the ground truth first."""
    shown = [metric for metric in METRICS if any(by_seed(found, metric) for found in results.values())]
    rows = [["", *(METRICS[m][0] for m in shown), "seeds"]]
    truth = next((result for found in results.values() for result in found.values()), None)
    if truth is not None:
        real = {m: _truth(truth, m) for m in shown}
        rows.append(["ground truth", *("–" if real[m] is None else f"{real[m]:.3f}" for m in shown), ""])
    for name, arm in study.arms.items():
        found = results.get(name, {})
        cells = (by_seed(found, m) for m in shown)
        told = [str(estimate(list(values.values()))) if values else "–" for values in cells] if found else []
        rows.append([arm.title, *(told or [NOT_RUN] * len(shown)), str(len(found))])
    return markdown(rows)


def differences_table(study: Study, results: Results) -> str:
    """Each arm minus the reference, paired by seed; bold where the whole interval lies on one side of zero."""
    shown = [m for m, (_, lower) in METRICS.items() if lower is not None]
    shown = [m for m in shown if by_seed(results.get(study.reference, {}), m)]
    rows = [[f"minus {study.arms[study.reference].title}", *(METRICS[m][0] for m in shown)]]
    for name, arm in study.arms.items():
        if name == study.reference or not results.get(name):
            continue
        rows.append([arm.title, *(_signed(_difference(results, name, study.reference, m)) for m in shown)])
    return markdown(rows) if len(rows) > 1 else ""


def verdicts_table(study: Study, results: Mapping[str, Results]) -> str:
    """The study's claims on each data set. results: {data set: {arm: {seed: result}}}."""
    rows = [["claim", "data", "difference", "seeds", "verdict"]]
    for claim in study.claims:
        for data, found in results.items():
            difference = _difference(found, claim.arm, claim.than, claim.metric)
            told = verdict(difference, lower=bool(METRICS[claim.metric][1]))
            cells = [_signed(difference), str(difference.seeds if difference else 0)]
            rows.append([claim.text, data, *cells, f"**{told}**"])
    return markdown(rows) if len(rows) > 1 else ""


def convergence_table(
    arms: Mapping[str, str], reference: str, results: Results, metrics: Sequence[str] = ("fid", "r_precision_3")
) -> str:
    """Steps until an arm's curve on val is as good as the reference's best on it, seed by seed, and the median share.

    arms: {name: title}. A seed in which the arm never gets there is told as such and leaves the share open.
    """
    rows = [["", "metric", "reference's best at step", "reached at step", "share of its steps"]]
    for name, title in arms.items():
        for metric in metrics:
            lower = bool(METRICS[metric][1])
            seeds = sorted(results.get(name, {}).keys() & results.get(reference, {}).keys())
            targets = {s: best(results[reference][s].curve, metric, lower=lower) for s in seeds}
            seeds = [s for s in seeds if targets[s] is not None]
            if not seeds:
                rows.append([title, METRICS[metric][0], NOT_RUN, NOT_RUN, "–"])
                continue
            reached = [first_reaching(results[name][s].curve, metric, targets[s][1], lower=lower) for s in seeds]
            shares = [None if step is None else step / targets[s][0] for s, step in zip(seeds, reached, strict=True)]
            rows.append(
                [
                    title,
                    METRICS[metric][0],
                    ", ".join(str(targets[s][0]) for s in seeds),
                    ", ".join("never" if step is None else str(step) for step in reached),
                    "open" if None in shares else f"{sorted(shares)[len(shares) // 2]:.2f}",
                ]
            )
    return markdown(rows)


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
