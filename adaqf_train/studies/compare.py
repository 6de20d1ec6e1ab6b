"""Reports side by side: tables with marks of significance, and the paper's rows below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adaclip.integrity import read_sealed
from adaqf_train.errors import ResultError
from adaqf_train.evaluation import curve_report
from adaqf_train.evaluation.columns import COLUMNS, LEARNED, PHYSICAL, YARDSTICKS, cell, sections
from adaqf_train.evaluation.curves import FID, PRECISION, ArmCurve
from adaqf_train.evaluation.retrieval import DIRECTIONS, TOPS
from adaqf_train.evaluation.scores import ATTRIBUTE, COVERAGE, JOINTS, OFFICIAL, UNSEEN
from adaqf_train.runs.layout import ADAQF, ARMS, BASELINE, RunLayout
from adaqf_train.studies.paper import RETRIEVAL, PaperTable
from adaqf_train.studies.statistics import differ, estimate

# Reports that differ in one of these follow different protocols: their figures do not belong in one column.
PROTOCOL = (
    *("protocol", "split", "data_fingerprint", "evaluator", "joint_evaluator", "official"),
    *("samples", "pool", "diversity_pairs", "replications", "multimodality", "guidance_rule", "procedural"),
)
# Reports of other programs' motions cannot have these, and their other figures still compare.
OPTIONAL = ("joint_evaluator", "official", "multimodality", "guidance_rule", "procedural")
PAIRED = ("fid", "r_precision_3", "mm_dist", "skating")  # metrics whose differences over runs are shown

Row = Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True)
class Comparison:
    """Tables by title, each row with its name and its cells as text, and the notes below them."""

    tables: dict[str, list[dict[str, str]]]
    notes: tuple[str, ...]

    def markdown(self) -> str:
        return "\n".join([*sections(self.tables.items()), *(f"* {note}" for note in self.notes)])


def compare(paths: Sequence[Path], paper: Sequence[PaperTable] = (), *, mix: bool = False) -> Comparison:
    """Put reports, `report.json` files or runs that have one, side by side, with one ground-truth row if they share it.

    Figures that differ from the first report's row of the same name are marked *, those that differ from the baseline
    of their own report †, by Welch's test on the replications (`statistics.differ`). That test does not include the
    variation over training seeds; the paired differences of reports with both a baseline and AdaQF do. ResultError
    for reports of different protocols, unless `mix` allows them, with a note.
    """
    if not paths:
        raise ResultError("Name at least one report.json.")
    reports = [_read(path) for path in paths]
    differing, unknown = _differences(reports)
    if not differing:
        _check_distinct(paths, reports)
    if differing and not mix:
        values = "; ".join(f"{key}: {', '.join(str(r.get(key)) for r in reports)}" for key in differing)
        raise ResultError(f"These reports are of different protocols ({values}). Use one protocol, or pass --mix.")
    folders = [(path if path.is_dir() else path.parent).resolve().name for path in paths]
    labels = folders if len(set(folders)) == len(folders) else [str(path) for path in paths]
    rows = _rows(reports, labels)
    shared = {key: reports[0][key] for key in PROTOCOL if key not in differing and reports[0].get(key) is not None}
    used = {k: "/".join(map(str, v.values())) if isinstance(v, dict) else str(v)[:16] for k, v in shared.items()}
    notes = [f"Protocol: {', '.join(f'{key} {value}' for key, value in used.items())}."]  # hashes are cut
    if differing:
        notes.append(f"**Mixed protocols**: {', '.join(differing)} differ, so columns do not compare across reports.")
    if unknown:
        notes.append(f"Not every report states its {', '.join(unknown)}, so they may differ.")
    if any(report.get("comparable") is False for report in reports):
        notes.append("**Not comparable** with the literature: the official evaluators' ground truth is off.")
    notes.append(
        f"\\* differs from {labels[0]}'s row of that name, † from the baseline of its own report: p < 0.05 by Welch's "
        "t-test over replications, which does not include the variation over training seeds."
    )
    if not differing:
        notes += _over_runs(reports)
    beside = [
        (f"{row.method} ({row.source}, Table {table.number}, {table.dataset})", row.cells)
        for table in paper
        for row in table.rows
    ]
    notes += [
        f"Rows of Table {table.number} are the paper's own figures, by the official evaluators on {table.dataset}: "
        "not comparable with rows by another evaluator, size or data set."
        for table in paper
    ]
    return Comparison(_tables(rows, beside, reports, labels), tuple(notes))


def _differences(reports: Sequence[dict]) -> tuple[list[str], list[str]]:
    """Keys of the protocol in which reports differ, and keys that reports of an older version lack."""
    differing, unknown = [], []
    for key in PROTOCOL:
        values = [report[key] for report in reports if key in report]
        if not values and key in OPTIONAL:
            continue
        if len({str(value) for value in values if value is not None or key not in OPTIONAL}) > 1:
            differing.append(key)
        if len(reports) > 1 and len(values) < len(reports):
            unknown.append(key)
    return differing, unknown


def _rows(reports: Sequence[dict], labels: Sequence[str]) -> dict[str, Row]:
    """The rows of all reports by their names in the tables, with marks of significance."""
    rows: dict[str, Row] = {}
    first = reports[0]["rows"]
    for number, (label, report) in enumerate(zip(labels, reports, strict=True)):
        for name, row in report["rows"].items():
            if name in YARDSTICKS and number and row == first.get(name):
                continue
            against = {"*": first.get(name) if number else None}
            if name not in (*YARDSTICKS, BASELINE):
                against["†"] = report["rows"].get(BASELINE)
            own = "gt" if name == "gt" and not number else f"{label} {name}"
            n = report.get("replications", 0)
            rows[own] = {}
            for metric, figure in row.items():
                compared = {mark: other[metric] for mark, other in against.items() if other and metric in other}
                marks = [mark for mark, other in compared.items() if differ(figure, other, n)]
                rows[own][metric] = dict(figure) | {"marks": "".join(marks)}
    return rows


def _tables(
    rows: Mapping[str, Row], beside: Sequence[tuple[str, Row]], reports: Sequence[dict], labels: Sequence[str]
) -> dict[str, list[dict[str, str]]]:
    """The tables that have any figures. beside: the paper's rows."""
    ours = list(rows.items())
    named = list(dict.fromkeys(name for _, row in ours for name in row))
    # The paper's figures come from the official evaluators, and stand beside theirs if there are any.
    official = any(name.startswith(OFFICIAL) for name in named)
    theirs = [(name, {OFFICIAL + metric: figure for metric, figure in row.items()}) for name, row in beside]
    retrieval = [
        (f"{label} {judge}", sets["pools"])
        for label, report in zip(labels, reports, strict=True)
        for judge, sets in report.get("retrieval", {}).items()
    ]
    groups = {
        "By the independent evaluator": (LEARNED, ours if official else [*ours, *beside]),
        "By the second evaluator, which reads decoded joints": (
            {JOINTS + name: title for name, title in LEARNED.items()},
            ours,
        ),
        "By the official evaluators": (
            {OFFICIAL + name: title for name, title in LEARNED.items()},
            [*ours, *theirs] if official else [],
        ),
        "Physics": (PHYSICAL, [*ours, *beside]),
        "Attribute accuracy": (_attributes(named, ATTRIBUTE), ours),
        "Prompts in which an attribute was understood, of those that mention it": (_attributes(named, COVERAGE), ours),
        "Attribute accuracy, unseen combinations": (_attributes(named, UNSEEN + ATTRIBUTE), ours),
        "Retrieval of real motions, in pools": (
            dict(zip(RETRIEVAL, (f"{way} R@{k}" for way in DIRECTIONS.values() for k in TOPS), strict=True)),
            [*retrieval, *beside],
        ),
    }
    tables = _along(reports, labels)
    for title, (columns, candidates) in groups.items():
        shown = {name: label for name, label in columns.items() if any(name in row for _, row in candidates)}
        found = [(name, row) for name, row in candidates if any(metric in row for metric in shown)]
        if found:
            tables[title] = [
                {"model": name} | {label: cell(row.get(metric)) for metric, label in shown.items()}
                for name, row in found
            ]
    return tables


def _along(reports: Sequence[dict], labels: Sequence[str]) -> dict[str, list[dict[str, str]]]:
    """Each model's curve, minus its own report's baseline and minus the first report's model of its name."""
    curves = [{name: ArmCurve.of(curve) for name, curve in report.get("curves", {}).items()} for report in reports]
    rows = []
    for number, (label, own) in enumerate(zip(labels, curves, strict=True)):
        for name, curve in own.items():
            others = {f"{label} {BASELINE}": own.get(BASELINE) if name != BASELINE else None}
            others[f"{labels[0]} {name}"] = curves[0].get(name) if number else None
            for title, other in others.items():
                found = other and curve_report.against(curve, other)
                if found:
                    mine = {"model": f"{label} {name} (guidance {curve.chosen:g})", "minus": title}
                    rows.append(mine | curve_report.comparison_row(found))
    return {"Along the curves over guidance": rows} if rows else {}


def _is_figure(figure: object) -> bool:
    """Whether this is a mean with its interval, either of which may be void."""
    if not isinstance(figure, dict) or not {"mean", "ci95"} <= figure.keys():
        return False
    return all(figure[part] is None or isinstance(figure[part], int | float) for part in ("mean", "ci95"))


def _parts_hold(report: dict) -> bool:
    """Whether the retrieval and the curves of a report, if it has them, are complete."""
    try:
        judges = [sets["pools"] for sets in report.get("retrieval", {}).values()]
        curves = [ArmCurve.of(curve) for curve in report.get("curves", {}).values()]
    except (AttributeError, KeyError, TypeError, ValueError):
        return False
    return all(isinstance(pools, dict) and all(map(_is_figure, pools.values())) for pools in judges) and all(
        {FID, PRECISION} <= row.keys() for curve in curves for rows in curve.test.values() for row in rows
    )


def _check_distinct(paths: Sequence[Path], reports: Sequence[dict]) -> None:
    """ResultError for two reports on the same weights, which would count as two seeds."""
    seen: dict[str, Path] = {}
    for path, report in zip(paths, reports, strict=True):
        models = report.get("models")
        key = models.get(ADAQF, str(models)) if isinstance(models, dict) and models else None
        if key in seen:
            raise ResultError(f"{path}: scores the same weights as {seen[key]}, so it is no other run. Leave one out.")
        seen |= {} if key is None else {key: path}


def _attributes(names: Sequence[str], prefix: str) -> dict[str, str]:
    return {name: name.removeprefix(prefix) for name in names if name.startswith(prefix)}


def _over_runs(reports: Sequence[dict]) -> list[str]:
    """AdaQF minus the baseline, paired by run, so that the intervals include the variation over training seeds."""
    both = [report["rows"] for report in reports if all(arm in report["rows"] for arm in ARMS)]
    if len(both) < 2:
        return []
    differences = []
    for metric in PAIRED:
        if all(metric in rows[arm] for rows in both for arm in ARMS):
            found = estimate([rows[ADAQF][metric]["mean"] - rows[BASELINE][metric]["mean"] for rows in both])
            mark = " *" if abs(found.mean) > found.half else ""
            differences.append(f"{COLUMNS[metric]} {found.mean:+.3f} ± {found.half:.3f}{mark}")
    text = "; ".join(differences)
    return [f"AdaQF minus its own baseline, paired over {len(both)} runs (mean ± 95 % by Student's t): {text}."]


def _read(path: Path) -> dict:
    path = RunLayout(path).report if path.is_dir() else path
    if not path.is_file():
        raise ResultError(f"{path}: missing. Give a report.json, or a run that has one.")
    report = read_sealed(path, "Write a new one with: adaqf evaluate.")
    if not isinstance(report.get("rows"), dict) or not report["rows"]:
        raise ResultError(f"{path}: holds no rows, so it is not a report. Write one with: adaqf evaluate.")
    figures = [cell for row in report["rows"].values() for cell in (row.values() if isinstance(row, dict) else [row])]
    if not (all(map(_is_figure, figures)) and isinstance(report.get("replications", 1), int) and _parts_hold(report)):
        raise ResultError(f"{path}: a damaged report, or another program's. Write a new one with: adaqf evaluate.")
    return report
