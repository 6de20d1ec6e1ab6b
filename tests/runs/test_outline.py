"""The demo says what it will do, how much is left, and what came of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from adaqf_train.config import AlignmentConfig, recipes
from adaqf_train.evaluation.report import Report
from adaqf_train.runs.layout import RunLayout
from adaqf_train.runs.outline import TITLES, Outline, gain_and_cost

DEMO = recipes.load("demo")


@pytest.fixture
def console():
    return Console(record=True, width=120)


def test_outline_of_the_demo_promises_under_seven_minutes(tmp_path, console):
    outline = Outline.of(DEMO, RunLayout(tmp_path), console)
    assert sum(outline.stages.values()) < 7 * 60
    outline.announce()
    lines = console.export_text().splitlines()
    assert "stages, about" in lines[0]
    assert [line.split()[1] for line in lines[1:]] == list(outline.stages)
    aligned = Outline.of(replace(DEMO, alignment=AlignmentConfig(steps=400)), RunLayout(tmp_path), console)
    assert list(aligned.stages) == list(TITLES)


def test_outline_estimates_the_rest_at_the_pace_so_far(console):
    now = iter([0.0, 0.0, 60.0, 150.0])
    outline = Outline({"data": 30, "extractors": 60, "adaqf": 300}, console, clock=lambda: next(now))
    outline.announce()
    for name in outline.stages:
        outline.begin(name)
    lines = console.export_text().splitlines()[-3:]
    assert lines[0] == "[1/3] data: about 6 min left"
    assert lines[1] == "[2/3] extractors: 60 s passed, about 12 min left"  # half as fast as promised
    assert lines[2] == "[3/3] adaqf: 2 min passed, about 8 min left"


def test_outline_leaves_out_what_an_earlier_call_finished(console):
    outline = Outline({"data": 600, "adaqf": 60}, console, {"data"}, lambda: 0.0)
    outline.announce()
    for name in outline.stages:
        outline.begin(name)
    text = console.export_text()
    assert "about 60 s on two free cores" in text
    assert "[1/2]" not in text
    assert text.splitlines()[-1] == "[2/2] adaqf: about 60 s left"


def test_gain_and_cost_stand_beside_each_other():
    rows = {
        "gt": {"fid": {"mean": 0.0}, "skating": {"mean": 0.001}},
        "baseline": {"fid": {"mean": 5.0}, "skating": {"mean": 0.05}, "minimal_pairs": {"mean": None}},
        "adaqf": {"fid": {"mean": 3.0}, "skating": {"mean": 0.08}, "minimal_pairs": {"mean": None}},
    }
    found = {row["figure"]: row for row in gain_and_cost(Report(rows, {}), {"baseline": 60.0, "adaqf": 90.0})}
    assert {figure: row["AdaQF is"] for figure, row in found.items()} == {
        "FID ↓": "better",
        "foot skating ↓": "worse",
        "training (s)": "longer",
    }
    assert list(found["FID ↓"].values()) == ["FID ↓", "0.000", "5.000", "3.000", "better"]
