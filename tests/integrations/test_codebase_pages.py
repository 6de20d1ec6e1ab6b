"""What the pages on the integrations say exists: options, variables, files, links."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from adaclip_integrations import fingerprint, frozen, selection
from adaclip_integrations.__main__ import CODEBASES, main
from adaclip_integrations.codebases import codebase as codebase_of
from adaclip_integrations.launch import _parse

from tests.integrations import table
from tests.integrations.stand_ins import write

FOLDER = Path(__file__).resolve().parents[2] / "integrations"
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")}
pages = pytest.mark.parametrize("page", PAGES)


def commands(page: str) -> list[str]:
    lines = (
        line for block in re.findall(r"```sh\n(.*?)```", PAGES[page], flags=re.DOTALL) for line in block.splitlines()
    )
    return [line.strip() for line in lines if line.strip()]


def test_there_is_a_page_for_each_codebase():
    assert set(PAGES) == {"README", *CODEBASES}
    for name in CODEBASES:
        assert all(f"`{edit.file}`" in PAGES[name] for edit in codebase_of(name).EDITS)


@pages
def test_links_lead_somewhere_and_nothing_of_this_machine_is_told(page):
    for link in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        file, _, section = link.partition("#")
        if link.startswith("https://"):
            continue
        target = (FOLDER / file).read_text(encoding="utf-8") if file else PAGES[page]
        headings = re.findall(r"^#+ (.*)$", target, flags=re.MULTILINE)
        slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not section or section in slugs, link
    assert not re.search(r"/(tmp|home|work|root)/", PAGES[page])


@pages
def test_variables_are_those_that_are_read(page):
    known = {selection.WEIGHTS, selection.BASE, fingerprint.TOKENS, fingerprint.OVERRIDE, frozen.CACHE}
    named = set(re.findall(r"ADACLIP_[A-Z_]+", PAGES[page]))
    assert named <= known
    if page == "README":
        assert named == known


@pages
def test_commands_are_understood(page, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ADAPTER").mkdir()
    for line in commands(page):
        words = shlex.split(line, comments=True)
        if "adaclip_integrations" in words:
            codebase, path, *rest = words[words.index("adaclip_integrations") + 1 :]
            root = write(codebase, tmp_path / codebase)
            assert main([codebase, str(root), *rest]) == 0, line
            assert path in (".", "momask-codes"), line
        elif "adaclip-run" in words:
            options = _parse(words[words.index("adaclip-run") + 1 :])
            assert options.weights in ("ADAPTER", None)
            assert options.module is not None or options.target.endswith(".py"), line


def test_the_table_is_what_the_tests_recorded():
    assert table.in_page(PAGES["README"]) == table.render()


def test_results_enter_the_table_when_all_tests_of_a_claim_passed(tmp_path):
    path, results = tmp_path / "tested.json", table.Results()
    for claim in ("mdm: launcher", "mdm: trained by edit", "mdm: sampled by edit", "mdm: sampled by launcher"):
        results.add(claim, 1, "call", "passed")
    for outcome in ("passed", "passed", "skipped"):  # of three tests
        results.add("salad: record and guard", 3, "call", outcome)
    results.add("salad: edit", 0, "call", "passed")  # of an unknown number
    results.enter(path)
    columns = json.loads(path.read_text())["mdm"]
    cells = [table.cell(columns, column) for column in ("launcher", "trained", "sampled", "edit")]
    assert cells == ["yes", "by edit", "yes", "–"]
    assert json.loads(path.read_text())["salad"] == []
    results.add("salad: record and guard", 3, "call", "passed")
    results.enter(path)
    assert json.loads(path.read_text())["salad"] == ["record and guard"]
    later = table.Results()  # a failure removes a claim, also one before the test itself
    for phase, outcome in (("setup", "failed"), ("call", "passed")):
        later.add("salad: record and guard", 2, phase, outcome)
    later.enter(path)
    assert json.loads(path.read_text())["salad"] == []


def test_claims_are_counted_over_all_tests_that_carry_them():
    marks = pytest.mark.shows("{name}: edit", "{name}: {column}"), pytest.mark.shows("{name}: edit")

    def item(mark, **parameters):
        found = SimpleNamespace(user_properties=[], iter_markers=lambda _: [mark.mark])
        found.callspec = SimpleNamespace(params=parameters)
        return found

    items = [item(marks[0], name="mdm", column="trained"), item(marks[1], name="mdm"), SimpleNamespace()]
    table.attach(items, complete=True)
    assert items[0].user_properties == [(table.CLAIM, ("mdm: edit", 2)), (table.CLAIM, ("mdm: trained", 1))]
    items[1].user_properties.clear()
    table.attach(items[:2], complete=False)
    assert items[1].user_properties == [(table.CLAIM, ("mdm: edit", 0))]
