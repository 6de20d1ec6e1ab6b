"""Reports side by side, with what can be told from their intervals, and the paper's rows below."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adaclip import AdaCLIPError
from adaclip.files import FileError, read_json
from adaqf_train.evaluation.report import COLUMNS
from adaqf_train.experiments.paper import PaperTable

# Reports that differ in one of these were taken by different protocols: their figures do not belong in one column.
PROTOCOL = ("split", "data_fingerprint", "evaluator", "samples", "pool", "diversity_pairs", "replications")


class ProtocolError(AdaCLIPError, ValueError):
    """Reports that cannot stand in one table; the message says in what they differ."""


@dataclass(frozen=True)
class Comparison:
    """Rows under their reports' names, and the words that belong under the table."""

    metrics: tuple[str, ...]
    rows: tuple[tuple[str, dict[str, dict[str, float]]], ...]
    notes: tuple[str, ...]

    def markdown(self) -> str:
        titles = ["model", *(COLUMNS[m] for m in self.metrics)]
        lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
        for name, row in self.rows:
            lines.append(f"| {name} | {' | '.join(_cell(row.get(m)) for m in self.metrics)} |")
        return "\n".join([*lines, "", *self.notes])


def compare(paths: Sequence[Path], paper: Sequence[PaperTable] = (), *, mix: bool = False) -> Comparison:
    """Puts reports (`report.json` files, or runs that hold one) side by side.

    One ground-truth row when the reports share it. A difference to the first report's row of the same name is marked *
    where it exceeds both 95 % intervals together, i.e. more than the replications' own noise; other seeds of training
    are noise too, which no report of one run shows. mix: allow reports of different protocols, and say so. Raises
    ProtocolError when they differ and `mix` is off, FileError for what is no report.
    """
    if not paths:
        raise ProtocolError("Name at least one report.json.")
    reports = [_read(path) for path in paths]
    differing = [key for key in PROTOCOL if len({str(report.get(key)) for report in reports}) > 1]
    if differing and not mix:
        values = "; ".join(f"{key}: {', '.join(str(r.get(key)) for r in reports)}" for key in differing)
        raise ProtocolError(f"These reports are of different protocols ({values}). Evaluate them alike, or pass --mix.")
    labels = _labels(paths)
    rows: list[tuple[str, dict]] = []
    for number, (label, report) in enumerate(zip(labels, reports, strict=True)):
        for name, row in report["rows"].items():
            first = reports[0]["rows"].get(name)
            if number and name == "gt" and row == first:
                continue
            rows.append((name if name == "gt" else f"{label} {name}", _marked(row, first) if number and first else row))
    notes = [f"Protocol: {', '.join(f'{key} {reports[0].get(key)}' for key in PROTOCOL if key not in differing)}."]
    if differing:
        notes.append(f"**Mixed protocols**: {', '.join(differing)} differ, so columns do not compare across reports.")
    if len(reports) > 1:
        notes.append(
            f"\\* differs from {labels[0]}'s row by more than both intervals; training seeds are noise besides."
        )
    for table in paper:
        place = f"Table {table.number}, {table.dataset}"
        rows += [(f"{row.method} ({row.source}, {place})", row.cells) for row in table.rows]
        notes.append(
            f"Rows of Table {table.number} are the paper's own figures, by the official evaluators on {table.dataset}: "
            "not comparable with rows by another evaluator, size or data set."
        )
    metrics = tuple(m for m in COLUMNS if any(m in row for _, row in rows))
    return Comparison(metrics, tuple(rows), tuple(notes))


def _read(path: Path) -> dict:
    path = path / "report.json" if path.is_dir() else path
    if not path.is_file():
        raise FileError(f"{path}: missing. Give a report.json, or a run that has one.")
    report = read_json(path)
    if not isinstance(report.get("rows"), dict) or not report["rows"]:
        raise FileError(f"{path}: holds no rows, so it is no report. Write it with: run.py evaluate.")
    return report


def _labels(paths: Sequence[Path]) -> list[str]:
    """Short names that tell the reports apart: the run's folder, or the whole path where that is not enough."""
    folders = [(path if path.is_dir() else path.parent).resolve().name for path in paths]
    return folders if len(set(folders)) == len(folders) else [str(path) for path in paths]


def _marked(row: dict, first: dict) -> dict:
    return {
        metric: cell | {"significant": _apart(cell, first[metric])} if metric in first else cell
        for metric, cell in row.items()
    }


def _apart(a: dict[str, float], b: dict[str, float]) -> bool:
    return abs(a["mean"] - b["mean"]) > math.hypot(a["ci95"], b["ci95"])


def _cell(cell: dict | None) -> str:
    if cell is None:
        return "–"
    ci = "" if cell["ci95"] is None else f" ± {cell['ci95']:.3f}"
    return f"{cell['mean']:.3f}{ci}{' *' if cell.get('significant') else ''}"
