"""Reports side by side, with what can be told from their intervals, and the paper's rows below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adaclip.files import read_json
from adaqf_train.errors import ProtocolError, ResultError
from adaqf_train.evaluation.columns import COLUMNS, LEARNED, PHYSICAL, cell, markdown
from adaqf_train.evaluation.real_retrieval import DIRECTIONS
from adaqf_train.evaluation.retrieval import TOPS
from adaqf_train.evaluation.scores import ATTRIBUTE, COVERAGE, OFFICIAL, UNSEEN
from adaqf_train.runs.folder import RunLayout
from adaqf_train.studies.paper import RETRIEVAL, PaperTable
from adaqf_train.studies.statistics import differ, estimate

# Reports that differ in one of these were taken by different protocols: their figures do not belong in one column.
PROTOCOL = (
    "protocol",
    "split",
    "data_fingerprint",
    "evaluator",
    "official",
    "samples",
    "pool",
    "diversity_pairs",
    "replications",
    "multimodality",
)
# A report of motions that were there already cannot have them: that takes nothing from the figures beside it.
OPTIONAL = ("official", "multimodality")
ARMS = ("baseline", "adaqf")
PAIRED = ("fid", "r_precision_3", "mm_dist", "skating")  # of which differences over runs are told

Row = Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True)
class Comparison:
    """Tables by title, each row its name and its cells as text, and the words that belong under them."""

    tables: dict[str, list[dict[str, str]]]
    notes: tuple[str, ...]

    def markdown(self) -> str:
        lines = []
        for title, rows in self.tables.items():
            lines += [f"{title}:", "", *markdown(rows), ""]
        return "\n".join([*lines, *(f"* {note}" for note in self.notes)])


def compare(paths: Sequence[Path], paper: Sequence[PaperTable] = (), *, mix: bool = False) -> Comparison:
    """Puts reports (`report.json` files, or runs that hold one) side by side.

    One ground-truth row when the reports share it. Figures that differ from the first report's row of the same name
    bear a *, from their own report's baseline a †: by Welch's test on the replications (`statistics.differ`), which
    knows nothing of other training seeds. Reports that have both a baseline and AdaQF are also compared in pairs, which
    does. mix: allow reports of different protocols, and say so. Raises ProtocolError when they differ and `mix` is off,
    ResultError for what is no report.
    """
    if not paths:
        raise ProtocolError("Name at least one report.json.")
    reports = [_read(path) for path in paths]
    differing, untold = _differences(reports)
    if differing and not mix:
        values = "; ".join(f"{key}: {', '.join(str(r.get(key)) for r in reports)}" for key in differing)
        raise ProtocolError(f"These reports are of different protocols ({values}). Evaluate them alike, or pass --mix.")
    labels = _labels(paths)
    rows = _rows(reports, labels)
    shared = {key: reports[0][key] for key in PROTOCOL if key not in differing and reports[0].get(key) is not None}
    notes = [f"Protocol: {', '.join(f'{key} {_short(value)}' for key, value in shared.items())}."]
    if differing:
        notes.append(f"**Mixed protocols**: {', '.join(differing)} differ, so columns do not compare across reports.")
    if untold:
        notes.append(f"Not every report says its {', '.join(untold)}: whether they are the same is not known.")
    if any(report.get("comparable") is False for report in reports):
        notes.append("**Not comparable** with the literature: the official evaluators' ground truth is off.")
    notes.append(
        f"\\* differs from {labels[0]}'s row of that name, † from the baseline of its own report: p < 0.05 by Welch's "
        "t-test over replications; training seeds are noise besides."
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
    """Keys of the protocol in which reports differ, and those that some of them, of an older version, do not have."""
    differing, untold = [], []
    for key in PROTOCOL:
        told = [report[key] for report in reports if key in report]
        if key in OPTIONAL:
            told = [value for value in told if value is not None]
        if len({str(value) for value in told}) > 1:
            differing.append(key)
        if len(reports) > 1 and not all(key in report for report in reports):
            untold.append(key)
    return differing, untold


def _rows(reports: Sequence[dict], labels: Sequence[str]) -> dict[str, Row]:
    """Every row by its name in the tables, with marks of significance."""
    rows: dict[str, Row] = {}
    first = reports[0]["rows"]
    for number, (label, report) in enumerate(zip(labels, reports, strict=True)):
        for name, row in report["rows"].items():
            if name == "gt" and number and row == first.get("gt"):
                continue
            against = {"*": first.get(name) if number else None}
            if name not in ("gt", "baseline"):
                against["†"] = report["rows"].get("baseline")
            own = "gt" if name == "gt" and not number else f"{label} {name}"
            n = report.get("replications")
            rows[own] = {metric: _marked(metric, figure, against, n) for metric, figure in row.items()}
    return rows


def _marked(metric: str, figure: Mapping, against: Mapping[str, Row | None], replications: int | None) -> dict:
    marks = [
        mark
        for mark, other in against.items()
        if other and metric in other and replications and differ(figure, other[metric], replications)
    ]
    return dict(figure) | {"marks": "".join(marks)}


def _tables(
    rows: Mapping[str, Row], beside: Sequence[tuple[str, Row]], reports: Sequence[dict], labels: Sequence[str]
) -> dict[str, list[dict[str, str]]]:
    """Learned figures, those of the official evaluators, physics, attributes, retrieval: what there is of them."""
    ours = list(rows.items())
    named = list(dict.fromkeys(name for _, row in ours for name in row))
    # The paper's figures are by the official evaluators, and stand beside those where there are any.
    official = any(name.startswith(OFFICIAL) for name in named)
    theirs = [(name, {OFFICIAL + metric: figure for metric, figure in row.items()}) for name, row in beside]
    groups = {
        "By the independent evaluator": (LEARNED, ours if official else [*ours, *beside]),
        "By the official evaluators": (
            {OFFICIAL + name: title for name, title in LEARNED.items()},
            [*ours, *theirs] if official else [],
        ),
        "Physics": (PHYSICAL, [*ours, *beside]),
        "Attribute accuracy": (_attributes(named, ATTRIBUTE), ours),
        "Prompts in which an attribute was understood, of those that mention it": (_attributes(named, COVERAGE), ours),
        "Attribute accuracy, unseen combinations": (_attributes(named, UNSEEN + ATTRIBUTE), ours),
        "Retrieval of real motions, pools of 32": (
            dict(zip(RETRIEVAL, (f"{way} R@{k}" for way in DIRECTIONS.values() for k in TOPS), strict=True)),
            [*_retrieval(reports, labels), *beside],
        ),
    }
    tables = {}
    for title, (columns, candidates) in groups.items():
        shown = {name: label for name, label in columns.items() if any(name in row for _, row in candidates)}
        found = [(name, row) for name, row in candidates if any(metric in row for metric in shown)]
        if found:
            tables[title] = [
                {"model": name} | {label: _written(row.get(metric)) for metric, label in shown.items()}
                for name, row in found
            ]
    return tables


def _attributes(names: Sequence[str], prefix: str) -> dict[str, str]:
    return {name: name.removeprefix(prefix) for name in names if name.startswith(prefix)}


def _retrieval(reports: Sequence[dict], labels: Sequence[str]) -> list[tuple[str, Row]]:
    return [
        (f"{label} {judge}", sets["pools"])
        for label, report in zip(labels, reports, strict=True)
        for judge, sets in report.get("retrieval", {}).items()
    ]


def _over_runs(reports: Sequence[dict]) -> list[str]:
    """AdaQF against the baseline in pairs, a pair a run: what other training seeds do is in these intervals."""
    both = [report["rows"] for report in reports if all(arm in report["rows"] for arm in ARMS)]
    if len(both) < 2:
        return []
    told = []
    for metric in PAIRED:
        if all(metric in rows[arm] for rows in both for arm in ARMS):
            found = estimate([rows["adaqf"][metric]["mean"] - rows["baseline"][metric]["mean"] for rows in both])
            mark = " *" if abs(found.mean) > found.half else ""
            told.append(f"{COLUMNS[metric]} {found.mean:+.3f} ± {found.half:.3f}{mark}")
    return [
        f"AdaQF less its own baseline, paired over {len(both)} runs (mean ± 95 % by Student's t): {'; '.join(told)}."
    ]


def _read(path: Path) -> dict:
    path = RunLayout(path).report if path.is_dir() else path
    if not path.is_file():
        raise ResultError(f"{path}: missing. Give a report.json, or a run that has one.")
    report = read_json(path)
    if not isinstance(report.get("rows"), dict) or not report["rows"]:
        raise ResultError(f"{path}: holds no rows, so it is no report. Write it with: adaqf evaluate.")
    whole = isinstance(report.get("retrieval", {}), dict) and isinstance(report.get("replications", 1), int)
    for row in report["rows"].values():
        cells = row.values() if isinstance(row, dict) else [None]
        whole = whole and all(isinstance(cell, dict) and {"mean", "ci95"} <= cell.keys() for cell in cells)
    if not whole:
        raise ResultError(f"{path}: a damaged report, or another program's. Write it again with: adaqf evaluate.")
    return report


def _labels(paths: Sequence[Path]) -> list[str]:
    """Short names that tell the reports apart: the run's folder, or the whole path where that is not enough."""
    folders = [(path if path.is_dir() else path.parent).resolve().name for path in paths]
    return folders if len(set(folders)) == len(folders) else [str(path) for path in paths]


def _short(value: object) -> str:
    """A value of the protocol, for people: of a hash, its beginning."""
    if isinstance(value, dict):
        return "/".join(map(str, value.values()))
    return str(value)[:16]


def _written(figure: Mapping | None) -> str:
    marks = figure.get("marks") if figure else None
    return f"{cell(figure)} {marks}" if marks else cell(figure)
