"""Every table of the AdaQF paper; `paper.toml` has the figures, each row with its source.

The figures are the paper's, errors included: its R-Precision exceeds that of real motions (.797 on HumanML3D), several
of its checkpoints were chosen by test FID (Tables 5 and 6), and its skating ratio is GMD's, without a length mask. They
come from the official evaluators on full-size data: figures of pocket-size runs are not comparable with them.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib.resources import files

from adaqf_train.errors import ConfigError


@dataclass(frozen=True)
class PaperRow:
    """A method's figures in a table of the paper."""

    method: str
    source: str  # whose figures they are
    cells: dict[str, dict[str, float | None]]  # {metric: {"mean", "ci95"}}; ci95 None if none is printed


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper on one data set."""

    number: int
    dataset: str
    rows: tuple[PaperRow, ...]


def _row(line: str, metrics: list[str], scale: float) -> PaperRow:
    method, source, cells = (part.strip() for part in line.split("|"))
    parsed = {}
    for metric, cell in zip(metrics, cells.split(), strict=True):
        if cell != "-":
            found = re.fullmatch(r"([\d.]+)(?:±([\d.]+))?", cell)
            mean, ci = (float(value) / scale if value else None for value in found.groups())
            parsed[metric] = {"mean": mean, "ci95": ci}
    return PaperRow(method, source, parsed)


_PAPER = tomllib.loads(files(__package__).joinpath("paper.toml").read_text(encoding="utf-8"))
RETRIEVAL: tuple[str, ...] = tuple(_PAPER["columns"]["retrieval"])  # metrics of Table 8
TABLES = tuple(
    PaperTable(
        table["number"],
        table["dataset"],
        tuple(
            _row(line, _PAPER["columns"][table["columns"]], 100 if table.get("percent") else 1)
            for line in table["rows"].strip().splitlines()
        ),
    )
    for table in _PAPER["table"]
)


def tables_of(number: int) -> tuple[PaperTable, ...]:
    """The tables of that number (Table 8 has one for each data set); ConfigError if the paper has none."""
    found = tuple(table for table in TABLES if table.number == number)
    if not found:
        raise ConfigError(f"The paper has no table {number} of results: choose 1 to 9.")
    return found
