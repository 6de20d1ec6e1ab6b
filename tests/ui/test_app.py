"""The page to type prompts into: what its button does, with and without Gradio."""

from __future__ import annotations

import html
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from adaqf_train.cli.ui import FORMATS, Ui
from adaqf_train.errors import ConfigError
from adaqf_train.ui.app import Studio
from tests.cli.test_cli import error_of
from tests.helpers import FLOAT32, deviation
from tests.render.test_page import NASTY, Reader


@pytest.fixture
def studio(tiny_run: Path, tmp_path: Path) -> Studio:
    return Ui(run=(tiny_run,), model=(tiny_run / "adaqf",)).studio(tmp_path)


def test_a_prompt_becomes_motions_side_by_side_and_files(studio):
    shown, files = studio.make("a person waves", 2.0, 3, ["AdaQF", "baseline"])
    page = html.unescape(re.search(r'srcdoc="([^"]*)"', shown)[1])
    assert page == Path(files[0]).read_text(encoding="utf-8")
    assert Reader(page).texts["strong"] == ["baseline", "AdaQF"]
    assert 'sandbox="allow-scripts"' in shown  # nothing in the page reaches what is around it
    assert [Path(file).name for file in files] == [
        "motion.html",
        *(f"{name}{suffix}" for name in ("baseline", "AdaQF") for suffix in FORMATS),
    ]
    motions = [np.load(file) for file in files if file.endswith(".npy")]
    assert [motion.shape for motion in motions] == [(40, 22, 3)] * 2
    expected = studio.generators["AdaQF"].generate(["a person waves"], seconds=2.0, seed=3)[0]
    assert deviation(motions[1], expected) < FLOAT32
    again = studio.make("a person waves", 2.0, 3, ["AdaQF"])[1]
    assert set(again).isdisjoint(files)  # who asked before still has their files
    assert deviation(np.load(again[-1]), expected) < FLOAT32


def test_text_stays_text_in_the_frame(studio):
    with pytest.warns(UserWarning, match="77 tokens"):
        shown, _ = studio.make(NASTY, 2.0, 0, ["baseline"])
    assert shown.count("<") == 2  # the frame and its end
    assert Reader(html.unescape(re.search(r'srcdoc="([^"]*)"', shown)[1])).texts["h2"] == [NASTY]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (("  ", 2.0, 0, ["AdaQF"]), "blank"),
        (("a person waves", 2.0, -1, ["AdaQF"]), "whole number"),
        (("a person waves", 2.0, 0.5, ["AdaQF"]), "whole number"),
        (("a person waves", 2.0, None, ["AdaQF"]), "whole number"),
        (("a person waves", 2.0, 0, []), "at least one"),
        (("a person waves", 2.0, 0, ["MDM"]), "no model 'MDM'"),
        (("a person waves", 2000.0, 0, ["AdaQF"]), "seconds"),
        (("a person waves", 0, 0, ["AdaQF"]), "seconds"),
        ((None, 2.0, 0, ["AdaQF"]), "prompt must be a text"),
        (({"a": 1}, 2.0, 0, ["AdaQF"]), "prompt must be a text"),
        (("a" * 10_001, 2.0, 0, ["AdaQF"]), "prompt must be a text"),
        (("a person waves", "2", 0, ["AdaQF"]), "seconds must be"),
        (("a person waves", 2.0, [1], ["AdaQF"]), "seed must be"),
        (("a person waves", 2.0, float("inf"), ["AdaQF"]), "seed must be"),
        (("a person waves", 2.0, float("nan"), ["AdaQF"]), "whole number"),
        (("a person waves", 2.0, 0, None), "list of their names"),
        (("a person waves", 2.0, 0, [["AdaQF"]]), "list of their names"),
    ],
)
def test_what_cannot_be_made_is_said(studio, asked, says):
    with pytest.raises(ConfigError, match=says):
        studio.make(*asked)
    assert list(studio.folder.iterdir()) == []


def test_files_of_earlier_calls_are_removed(studio, monkeypatch):
    monkeypatch.setattr("adaqf_train.ui.app.KEPT", 2)
    made = [studio.make("a person waves", 1.0, seed, ["baseline"])[1][0] for seed in range(3)]
    assert [Path(page).is_file() for page in made] == [False, True, True]
    assert len(list(studio.folder.iterdir())) == 2


def test_studio_needs_a_model(tmp_path):
    with pytest.raises(ConfigError, match="No model"):
        Studio({}, {}, tmp_path)


def test_the_verbs_errors_are_one_line(tiny_run, tmp_path, capsys, monkeypatch):
    assert "no generator is trained yet" in error_of(capsys, ["ui", "--run", str(tmp_path)])
    assert "another model" in error_of(capsys, ["ui", *["--model", str(tiny_run / "adaqf")] * 2])
    assert "--port" in error_of(capsys, ["ui", "--run", str(tiny_run), "--port", "0"])
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert "pip install 'adaclip[ui]'" in error_of(capsys, ["ui", "--run", str(tiny_run)])


def test_the_app_has_what_it_needs_and_answers(studio):
    gradio = pytest.importorskip("gradio", reason="needs the extra ui")
    app = studio.app()
    labels = {block.label for block in app.blocks.values() if getattr(block, "label", None)}
    assert {"Prompt", "Seconds", "Seed", "Models", "Motions", "Files"} <= labels
    answers = {function.fn for function in app.fns.values()}
    for answer in answers:
        shown, files = answer("a person waves", 2.0, 0, ["baseline"])
        assert shown.startswith("<iframe")
        assert len(files) == 1 + len(FORMATS)
        with pytest.raises(gradio.Error, match="blank"):
            answer("", 2.0, 0, ["baseline"])
