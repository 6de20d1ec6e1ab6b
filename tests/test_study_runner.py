"""`run.py study`: every trial once, tables of what there is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adaqf_train.cli import main
from tests.helpers import settings_of

ARMS = ("baseline", "full")


@pytest.fixture(scope="module")
def command(tiny_data, tiny_config, tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("study")
    settings = [*settings_of(tiny_config), "--set", "validation.every=3", "--set", "validation.strips=0"]
    places = ["--out", str(folder / "runs"), "--results", str(folder / "docs")]
    return ["study", "components", "--data", f"procedural={tiny_data}", "--seeds", "1", *places, *settings]


def docs(command: list[str]) -> Path:
    return Path(command[command.index("--results") + 1])


def test_a_study_in_miniature(command, capsys):
    arms = [option for arm in ARMS for option in ("--arms", arm)]
    assert main([*command, *arms]) == 0
    kept = sorted((docs(command) / "results").iterdir())
    assert len(kept) == len(ARMS)
    content = json.loads(kept[0].read_text())
    assert [point["step"] for point in content["curve"]] == [3, 6]
    assert {"fid", "r_precision_3", "skating"} <= content["test"].keys() & content["truth"].keys()
    page = (docs(command) / "components.md").read_text()
    assert page.count("*not run*") > 4
    for picture in ("components-procedural-test.png", "components-procedural-curves.png"):
        assert f"({picture})" in page
        assert (docs(command) / picture).is_file()
    stamps = [path.stat().st_mtime_ns for path in kept]
    capsys.readouterr()
    assert main([*command, *arms]) == 0  # nothing is run again
    assert [path.stat().st_mtime_ns for path in kept] == stamps
    assert "seed 0" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--arms", "fuller"], "There is no arm"),
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["--data", "nameless"], "expected LABEL=FOLDER"),
    ],
)
def test_wrong_arguments(command, change, message, capsys):
    assert main([*command, *change]) == 1
    assert message in capsys.readouterr().err
