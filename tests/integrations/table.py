"""The table of the integrations' page, from the results of the tests against real checkouts.

Such a test names what it shows: `@pytest.mark.shows("{codebase}: edit")`, with its parameters in braces. Several tests
can carry one claim. With ADACLIP_RECORD=1, the end of a session enters a claim in integrations/tested.json if all tests
that carry it passed, and removes it if one failed. Select tests by file, by -m and by -k:

    ADACLIP_RECORD=1 ADACLIP_MDM=… python -m pytest -m slow tests/integrations
    python -m tests.integrations.table       # writes the table into integrations/README.md
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adaclip_integrations.codebases import NAMES

if TYPE_CHECKING:
    import pytest

PAGE = Path(__file__).resolve().parents[2] / "integrations" / "README.md"
TESTED = PAGE.with_name("tested.json")
CLAIM = "table"
WAYS = ("launcher", "edit")
COLUMNS = (*WAYS, "in Python", "trained", "resumed", "sampled", "evaluated", "record and guard")
START, END = "<!-- table of the tests -->\n", "<!-- end of the table -->\n"


class Results:
    """What the tests of a session say of each claim, `codebase: column` or `codebase: column by way`."""

    def __init__(self) -> None:
        self._carriers: dict[str, int] = {}
        self._passed: Counter[str] = Counter()
        self._failed: set[str] = set()

    def add(self, claim: str, carriers: int, phase: str, outcome: str) -> None:
        """Add a phase of a test: "setup", "call" or "teardown". `carriers`: tests that carry the claim, 0: unknown."""
        self._carriers[claim] = carriers
        if outcome == "failed":
            self._failed.add(claim)
        elif outcome == "passed" and phase == "call":
            self._passed[claim] += 1

    def enter(self, path: Path = TESTED) -> None:
        """Enter the claims of which all tests passed, and remove those of which one failed."""
        tested = json.loads(path.read_text()) if path.is_file() else {}
        for claim, carriers in self._carriers.items():
            codebase, _, column = claim.partition(": ")
            columns = set(tested.get(codebase, []))
            if claim in self._failed:
                columns.discard(column)
            elif self._passed[claim] == carriers:
                columns.add(column)
            tested[codebase] = sorted(columns)
        path.write_text(json.dumps(tested, indent=2, sort_keys=True) + "\n")


def attach(items: Sequence[pytest.Item], *, complete: bool) -> None:
    """Give every test its claims as properties of its report, each with the number of tests that carry it."""
    claims = [
        (item, [claim.format(**item.callspec.params) for mark in item.iter_markers("shows") for claim in mark.args])
        for item in items
        if hasattr(item, "callspec")
    ]
    carriers = Counter(claim for _, found in claims for claim in found)
    for item, found in claims:
        item.user_properties += [(CLAIM, (claim, carriers[claim] if complete else 0)) for claim in found]


def cell(columns: list[str], column: str) -> str:
    """Yes if the column was shown, in both ways where it is tested in both; the way if in one; otherwise a dash."""
    ways = [way for way in WAYS if f"{column} by {way}" in columns]
    if column in columns or len(ways) == len(WAYS):
        return "yes"
    return f"by {ways[0]}" if ways else "–"


def render() -> str:
    """The table in Markdown."""
    tested = json.loads(TESTED.read_text())
    rows = [["codebase", *COLUMNS], ["---"] * (len(COLUMNS) + 1)]
    rows += [[f"[{name}]({name}.md)", *(cell(tested.get(name, []), column) for column in COLUMNS)] for name in NAMES]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def in_page(page: str) -> str:
    """The table that the page holds."""
    return page.partition(START)[2].partition(END)[0].strip("\n") + "\n"


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    table = f"{START}\n{render()}\n{END}"
    PAGE.write_text(re.sub(re.escape(START) + r".*?" + re.escape(END), lambda _: table, text, flags=re.S), "utf-8")
