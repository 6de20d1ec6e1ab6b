"""The table of the integrations' page, from what the tests against real checkouts recorded.

ADACLIP_RECORD=1 pytest -m slow tests/integrations records into integrations/tested.json; then: python -m
tests.integrations.table writes the table into integrations/README.md.
"""

from __future__ import annotations

import json
import re

from adaclip_integrations.codebases import NAMES

from tests.integrations.field import TESTED

PAGE = TESTED.with_name("README.md")
COLUMNS = ("launcher", "edit", "in Python", "trained", "resumed", "sampled", "evaluated", "record and guard")
START, END = "<!-- table of the tests -->\n", "<!-- end of the table -->\n"


def render() -> str:
    """The table: yes for what a test against the real checkout passed, and a dash for what was not tested."""
    tested = json.loads(TESTED.read_text())
    rows = [["codebase", *COLUMNS], ["---"] * (len(COLUMNS) + 1)]
    for name in NAMES:
        rows.append([f"[{name}]({name}.md)", *("yes" if c in tested.get(name, []) else "–" for c in COLUMNS)])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def in_page(page: str) -> str:
    """The table that the page holds."""
    return page.partition(START)[2].partition(END)[0].strip("\n") + "\n"


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    table = f"{START}\n{render()}\n{END}"
    PAGE.write_text(re.sub(re.escape(START) + r".*?" + re.escape(END), lambda _: table, text, flags=re.S), "utf-8")
