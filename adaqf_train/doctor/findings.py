"""Findings and facts of an examination, and their presentation."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import partialmethod
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from adaqf_train.data.layout import Caption

Level = Literal["error", "warning", "note"]
COLOURS: dict[Level, str] = {"error": "bold red", "warning": "yellow", "note": "cyan"}
NAMED = 4  # places that a finding names; the others are counted


@dataclass(frozen=True)
class Finding:
    """A fault or peculiarity of a folder."""

    level: Level
    """error: training or evaluation stops or is wrong. warning: probably unintended. note: worth knowing."""
    what: str
    where: tuple[str, ...]  # the first places: files, with line or frame
    count: int  # number of all places
    remedy: str

    def places(self) -> str:
        """The places in one line."""
        more = self.count - len(self.where)
        return ", ".join(self.where) + (f" and {more:,} more" if more else "")


@dataclass(frozen=True)
class Clip:
    """A readable motion file."""

    name: str
    path: Path
    frames: int
    split: str | None  # None: in no list


@dataclass
class Examination:
    """The result of an examination."""

    folder: Path
    findings: list[Finding] = field(default_factory=list)  # errors first
    facts: dict[str, object] = field(default_factory=dict)
    clips: dict[str, Clip] = field(default_factory=dict)  # usable clips by name
    captions: dict[str, list[Caption]] = field(default_factory=dict)  # readable captions by clip name

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not any(finding.level == "error" for finding in self.findings)

    def add(self, level: Level, what: str, where: Iterable[str] | str, remedy: str) -> None:
        """Add a finding, unless it has no places."""
        places = [where] if isinstance(where, str) else list(where)
        if places:
            named = tuple(printable(place) for place in places[:NAMED])
            self.findings.append(Finding(level, printable(what), named, len(places), remedy))

    error = partialmethod(add, "error")
    warning = partialmethod(add, "warning")
    note = partialmethod(add, "note")

    def to_dict(self) -> dict[str, object]:
        """The examination as JSON can write it."""
        levels = [finding.level for finding in self.findings]
        return {
            "folder": printable(str(self.folder)),
            "ok": self.ok,
            "counts": {level: levels.count(level) for level in COLOURS},
            "findings": [asdict(finding) | {"where": list(finding.where)} for finding in self.findings],
            "facts": plain(self.facts),
        }

    def show(self, console: Console) -> None:
        """Print the facts, then the findings."""

        def cell(*parts: str | tuple[str, str]) -> Text:
            """Text, or texts with their style, in the encoding of the console."""
            styled = [(part, "") if isinstance(part, str) else part for part in parts]
            code = console.encoding
            return Text.assemble(*((t.encode(code, "backslashreplace").decode(code), style) for t, style in styled))

        facts = Table(title=cell(printable(str(self.folder))), show_header=False)
        facts.add_column(style="bold")
        facts.add_column(overflow="fold")
        for name, value in self.facts.items():
            facts.add_row(name.replace("_", " "), cell(as_text(value)))
        if self.facts:
            console.print(facts)
        table = Table(title="Findings", show_lines=True)
        for heading in ("level", "what and where", "what to do"):
            table.add_column(heading, overflow="fold")
        for finding in self.findings:
            what = cell(finding.what, "\n", (finding.places(), "dim"))
            table.add_row(cell((finding.level, COLOURS[finding.level])), what, cell(finding.remedy))
        if self.findings:
            console.print(table)
        counts = self.to_dict()["counts"]
        summary = ", ".join(f"{count} {level}{'s' * (count != 1)}" for level, count in counts.items())
        console.print(summary, style="green" if self.ok else "bold red", highlight=False)


def plain(value: object) -> object:
    """A fact for JSON, in which NaN and infinity do not exist."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    return value if not isinstance(value, float) or math.isfinite(value) else None


def as_text(value: object) -> str:
    """A fact for a table's cell."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {as_text(part)}" for name, part in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.3g}"
    return f"{value:,}" if isinstance(value, int) else printable(str(value))


def printable(text: str) -> str:
    """Text that any terminal can print: file names may contain line breaks and bytes that are not characters."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
