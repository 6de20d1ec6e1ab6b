"""Motions of a user study: of runs, of folders and of the data set, on the same prompts, skeleton and floor."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from adaqf_train.cli import main
from adaqf_train.errors import DataError, UserStudyError
from adaqf_train.motion.features import encode
from adaqf_train.userstudy.collect import collect
from adaqf_train.userstudy.page import Key
from tests.cli.test_cli import error_of
from tests.helpers import kit_body
from tests.render.test_page import walk
from tests.userstudy.studies import answer, study


def folder(path: Path, names: str = "abcd", prompt: str = "person {}", seed: int = 0, features: bool = False) -> Path:
    path.mkdir(parents=True)
    for k, name in enumerate(names):
        joints = walk(frames=30, seed=seed + k)
        np.save(path / f"{name}.npy", (encode(joints) if features else joints).astype(np.float32))
        (path / f"{name}.txt").write_text(prompt.format(name) + "\n", encoding="utf-8")
    return path


def test_collect_takes_both_models_of_a_run_and_the_real_motions(tiny_run):
    questions, fps = collect([tiny_run], {}, prompts=3, real=True, seed=1)
    assert fps == 20
    assert len({question.text for question in questions}) == 3
    for question in questions:
        assert set(question.motions) == {"baseline", "AdaQF", "ground truth"}
        shapes = {joints.shape for joints in question.motions.values()}
        assert len(shapes) == 1  # all of the same number of frames
        for joints in question.motions.values():
            assert joints[0, 0, [0, 2]] == pytest.approx([0, 0], abs=1e-6)
    again, _ = collect([tiny_run], {}, prompts=3, real=True, seed=1)
    assert [question.text for question in again] == [question.text for question in questions]
    np.testing.assert_allclose(again[2].motions["AdaQF"], questions[2].motions["AdaQF"])
    other, _ = collect([tiny_run], {}, prompts=3, seed=2)
    assert [question.text for question in other] != [question.text for question in questions]


def test_collect_names_the_models_of_two_runs_by_their_folders(tiny_run, tmp_path):
    link = tmp_path / "second"
    link.mkdir()
    for part in ("adaqf", "run.json"):
        (link / part).symlink_to(tiny_run / part)
    questions, _ = collect([tiny_run, link], {}, prompts=2)
    assert set(questions[0].motions) == {"tiny baseline", "tiny AdaQF", "second AdaQF"}


def test_collect_takes_the_prompts_that_all_folders_have(tmp_path):
    folders = {
        "MDM": folder(tmp_path / "mdm", "abcde"),
        "SALAD": folder(tmp_path / "salad", "bcdef", seed=9, features=True),
    }
    questions, fps = collect([], folders, prompts=4)
    assert fps == 20
    assert sorted(question.text for question in questions) == ["person b", "person c", "person d", "person e"]
    for question in questions:
        for joints in question.motions.values():
            assert joints.shape == (29, 22, 3)
            assert joints[..., 1].min() > -0.05
    with pytest.raises(UserStudyError, match="have 4 motions of the same names, fewer than the 5 requested"):
        collect([], folders, prompts=5)


def test_collect_generates_for_the_prompts_of_a_folder(tiny_run, tmp_path):
    questions, _ = collect([tiny_run], {"MDM": folder(tmp_path / "mdm")}, prompts=2)
    assert {question.text for question in questions} <= {f"person {name}" for name in "abcd"}
    for question in questions:
        assert set(question.motions) == {"MDM", "baseline", "AdaQF"}
        # The folder's 29 frames are 28 in whole units of 4; a length of its own would give a model away.
        assert {len(joints) for joints in question.motions.values()} == {28}


def test_collect_takes_captions_and_real_motions_of_folders_from_the_data_set(tiny_data, tiny_train, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (name, *_) = (tiny_data / "test.txt").read_text().split()
    np.save(mine / f"{name}.npy", walk(frames=30).astype(np.float32))
    (question,), _ = collect([], {"mine": mine}, prompts=1, data=tiny_data, real=True)
    assert set(question.motions) == {"mine", "ground truth"}
    assert question.text in (tiny_data / "texts" / f"{name}.txt").read_text()


def test_collect_reads_captions_json(tmp_path):
    one = folder(tmp_path / "one", "ab")
    for path in one.glob("*.txt"):
        path.unlink()
    with pytest.raises(DataError, match=r"no prompt for it\. Add a\.txt"):
        collect([], {"one": one}, prompts=1)
    (one / "captions.json").write_text(json.dumps({"a": "first", "b": "second"}))
    questions, _ = collect([], {"one": one}, prompts=2)
    assert {question.text for question in questions} == {"first", "second"}


def test_collect_refuses_what_does_not_fit_together(tiny_run, tiny_data, tmp_path):
    mdm, other = folder(tmp_path / "mdm"), folder(tmp_path / "other", prompt="somebody {}")
    kit = tmp_path / "kit"
    kit.mkdir()
    np.save(kit / "a.npy", kit_body(30).astype(np.float32))
    (kit / "a.txt").write_text("person a\n")
    (tmp_path / "empty").mkdir()
    for arguments, says in (
        (([], {}), "No models"),
        (([], {"MDM": mdm, "other": other}), "Motions of the same name must have the same prompt"),
        (([], {"MDM": mdm, "KIT": kit}), "differ in width"),
        (([], {"MDM": tmp_path / "empty"}), "no .npy files"),
        (([tmp_path / "empty"], {}), "not a run"),
    ):
        with pytest.raises((UserStudyError, DataError, RuntimeError), match=re.escape(says)):
            collect(*arguments, prompts=1)
    with pytest.raises(UserStudyError, match="--data FOLDER"):
        collect([], {"MDM": mdm}, prompts=1, real=True)
    with pytest.raises(UserStudyError, match="No models"):
        collect([], {}, prompts=1, data=tiny_data)
    with pytest.raises(UserStudyError, match="no clip"):
        collect([tiny_run], {"MDM": mdm}, prompts=1, real=True)
    with pytest.raises(UserStudyError, match="Lower --prompts"):
        collect([tiny_run], {}, prompts=500)
    np.save(mdm / "a.npy", np.full((30, 263), np.nan, np.float32))
    with pytest.raises(DataError, match="NaN"):
        collect([], {"MDM": mdm}, prompts=1)


def test_userstudy_verb_builds_and_reports(tiny_run, tmp_path, capsys):
    out = tmp_path / "study"
    assert (
        main(["userstudy", "build", "--run", str(tiny_run), "--prompts", "3", "--checks", "1", "--out", str(out)]) == 0
    )
    assert "3 prompts, 2 models" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == ["study.html", "study.key.json"]
    key = Key.read(out / "study.key.json")
    people = [answer(tmp_path / f"{k}.json", key, f"p{k}", {"AdaQF": 0, "baseline": 1}) for k in range(3)]
    command = ["userstudy", "report", *map(str, people), "--key", str(out / "study.key.json")]
    assert main(command) == 0
    assert "| AdaQF | 1.00 [1.00, 1.00] | 100% [100%, 100%] |" in capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["participants"] == 3


def test_userstudy_verb_reports_errors_in_one_line(tiny_run, tmp_path, capsys):
    build = ["userstudy", "build", "--out", str(tmp_path / "s")]
    assert "expected LABEL=FOLDER" in error_of(capsys, [*build, "--motions", "MDM"])
    assert "is not a folder" in error_of(capsys, [*build, "--motions", f"MDM={tmp_path / 'none'}"])
    mdm = f"MDM={folder(tmp_path / 'mdm')}"
    assert "two folders have the same label" in error_of(capsys, [*build, "--motions", mdm, "--motions", mdm])
    assert "1 models" in error_of(capsys, [*build, "--motions", mdm, "--prompts", "2"])
    assert "at least 1" in error_of(capsys, [*build, "--run", str(tiny_run), "--prompts", "0"])
    assert "3 attention checks for 2" in error_of(capsys, [*build, "--motions", mdm, "--prompts", "2", "--checks", "3"])
    assert "negative" in error_of(capsys, [*build, "--run", str(tiny_run), "--seed", "-1"])
    assert "no such file" in error_of(capsys, ["userstudy", "report", "a.json", "--key", str(_key(tmp_path))])
    missing = error_of(capsys, ["userstudy", "report", "a.json", "--key", str(tmp_path / "none.json")])
    assert "none.json: no such file" in missing


def test_userstudy_verb_refuses_an_unusable_out_before_generating(tmp_path, capsys, monkeypatch):
    def never(*_, **__):
        raise AssertionError("motions were made")

    monkeypatch.setattr("adaqf_train.userstudy.collect.collect", never)
    _key(tmp_path)
    (tmp_path / "file").write_text("")
    for out, says in (("made", "already exists"), ("file/study.html", "cannot be written to")):
        assert says in error_of(capsys, ["userstudy", "build", "--out", str(tmp_path / out)])
    with pytest.raises(AssertionError, match="motions were made"):
        main(["userstudy", "build", "--out", str(tmp_path / "new")])


def _key(path: Path) -> Path:
    study(path / "made")
    return path / "made" / "study.key.json"
