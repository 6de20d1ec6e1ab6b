"""Every file of a finished run, changed by one byte: readers refuse it with file and remedy, or ignore it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from accelerate import Accelerator

from adaclip import AdaCLIP, AdaCLIPError
from adaclip.integrity import check_digests, read_sealed, write_digests, write_sealed
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.errors import AdaQFError
from adaqf_train.evaluation.protocol import read_progress
from adaqf_train.generators.base import MotionGenerator
from adaqf_train.judges import store
from adaqf_train.runs.folder import RunFolder
from adaqf_train.runs.layout import RunLayout, read_config
from adaqf_train.runs.publish import publishable
from adaqf_train.studies.compare import compare
from adaqf_train.training import checkpoint
from tests.helpers import PROMPTS

STAGES = ("pocket_clip", "extractors", "evaluator", "joint_evaluator", "baseline", "adaqf")
# Nothing reads these: cards, pages, pictures, logs of losses, locks.
IGNORED = ("README.md", "motions.html", ".lock", ".pid")
IGNORED_FOLDERS = ("logs", "validation", "hub")


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def read(run: Path, path: Path) -> None:
    """Do what every command does first that needs this file of a run."""
    part = path.relative_to(run).parts[0]
    if part in ("stages.json", *STAGES, "adaclip"):
        RunLayout(run).verified("adaqf" if part == "adaclip" else part if part in STAGES else "adaqf")
    elif part == "run.json":
        read_config(run)
    elif part in ("report.json", "report.md"):
        publishable(run)
    elif part == "evaluation":
        read_progress(path)
    elif part == "checkpoints":
        state = checkpoint.TrainState({}, None)
        checkpoint.read(path.parent, state)
    else:
        raise AssertionError(f"{path} is read by nothing that this test knows")


def same_values(one: bytes, other: bytes) -> bool:
    """Whether both are JSON with the same content."""
    try:
        return json.loads(one) == json.loads(other)
    except ValueError:
        return False


def test_every_file_of_a_run_is_refused_when_a_byte_changes(run):
    seen = 0
    for path in sorted(path for path in run.rglob("*") if path.is_file()):
        inside = path.relative_to(run)
        if inside == Path("adaclip/adapter_config.json"):  # others may edit it; see the tests of adapters
            continue
        if path.name in IGNORED or inside.parts[0] in IGNORED_FOLDERS or path.suffix in (".png", ".svg"):
            continue
        content = path.read_bytes()
        for at in {len(content) // 3, len(content) // 2, len(content) - 2}:
            if content[at : at + 1].isspace():
                at += 1 if content[at + 1 : at + 2].strip() else -1
            if content[at : at + 1].isspace() or (inside.parts[0] == "checkpoints" and path.suffix != ".json"):
                continue
            changed = flipped(content, at)
            if path.suffix == ".json" and same_values(changed, content):
                continue  # the last digit of a number, beyond what a float holds
            path.write_bytes(changed)
            with pytest.raises((AdaQFError, AdaCLIPError)) as error:
                read(run, path)
            said = str(error.value)
            assert path.name in said or str(path.parent) in said, said
            assert any(word in said for word in ("Restore", "Delete", "delete", "again", "Run:")), said
            assert "\n" not in said
            seen += 1
        path.write_bytes(content)
    assert seen > 60
    for stage in STAGES:
        RunLayout(run).verified(stage)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "base/model.safetensors", "base/tokenizer.json"])
def test_generator_of_its_own_refuses_a_changed_file(run, tmp_path, name):
    generator = MotionGenerator.from_pretrained(run / "adaqf")
    folder = generator.save_pretrained(tmp_path / "generator")
    path = folder / name
    content = path.read_bytes()
    path.write_bytes(flipped(content, len(content) - 5))
    with pytest.raises((AdaQFError, AdaCLIPError)) as error:
        MotionGenerator.from_pretrained(folder)
    assert str(folder) in str(error.value)
    path.write_bytes(content)
    (folder / "README.md").write_text("mine")  # cards may be edited
    MotionGenerator.from_pretrained(folder)


def test_adapter_refuses_changed_weights_of_its_own_and_of_its_base(run, tmp_path):
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    expected = AdaCLIP.from_pretrained(copy / "adaclip").encode(PROMPTS)
    for path in (copy / "adaclip" / "adapter_model.safetensors", copy / "pocket_clip" / "model.safetensors"):
        content = path.read_bytes()
        path.write_bytes(flipped(content, len(content) - 4))
        with pytest.raises(AdaCLIPError):
            AdaCLIP.from_pretrained(copy / "adaclip")
        path.write_bytes(content)
    assert (AdaCLIP.from_pretrained(copy / "adaclip").encode(PROMPTS) == expected).all()


@pytest.mark.parametrize("name", ["extractors", "evaluator"])
def test_judges_refuse_changed_tokenizers(run, tmp_path, name):
    folder = Path(shutil.copytree(run / name, tmp_path / name))
    path = folder / "tokenizer_config.json"
    path.write_text(path.read_text().replace("77", "76"))
    with pytest.raises(AdaQFError, match=r"tokenizer_config\.json: changed since it was saved"):
        (store.load_extractors if name == "extractors" else store.load_evaluator)(folder)


def test_stages_are_not_borrowed_from_a_run_with_changed_files(run, tmp_path):
    lender = Path(shutil.copytree(run, tmp_path / "lender"))
    path = lender / "extractors" / "model.safetensors"
    path.write_bytes(flipped(path.read_bytes(), 2000))
    borrower = RunFolder(tmp_path / "borrower", Accelerator(cpu=True))
    borrower.path.mkdir()
    borrower.borrow_from(lender)
    with pytest.raises(AdaQFError, match="it repeats the stage extractors"):
        borrower.stage("extractors", RunLayout(lender).stages()["extractors"]["settings"], lambda: None)


def test_run_of_an_earlier_version_is_read_without_digests(run, tmp_path):
    old = Path(shutil.copytree(run, tmp_path / "old"))
    for path in old.rglob("digests.json"):
        path.unlink()
    stages = RunLayout(old).stages()
    for entry in stages.values():
        del entry["folders"]
    (old / "stages.json").write_text(json.dumps(stages))
    assert RunLayout(old).verified("adaqf") == old / "adaqf"
    MotionGenerator.from_pretrained(old / "adaqf")
    publishable(old)


def test_compare_refuses_two_reports_on_the_same_weights(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy", ignore=shutil.ignore_patterns("checkpoints"))
    for pair in ([run, Path(copy)], [run, run]):
        with pytest.raises(AdaQFError, match="scores the same weights"):
            compare(pair)


def test_sealed_record_notices_every_change(tmp_path):
    path = tmp_path / "a.json"
    content = {"a": 1, "b": [0.1, None, float("nan")], "c": {"2": "x" * 64, "10": True}, "d": "y" * 64}
    write_sealed(path, content)
    written = path.read_bytes()
    assert str(read_sealed(path, "")) == str(content)
    for at in range(len(written)):
        if not written[at : at + 1].isspace():
            path.write_bytes(flipped(written, at))
            with pytest.raises(AdaCLIPError):
                read_sealed(path, "")
    path.write_text('{"a": 1}')  # from an earlier version
    assert read_sealed(path, "") == {"a": 1}


def test_digests_name_no_file_outside_the_folder(tmp_path):
    (tmp_path / "a").write_text("a")
    write_digests(tmp_path)
    for name in ("../a", "/etc/hostname"):
        write_sealed(tmp_path / "digests.json", {"files": {name: "0"}})
        with pytest.raises(AdaCLIPError, match="outside the folder"):
            check_digests(tmp_path, "")


def test_data_of_a_run_are_checked_too(run, tiny_data, tmp_path):
    out = RunFolder(tmp_path / "own", Accelerator(cpu=True))
    out.path.mkdir()
    out.stage("data", {}, lambda: shutil.copytree(tiny_data, out.data))
    MotionDataset(out.data, "test")  # its cache is no part of it
    assert RunLayout(out.path).verified("data") == out.data
    path = next((out.data / "texts").iterdir())
    path.write_bytes(flipped(path.read_bytes(), 3))
    with pytest.raises(AdaQFError, match="it repeats the stage data"):
        RunLayout(out.path).verified("data")
