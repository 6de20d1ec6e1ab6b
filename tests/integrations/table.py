"""The table of the integrations' page, from the results of the tests against real checkouts.

Such a test names what it shows by `record_property(CLAIM, "mdm: edit")`. With ADACLIP_RECORD=1, a test that passes
enters its claim in integrations/tested.json, and one that fails removes it:

    ADACLIP_RECORD=1 ADACLIP_MDM=… python -m pytest -m slow tests/integrations
    python -m tests.integrations.table       # writes the table into integrations/README.md
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from adaclip_integrations.codebases import NAMES

PAGE = Path(__file__).resolve().parents[2] / "integrations" / "README.md"
TESTED = PAGE.with_name("tested.json")
CLAIM = "table"
WAYS = ("launcher", "edit")
COLUMNS = (*WAYS, "in Python", "trained", "resumed", "sampled", "evaluated", "record and guard")
START, END = "<!-- table of the tests -->\n", "<!-- end of the table -->\n"
_failed: set[str] = set()


def enter(claim: str, passed: bool, path: Path = TESTED) -> None:
    """Enter or remove a claim, `codebase: column` or `codebase: column by way`; one failure in a session counts."""
    if not passed:
        _failed.add(claim)
    codebase, _, column = claim.partition(": ")
    tested = json.loads(path.read_text()) if path.is_file() else {}
    others = {*tested.get(codebase, [])} - {column}
    tested[codebase] = sorted(others if claim in _failed else {*others, column})
    path.write_text(json.dumps(tested, indent=2, sort_keys=True) + "\n")


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
