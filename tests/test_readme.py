"""The commands and snippets of the README and the guides run as written, on a tiny run instead of the demo's."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from adaclip.cli import main as adaclip
from adaqf_train.cli import main
from adaqf_train.motion.mapping import checked
from adaqf_train.procedural import generate
from adaqf_train.studies.definitions import STUDIES
from tests import processes
from tests.helpers import blocks, bvh_body, verbs_of

CHECKOUT = Path(__file__).resolve().parent.parent
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
ENCODER = (CHECKOUT / "docs" / "encoder.md").read_text(encoding="utf-8")
MOTIONS = (CHECKOUT / "docs" / "motions.md").read_text(encoding="utf-8")
EXPORT = (CHECKOUT / "docs" / "export.md").read_text(encoding="utf-8")
TRAIN = (CHECKOUT / "docs" / "train.md").read_text(encoding="utf-8")
QUICK = (CHECKOUT / "docs" / "quickstart.md").read_text(encoding="utf-8")
GUIDES = {path.stem: path.read_text(encoding="utf-8") for path in (CHECKOUT / "docs" / "guides").glob("*.md")}
STUDY = (CHECKOUT / "docs" / "adding-a-study.md").read_text(encoding="utf-8")


@pytest.fixture
def place(tiny_run: Path, tmp_path: Path) -> Path:
    """A working folder that has a run at runs/demo."""
    shutil.copytree(tiny_run, tmp_path / "runs" / "demo")
    return tmp_path


def python(page: str, place: Path, prints: str) -> str:
    """The last line that a page's snippets print in one process, as a user pastes them one after another."""
    code = "\n".join([*blocks("python", page), f"print({prints})"])
    return processes.run("-c", code, folder=place).splitlines()[-1]


def shell(page: str, *starts: str) -> list[list[str]]:
    """The arguments of a page's commands that start with one of the words."""
    lines = (line for block in blocks("sh", page) for line in block.splitlines())
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith(starts)]


def test_readme_snippets_run(place):
    assert len(blocks("python", README)) == 3
    shapes = "vectors.shape[0], type(model).__name__, joints.shape"
    assert python(README, place, shapes) == "2 PeftModel (80, 22, 3)"
    assert (place / "wave.bvh").is_file()


def test_quick_start_snippets_run(place):
    shapes = "vectors.shape[0], features.tokens.ndim, joints.shape, longer.shape, edited.shape"
    assert python(QUICK, place, shapes) == "2 3 (80, 22, 3) (120, 22, 3) (76, 22, 3)"  # edits: whole tokens of 4 frames


def test_guide_of_other_encoders_runs(place):
    shutil.copytree(place / "runs" / "demo" / "pocket_clip", place / "minilm")
    assert python(GUIDES["encoder"], place, "features.tokens.ndim") == "3"
    assert (place / "my_adapter" / "adapter_model.safetensors").is_file()


def test_guide_to_evaluation_runs(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    for name in ("mine", "other"):
        (place / "samples" / name).mkdir(parents=True)
        for clip in generate(3, seed=1):
            np.save(place / "samples" / name / f"{clip.name}.npy", clip.joints)
    physics = shell(GUIDES["evaluate"], "adaqf evaluate samples")[0]
    assert physics == ["evaluate", "samples/mine", "samples/other"]
    assert main(physics) == 0
    assert "other" in capsys.readouterr().out
    assert 0 <= float(python(GUIDES["evaluate"], place, "report.rows['mine']['skating_kimodo']['mean']")) <= 1


def test_encoder_guide_snippets_run(place):
    assert len(blocks("python", ENCODER)) == 6
    shapes = "tuple(pooled.shape), mask.tolist()[0].count(False) > 0, encoder.adapters"
    assert python(ENCODER, place, shapes) == "(2, 16) True ['default', 'kit', 'both']"
    assert (place / "my_adapter" / "adapter_model.safetensors").is_file()


def test_adaclip_commands_of_quick_start_run(place, monkeypatch):
    monkeypatch.chdir(place)
    commands = shell(QUICK, "adaclip ")
    assert [arguments[0] for arguments in commands] == ["encode", "compare", "info", "search", "export"]
    texts = place / "runs" / "demo" / "data" / "texts"  # the demo's captions; the tiny run has its data elsewhere
    texts.mkdir(parents=True)
    (texts / "000001.txt").write_text("a person waves twice#a/DET person/NOUN wave/VERB#0.0#0.0\n")
    for arguments in commands:
        assert adaclip(arguments) == 0
    assert (place / "vectors.npy").is_file()
    assert (place / "text_encoder" / "config.json").is_file()


def test_sample_commands_of_readme_and_quick_start_run(place, monkeypatch):
    monkeypatch.chdir(place)
    commands = [*shell(README, "adaqf sample"), *shell(QUICK, "adaqf sample")]
    assert len(commands) == 4
    for arguments in commands:
        assert main(arguments) == 0
        assert Path(arguments[arguments.index("--out") + 1]).is_file()


def test_export_guide_works(place, monkeypatch):
    monkeypatch.chdir(place)
    assert len(blocks("python", EXPORT)) == 1
    assert python(EXPORT, place, "__import__('numpy').save('joints.npy', joints)") == "None"
    assert (place / "wave.bvh").read_text().startswith("HIERARCHY")
    (place / "wave.bvh").unlink()
    for line in (line for block in blocks("sh", EXPORT) for line in block.splitlines()):
        assert main(shlex.split(line)[1:]) == 0
    assert {path.name for path in place.glob("wave.*")} == {"wave.bvh", "wave.glb"}


def test_prepare_commands_of_guides_run(place, tiny_data, monkeypatch):
    shutil.copytree(tiny_data, place / "MY_JOINTS")
    captures, captions = place / "MY_BVH", {}
    captures.mkdir()
    for seed, split in enumerate(("train", "val", "test")):
        (captures / f"{split}_take.bvh").write_text(bvh_body(seed=seed))
        (captures / f"{split}.txt").write_text(f"{split}_take")
        captions[f"{split}_take"] = ["a person moves"]
    (place / "captions.json").write_text(json.dumps(captions))
    pages = [*blocks("sh", GUIDES["bvh"]), *blocks("sh", MOTIONS)]
    lines = [line for block in pages for line in block.splitlines() if "adaqf prepare" in line]
    lines = [line for line in lines if "amass" not in line and "free" not in line]  # need files of others
    assert len(lines) == 3
    monkeypatch.chdir(place)
    for line in lines:
        assert main(shlex.split(line, comments=True)[1:]) == 0
        assert (place / "my_data" / "Std.npy").is_file()
        shutil.rmtree(place / "my_data")


def test_motion_guide_shows_a_valid_joint_map():
    (example,) = blocks("json", MOTIONS)
    points = checked(json.loads(example))
    assert (points["left_wrist"], points["right_wrist"]) == ("lHand", "rHand")


def test_training_guide_covers_every_stage():
    verbs = [arguments[0] for arguments in verbs_of(TRAIN)]
    order = ["doctor", "plan", "extractors", "train", "evaluate", "compare", "push"]
    assert [verb for verb in dict.fromkeys(verbs) if verb in order] == order


def test_training_guide_lists_every_study():
    table = re.findall(r"^\| (`.+?) \|", TRAIN.partition("## The paper's studies")[2], flags=re.MULTILINE)
    assert {name for row in table for name in re.findall(r"`(\w+)`", row)} == set(STUDIES)


def test_adding_a_study_guide_defines_one(place):
    assert python(STUDY, place, "STUDY.against('rank_4'), len(STUDY.arms)") == "baseline 4"


@pytest.mark.parametrize(
    ("script", "arguments", "says"),
    [
        ("encode_prompts", ["runs/demo/adaclip"], "a person jumps once"),
        ("generate_motions", ["runs/demo/adaqf", "motions.html"], "motions.html"),
        ("joints_to_features", [], "263"),
    ],
)
def test_examples_run(place, script, arguments, says):
    assert says in processes.run(str(CHECKOUT / "examples" / f"{script}.py"), *arguments, folder=place)


def test_examples_are_all_tested():
    tested = {"encode_prompts", "generate_motions", "joints_to_features"}
    tested |= {"rerun_study"}  # in test_study_runner
    assert {path.stem for path in (CHECKOUT / "examples").glob("*.py")} == tested
