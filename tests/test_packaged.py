"""The models that come with the package: whole, small, found by their name, and silent about nothing."""

from __future__ import annotations

import fnmatch
import os
import runpy
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest

from adaclip import AdaCLIP, AdaCLIPError
from adaclip import cli as encoder_cli
from adaclip.integrity import DIGESTS, check_digests
from adaclip.packaged import ENCODER, NAME, packaged
from adaqf_train.artefacts import POCKET
from adaqf_train.cli import main
from adaqf_train.data.prepare.procedural import prepare_procedural
from adaqf_train.errors import ArtefactError
from adaqf_train.evaluation.standalone import PROCEDURAL, evaluate_motions
from adaqf_train.generators.base import MotionGenerator
from adaqf_train.generators.folder import GENERATOR
from adaqf_train.judges import store
from adaqf_train.ui import space
from tests.cli.test_cli import error_of

CHECKOUT = Path(__file__).resolve().parent.parent
FOLDERS = (ENCODER, ENCODER / "base", GENERATOR, POCKET / "evaluator")
MOST = 8_000_000  # bytes


def test_packaged_models_are_whole_and_small():
    for folder in FOLDERS:
        assert (folder / DIGESTS).is_file()
        check_digests(folder, "", whole=True)
    store.fingerprint_of(POCKET / "evaluator")
    files = [path for folder in (ENCODER, POCKET) for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MOST
    assert {path.suffix for path in files} == {".json", ".safetensors", ".md"}
    cards = [path.read_text(encoding="utf-8") for path in files if path.suffix == ".md"]
    assert len(cards) == 2
    assert all("apache-2.0" in card and "| R@3 ↑ |" in card for card in cards)


def test_packaged_files_are_data_of_their_packages():
    stated = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    for folder in (ENCODER, POCKET):
        for path in (path for path in folder.rglob("*") if path.is_file()):
            name = path.relative_to(folder.parent).as_posix()
            patterns = stated[folder.parent.name]
            assert any(fnmatch.fnmatch(name, p) and name.count("/") == p.count("/") for p in patterns), name


def test_packaged_name_yields_to_a_folder_and_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert packaged(NAME) == ENCODER
    assert packaged(f"./{NAME}") is packaged("owner/adaclip-pocket") is None
    Path(NAME).mkdir()
    with (
        pytest.warns(UserWarning, match=f"{NAME}: the one in .* is used, not the packaged model"),
        pytest.raises(AdaCLIPError, match=r"adapter_config\.json is missing"),
    ):
        AdaCLIP.from_pretrained(NAME)
    shutil.rmtree(NAME)
    shutil.copytree(ENCODER, NAME)
    with pytest.warns(UserWarning, match="not the packaged model"):
        assert AdaCLIP.from_pretrained(NAME).base == str(tmp_path / NAME / "base")


def test_packaged_encoder_loads_by_its_name_in_any_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    vectors = AdaCLIP.from_pretrained(NAME).encode(["a person waves", "a person sits"])
    assert (vectors[0] - vectors[1]).norm() > 0.1 * vectors[0].norm()
    assert encoder_cli.main(["encode", NAME, "a person waves"]) == 0
    assert '{"text": "a person waves", "vector": [' in capsys.readouterr().out
    with pytest.raises(AdaCLIPError, match="is a trained adapter, not a base"):
        AdaCLIP.from_base(NAME)


def test_sample_and_evaluate_work_right_after_the_installation(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    prompt = "a person waves twice with the left hand"
    assert main(["sample", prompt, "--prompt", "a person walks forward", "--out", "motion.npy"]) == 0
    assert f"model {NAME}: trained on procedural motions" in capsys.readouterr().out
    motions = np.load("motion.npy")
    assert motions.shape == (2, 80, 22, 3)
    expected = MotionGenerator.from_pretrained(NAME).generate([prompt, "a person walks forward"])
    assert np.array_equal(motions, np.stack(expected).astype(motions.dtype))
    assert main(["sample", prompt, "--out", "motion.html"]) == 0
    assert prompt in Path("motion.html").read_text(encoding="utf-8")
    assert "prompt is missing" in error_of(capsys, ["sample", "--out", "motion.html"])


def test_evaluate_takes_the_packaged_evaluator_for_procedural_data_alone(tmp_path):
    prepare_procedural(tmp_path / "data", clips=100, seed=3)
    report = evaluate_motions(tmp_path / "data", replications=1)
    assert PROCEDURAL in report.notes
    row = report.rows["data"]
    assert row["r_precision_3"]["mean"] > 0.8
    (tmp_path / "data" / "origin.json").unlink()
    foreign = evaluate_motions(tmp_path / "data", replications=1)
    assert not any("r_precision" in figure for figure in foreign.rows["data"])
    assert any(f"Give --evaluator; {NAME}" in note for note in foreign.notes)
    asked = evaluate_motions(tmp_path / "data", evaluator=NAME, replications=1)
    assert PROCEDURAL in asked.notes
    assert asked.rows["data"]["r_precision_3"] == row["r_precision_3"]


def test_missing_packaged_models_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    missing = tmp_path / "pocket"
    monkeypatch.setattr("adaclip.packaged.packaged.__defaults__", (missing,))
    monkeypatch.setattr("adaclip.hub.ENCODER", missing)
    with pytest.raises(AdaCLIPError, match=r"packaged models are missing here\. Install the wheel"):
        AdaCLIP.from_pretrained(NAME)
    monkeypatch.setattr("adaqf_train.generators.folder.GENERATOR", missing)
    with pytest.raises(ArtefactError, match="packaged models are missing here"):
        MotionGenerator.from_pretrained(NAME)


def test_space_is_a_folder_that_runs(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "space"
    (folder / ".git").mkdir(parents=True)
    assert main(["ui", "--space", str(folder)]) == 0
    assert main(["ui", "--space", str(folder)]) == 0  # a later version replaces its own files
    assert sorted(os.listdir(folder)) == [".git", "README.md", "app.py", "requirements.txt"]
    header = (folder / "README.md").read_text(encoding="utf-8").split("---")[1]
    assert all(f"\n{line}" in header for line in ("sdk: gradio", "app_file: app.py", "license: apache-2.0"))
    assert "adaclip[train,ui]==" in (folder / "requirements.txt").read_text()
    asked = {}
    monkeypatch.setattr("adaqf_train.cli.ui.Ui.__call__", lambda ui: asked.update(vars(ui)))
    monkeypatch.setenv("SPACE_HOST", "me-motions.hf.space")
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(folder / "app.py"))
    assert ended.value.code == 0
    assert asked["allow_host"] == ("me-motions.hf.space",)
    assert (asked["host"], asked["model"], asked["run"], asked["open"]) == ("0.0.0.0", (), (), False)
    monkeypatch.undo()
    (folder / "app.py").write_text("print()\n")
    assert "app.py: is another program" in error_of(capsys, ["ui", "--space", str(folder)])
    assert "omit --run and --model" in error_of(capsys, ["ui", "--space", str(folder), "--model", "x"])
    assert "is a file" in error_of(capsys, ["ui", "--space", str(folder / "app.py")])


def test_ui_serves_the_packaged_model_by_default(tmp_path):
    from adaqf_train.cli.ui import Ui

    studio = Ui().studio(tmp_path)
    assert list(studio.generators) == [NAME]
    assert space.GRADIO in (CHECKOUT / "constraints.txt").read_text()
