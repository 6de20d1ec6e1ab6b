"""The run folder: stages run once, changed settings are noticed, one writer at a time."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from accelerate import Accelerator

from adaclip import AdaCLIP, AdaCLIPError
from adaclip.files import read_json
from adaqf_train.cli import main
from adaqf_train.config import recipes
from adaqf_train.errors import ConfigError, RunError
from adaqf_train.runs.folder import RunFolder
from adaqf_train.runs.layout import read_config
from adaqf_train.runs.stages import Pipeline, identity_of
from tests.helpers import settings_of


@pytest.fixture
def run(tmp_path) -> RunFolder:
    return RunFolder(tmp_path / "run", Accelerator(cpu=True))


def maker(folder: Path, calls: list[str]):
    def make() -> None:
        calls.append(folder.name)
        folder.mkdir(parents=True)

    return make


def test_stage_runs_once_and_keeps_its_settings(run):
    calls = []
    first = run.stage("base", {"seed": 0}, maker(run / "base", calls))
    assert run.stage("base", {"seed": 0}, maker(run / "base", calls)) == first
    assert calls == ["base"]
    assert run.stages()["base"]["settings"] == {"seed": 0}
    assert run.stages()["base"]["processes"] == 1


def test_stage_that_failed_or_was_deleted_runs_again(run):
    def fail() -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run.stage("base", {}, fail)
    assert "base" not in run.stages()
    calls = []
    run.stage("base", {}, maker(run / "base", calls))
    shutil.rmtree(run / "base")
    run.stage("base", {}, maker(run / "base", calls))
    assert calls == ["base", "base"]


def test_stage_names_changed_settings(run):
    run.stage("base", {"a": {"x": 1, "y": 2}}, maker(run / "base", []))
    with pytest.raises(RunError, match=r"made with other settings \(a\.y: 2 -> 3\)"):
        run.stage("base", {"a": {"x": 1, "y": 3}}, maker(run / "base", []))


def test_run_folder_has_one_writer_at_a_time(run):
    with run.locked():
        (run / ".half.x.partial").mkdir()
        with pytest.raises(RunError, match=r"process \d+ is writing this run"), run.locked():
            pass
    with run.locked():  # released, and what a killed writer left is gone
        assert not list(run.path.glob("*.partial"))


def test_run_folder_names_a_place_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").write_text("")
    blocked = RunFolder(tmp_path / "file" / "run", run.accelerator)
    with pytest.raises(RunError, match=r"cannot be written .*Give another --out"), blocked.locked():
        pass


def test_run_config_and_place_of_the_data_are_read_back(run, tmp_path):
    config = recipes.load("demo")
    run.path.mkdir()
    for data in (run / "data", tmp_path / "elsewhere"):
        data.mkdir()
        run.write_config(config, data)
        again, found = read_config(run.path)
        assert again == config
        assert found.resolve() == data.resolve()
    assert read_json(run / "run.json")["data"] == str((tmp_path / "elsewhere").resolve())
    with pytest.raises(RunError, match="not a run"):
        read_config(tmp_path)


def test_stages_are_borrowed_if_their_settings_are_equal(run, tmp_path):
    other = RunFolder(tmp_path / "other", run.accelerator)
    for name in ("base", "extractors"):
        other.stage(name, {"seed": 1}, maker(other / name, []))
    (other / "extractors" / "weights").write_text("theirs")
    run.borrow_from(other.path)
    calls = []
    run.stage("base", {"seed": 2}, maker(run / "base", calls))
    assert calls == ["base"]  # other settings: made here
    assert run.stage("extractors", {"seed": 1}, pytest.fail) == other.stages()["extractors"]["digest"]
    assert (run / "extractors" / "weights").read_text() == "theirs"
    run.stage("evaluator", {"seed": 1}, maker(run / "evaluator", calls))
    assert calls == ["base", "evaluator"]
    with pytest.raises(RunError, match="not a run"):
        run.borrow_from(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"config": {"training": {"speed": 1}}, "data": "x"}'])
def test_run_folder_names_damaged_files(run, content):
    run.path.mkdir()
    (run / "run.json").write_text(content)
    with pytest.raises((AdaCLIPError, RunError), match=r"run\.json: "):
        read_config(run.path)


def test_run_config_records_the_commit_of_a_base_from_the_hub(tiny_data, tiny_run, tiny_config, tmp_path, monkeypatch):
    commit, cached = "c0ffee" * 6 + "c0de", tmp_path / "cache" / "models--me--base"
    shutil.copytree(tiny_run / "pocket_clip", cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    settings = settings_of(tiny_config, encoder__base="me/base")
    for out, more, expected in (
        (tmp_path / "hub", [], commit),
        (tmp_path / "snapshot", ["--base", str(cached / "snapshots" / commit)], commit),
        (tmp_path / "folder", ["--base", str(tiny_run / "pocket_clip")], None),
    ):
        assert main(["train", "--arm", "adaqf", "--data", str(tiny_data), "--out", str(out), *more, *settings]) == 0
        assert read_json(out / "run.json").get("base_revision") == expected
        assert AdaCLIP.from_pretrained(out / "adaclip").base_revision == expected
        read_config(out)


def test_training_names_batches_that_the_processes_cannot_share(tiny_run, monkeypatch):
    pipeline = Pipeline(RunFolder(tiny_run, Accelerator(cpu=True)), *read_config(tiny_run))
    pipeline.check()
    monkeypatch.setattr(Accelerator, "num_processes", property(lambda self: 7))
    with pytest.raises(ConfigError, match=r"extractors\.batch=\d+ cannot be divided over 7 processes"):
        pipeline.check()


def test_a_base_is_identified_by_its_weights(tmp_path):
    seen = set()
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "open_clip_config.json").write_text("{}")
        (folder / "open_clip_pytorch_model.bin").write_text(name)
        seen |= {identity_of(str(folder)), identity_of(str(folder / "open_clip_pytorch_model.bin"))}
    assert len(seen) == 2
    assert identity_of("openai/clip-vit-base-patch32") == "openai/clip-vit-base-patch32"
    with pytest.raises(ConfigError, match="holds no"):
        identity_of(str(tmp_path))
