"""The command line on a tiny data set: every stage, and one line for every error."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import CLIPTextModelWithProjection

from adaclip import AdaCLIP
from adaclip.integrity import write_sealed
from adaqf_train.cli import main
from adaqf_train.config import recipes
from adaqf_train.data.layout import Caption, CaptionedMotion, write_folder
from adaqf_train.generators.base import MotionGenerator
from adaqf_train.runs.layout import RunLayout
from tests.helpers import FLOAT32, deviation, kit_body, settings_of

PROMPTS = ["a person slowly walks backward", "someone waves the left hand twice", "a person turns right"]
ROWS = {"fid", "r_precision_1", "r_precision_2", "r_precision_3", "mm_dist", "diversity", "skating"}


@pytest.fixture
def run(tiny_run) -> Path:
    return tiny_run


def error_of(capsys, arguments: list[str]) -> str:
    """Runs a command that must fail; returns its one line of error."""
    capsys.readouterr()
    assert main(arguments) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def test_run_folder_holds_what_the_readme_says(run):
    present = {path.name for path in run.iterdir() if not path.name.startswith(".")}
    assert {"adaclip", "adaqf", "baseline", "pocket_clip", "extractors", "evaluator", "joint_evaluator"} <= present
    assert {"run.json", "report.json", "report.md", "motions.html"} <= present
    assert len(list(run.rglob("report.json"))) == 1
    assert not (run / "adaclip" / "config.json").exists()
    for arm in ("adaqf", "baseline"):
        assert (run / arm / "config.json").is_file()
    report = json.loads((run / "report.json").read_text())
    assert set(report["rows"]) == {"gt", "floor", "baseline", "adaqf", "denoised_baseline", "denoised_adaqf"}
    for row in report["rows"].values():
        assert set(row) >= ROWS
        assert all(set(cell) == {"mean", "ci95"} for cell in row.values())
    assert report["split"] == "test"
    assert report["seeds"]["training"] == 0
    assert not list(run.rglob("*.partial"))


def test_adapter_encodes_wherever_the_run_is_moved(run, tmp_path):
    expected = AdaCLIP.from_pretrained(run / "adaclip").encode(PROMPTS)
    moved = Path(shutil.copytree(run, tmp_path / "moved" / "elsewhere"))
    shutil.move(run, run.with_name("hidden"))  # so that nothing is found at the old place
    try:
        found = AdaCLIP.from_pretrained(moved / "adaclip").encode(PROMPTS)
    finally:
        shutil.move(run.with_name("hidden"), run)
    assert torch.equal(found, expected)
    base = AdaCLIP.from_base(run / "pocket_clip").encode(PROMPTS)
    assert (base - expected).abs().max() > 1e-6  # control: it was trained


def test_adapter_gives_the_same_vectors_in_plain_peft(run):
    encoder = AdaCLIP.from_pretrained(run / "adaclip")
    base = CLIPTextModelWithProjection.from_pretrained(run / "pocket_clip")
    model = PeftModel.from_pretrained(base, run / "adaclip").eval()
    ids, mask = encoder.tokenize(PROMPTS)
    with torch.no_grad():
        plain = model(input_ids=ids, attention_mask=mask.long()).text_embeds
    assert deviation(plain, encoder.encode(PROMPTS)) < FLOAT32


def test_train_again_repeats_nothing(run, tiny_data, tiny_config):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")}
    assert (
        main(["train", "--recipe", "pocket", "--data", str(tiny_data), "--out", str(run), *settings_of(tiny_config)])
        == 0
    )
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")} == before


def test_train_refuses_other_settings_in_the_same_folder(run, tiny_data, tiny_config, capsys):
    before = (run / "run.json").read_text()
    command = ["train", "--recipe", "pocket", "--data", str(tiny_data), "--out", str(run), *settings_of(tiny_config)]
    message = error_of(capsys, [*command, "--set", "training.learning_rate=0.5"])
    assert "made with other settings (training.learning_rate: 0.001 -> 0.5)" in message
    assert "Give another --out" in message
    assert (run / "run.json").read_text() == before


def test_evaluate_scores_a_run_again(run, tmp_path):
    run = Path(shutil.copytree(run, tmp_path / "copy"))
    before = json.loads((run / "report.json").read_text())
    assert main(["evaluate", "--run", str(run)]) == 0
    again = json.loads((run / "report.json").read_text())
    assert again["rows"] == before["rows"]
    assert main(["evaluate", "--run", str(run), "--set", "evaluation.split=val"]) == 0
    assert json.loads((run / "val" / "report.json").read_text())["split"] == "val"
    assert (run / "val" / "motions.html").is_file()
    assert json.loads((run / "report.json").read_text()) == again  # a look at val is not the run's result


def test_evaluate_takes_neither_other_training_nor_other_data(run, tiny_data, tmp_path, capsys):
    message = error_of(capsys, ["evaluate", "--run", str(run), "--set", "feedback.motion=99"])
    assert "this verb takes settings of evaluation and sampling only" in message
    data = Path(shutil.copytree(tiny_data, tmp_path / "data"))
    np.save(data / "Mean.npy", np.load(data / "Mean.npy") + 1)
    assert "not the data this run was trained on" in error_of(
        capsys, ["evaluate", "--run", str(run), "--data", str(data)]
    )


def test_stages_one_by_one_make_a_run_that_can_be_evaluated(run, tiny_data, tiny_config, tmp_path, capsys):
    out = tmp_path / "steps"
    options = ["--recipe", "pocket", "--data", str(tiny_data), "--out", str(out), *settings_of(tiny_config)]
    assert main(["extractors", *options]) == 0
    assert "no generator is trained yet. Run: adaqf train" in error_of(capsys, ["evaluate", "--run", str(out)])
    assert main(["train", "--arm", "adaqf", *options]) == 0
    assert main(["evaluate", "--run", str(out)]) == 0
    assert set(json.loads((out / "report.json").read_text())["rows"]) == {"gt", "floor", "adaqf", "denoised_adaqf"}


def test_base_alone_serves_another_run(run, tiny_data, tiny_config, tmp_path, capsys):
    options = ["--recipe", "pocket", "--data", str(tiny_data), *settings_of(tiny_config)]
    assert main(["base", "--out", str(tmp_path / "base"), *options]) == 0
    base = tmp_path / "base" / "pocket_clip"
    assert str(base) in capsys.readouterr().out
    assert (base / "model.safetensors").read_bytes() == (run / "pocket_clip" / "model.safetensors").read_bytes()
    assert main(["extractors", "--out", str(tmp_path / "other"), "--base", str(base), *options]) == 0


def test_stage_begun_with_other_settings_starts_over(run, tiny_data, tiny_config, tmp_path):
    out = Path(shutil.copytree(run, tmp_path / "copy"))
    stages = RunLayout(out).stages()
    del stages["baseline"]  # as if it had been killed near its end
    write_sealed(out / "stages.json", stages)
    options = ["--recipe", "pocket", "--data", str(tiny_data), "--out", str(out)]
    assert main(["train", "--arm", "baseline", *options, *settings_of(tiny_config), "--set", "training.seed=7"]) == 0
    weights = "baseline/model.safetensors"
    assert (out / weights).read_bytes() != (run / weights).read_bytes()
    fresh = tmp_path / "fresh"
    options[-1] = str(fresh)
    assert main(["train", "--arm", "baseline", *options, *settings_of(tiny_config), "--set", "training.seed=7"]) == 0
    assert (out / weights).read_bytes() == (fresh / weights).read_bytes()


@pytest.mark.parametrize("suffix", [".npy", ".html"])
def test_sample_needs_only_a_generator(run, tmp_path, suffix):
    out = tmp_path / f"motions{suffix}"
    model = Path(shutil.copytree(run / "adaqf", tmp_path / "adaqf"))
    prompts = [part for prompt in PROMPTS for part in ("--prompt", prompt)]
    assert main(["sample", "--model", str(model), *prompts, "--out", str(out), "--seconds", "2.0"]) == 0
    if suffix == ".npy":
        joints = np.load(out)
        assert joints.shape == (3, 40, 22, 3)
        assert np.isfinite(joints).all()
    else:
        assert all(prompt in out.read_text() for prompt in PROMPTS)


def test_reuse_copies_what_fits_and_trains_the_rest(run, tiny_data, tiny_config, tmp_path):
    out = tmp_path / "seed1"
    arguments = ["train", "--recipe", "pocket", "--data", str(tiny_data), "--out", str(out), "--reuse", str(run)]
    changes = ["--set", "training.seed=1", "--set", "evaluator.seed=9"]
    assert main([*arguments, "--arm", "adaqf", *settings_of(tiny_config), *changes]) == 0
    for name in ("pocket_clip", "extractors"):
        assert (out / name / "model.safetensors").read_bytes() == (run / name / "model.safetensors").read_bytes()
    weights = "adaclip/adapter_model.safetensors"
    assert (out / weights).read_bytes() != (run / weights).read_bytes()


def test_base_option_is_used_as_it_is(run, tiny_data, tiny_config, tmp_path):
    out = tmp_path / "own"
    arguments = ["extractors", "--recipe", "pocket", "--data", str(tiny_data), "--out", str(out)]
    assert main([*arguments, "--base", str(run / "pocket_clip"), *settings_of(tiny_config)]) == 0
    base = "pocket_clip/model.safetensors"
    assert (out / base).read_bytes() == (run / base).read_bytes()
    elsewhere = tmp_path / "elsewhere"  # a recipe that names a base of the Hub takes the folder as well
    arguments[-1] = str(elsewhere)
    settings = [*settings_of(tiny_config), "--set", "encoder.base=openai/clip-vit-base-patch32"]
    assert main([*arguments, "--base", str(run / "pocket_clip"), *settings]) == 0
    assert (elsewhere / "extractors" / "model.safetensors").is_file()
    assert not (elsewhere / "pocket_clip").exists()


def wrong_width(data: Path, name: str) -> None:
    np.save(data / "new_joint_vecs" / f"{name}.npy", np.zeros((60, 66), np.float32))


def not_finite(data: Path, name: str) -> None:
    np.save(data / "new_joint_vecs" / f"{name}.npy", np.full((60, 263), np.nan, np.float32))


def lost(data: Path, name: str) -> None:
    (data / "new_joint_vecs" / f"{name}.npy").unlink()


def empty_train(data: Path, name: str) -> None:
    (data / "train.txt").write_text("")


def empty_val(data: Path, name: str) -> None:
    (data / "val.txt").write_text("")


def empty_test(data: Path, name: str) -> None:
    (data / "test.txt").write_text("\n")


def bad_test_motion(data: Path, name: str) -> None:
    wrong_width(data, (data / "test.txt").read_text().split()[0])


def few_test_motions(data: Path, name: str) -> None:
    lines = (data / "test.txt").read_text().splitlines()
    (data / "test.txt").write_text("\n".join(lines[:3]))


def few_train_motions(data: Path, name: str) -> None:
    lines = (data / "train.txt").read_text().splitlines()
    (data / "train.txt").write_text("\n".join(lines[:5]))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (wrong_width, "66 features per frame, expected 263"),
        (not_finite, "NaN or infinite at frame 0"),
        (lost, "captions without a motion"),
        (empty_train, "the train split is empty"),
        (empty_val, "the val split is empty"),
        (empty_test, "the test split is empty"),
        (bad_test_motion, "66 features per frame, expected 263"),
        (few_test_motions, "evaluation needs at least 8"),
        (few_train_motions, "5 items, fewer than extractors.batch (8). Lower it: --set extractors.batch=5"),
    ],
)
def test_pipeline_reports_bad_data_and_writes_nothing(tiny_data, tiny_config, tmp_path, capsys, damage, says):
    data, out = Path(shutil.copytree(tiny_data, tmp_path / "data")), tmp_path / "run"
    damage(data, (data / "train.txt").read_text().split()[0])
    message = error_of(capsys, ["pipeline", "--data", str(data), "--out", str(out), *settings_of(tiny_config)])
    assert says in message
    assert str(data) in message
    assert [path for path in out.rglob("*") if path.name != ".lock"] == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["demo", "--set", "training.step=3"], "The nearest one is 'training.steps'"),
        (["pipeline", "--data", "x", "--out", "y", "--recipe", "huge"], "no recipe 'huge': choose from"),
        (["pipeline", "--data", "nowhere", "--out", "OUT"], "nowhere: no such folder"),
        (["evaluate", "--run", "nowhere"], "nowhere: not a run"),
        (["train", "--data", "DATA", "--out", "OUT", "--reuse", "nowhere"], "nowhere: not a run"),
        (
            ["sample", "--model", "nowhere", "--prompt", "a", "--out", "a.npy"],
            "no such folder. Give a generator's",
        ),
        (["sample", "--model", "nowhere", "--prompt", "a", "--out", "a.fbx"], "name a .npy, .bvh"),
        (["sample", "--model", "x", "--prompt", "a", "--out", "a.npy", "--seed", "-1"], "--seed must be a whole"),
        (["prepare", "joints", "nowhere", "OUT"], "nowhere: no such folder"),
    ],
)
def test_main_reports_wrong_arguments_in_one_line(tiny_data, tmp_path, capsys, arguments, says):
    places = {"OUT": str(tmp_path / "out"), "DATA": str(tiny_data)}
    assert says in error_of(capsys, [places.get(a, a) for a in arguments])


@pytest.mark.parametrize("arguments", [["--out", "x"], ["walk"], ["pipeline"], ["train", "--arm", "both"]])
def test_main_needs_a_verb_unless_it_is_bare(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code != 0


def test_prepare_takes_its_options_and_names_the_bad_file(tmp_path, capsys):
    assert main(["prepare", "synthetic", str(tmp_path / "made"), "--clips", "100", "--seed", "3"]) == 0
    names = (tmp_path / "made" / "train.txt").read_text().split()
    assert sum(1 for _ in (tmp_path / "made" / "texts").iterdir()) == 100
    command = ["prepare", "joints", str(tmp_path / "made"), str(tmp_path / "fast"), "--fps", "40", "--mirror"]
    assert main(command) == 0
    lengths = [len(np.load(tmp_path / d / "new_joints" / f"{names[0]}.npy")) for d in ("made", "fast")]
    assert lengths[1] == pytest.approx(lengths[0] / 2, abs=2)
    assert (tmp_path / "fast" / "texts" / f"M{names[0]}.txt").is_file()
    bad = tmp_path / "made" / "new_joints" / f"{names[5]}.npy"
    np.save(bad, np.full((50, 22, 3), np.nan, np.float32))
    command[3] = str(tmp_path / "again")
    message = error_of(capsys, command)
    assert str(bad) in message
    assert "NaN or infinite at frame 0" in message
    assert not (tmp_path / "again").exists()


@pytest.mark.slow
def test_pipeline_runs_on_kit_data(tiny_config, tmp_path):
    clips = (
        CaptionedMotion(f"{i}", kit_body(60, seed=i), (Caption(f"a person sways {i} times"),), split)
        for i, split in enumerate(["train"] * 16 + ["val"] * 8 + ["test"] * 8)
    )
    write_folder(tmp_path / "data", clips)
    out = tmp_path / "run"
    options = ["--recipe", "pocket", "--data", str(tmp_path / "data"), "--out", str(out)]
    assert main(["pipeline", *options, *settings_of(tiny_config), "--set", "training.steps=2"]) == 0
    assert "motions.html" in {path.name for path in out.iterdir()}
    joints = MotionGenerator.from_pretrained(out / "adaqf").generate(["a person sways"], seconds=2.0)[0]
    assert joints.shape[1:] == (21, 3)
    assert np.abs(joints[0]).max() < 20  # metres


def test_main_runs_the_demo_without_arguments(monkeypatch):
    from adaqf_train import cli

    called = []
    monkeypatch.setattr(cli.Demo, "__call__", lambda self: called.append(self))
    assert main([]) == 0
    assert main(["demo", "--out", "elsewhere", "--set", "training.steps=5", "--set", "training.seed=2"]) == 0
    assert [str(verb.out) for verb in called] == ["runs/demo", "elsewhere"]
    assert (called[1].config.training.steps, called[1].config.training.seed) == (5, 2)


@pytest.mark.slow
def test_recipe_kit_trains_on_21_joints(tiny_config, tmp_path):
    """All stages of `--recipe kit`, at tiny sizes: extractors, evaluator, both arms, evaluation, page."""
    data, out = tmp_path / "data", tmp_path / "run"
    assert main(["prepare", "synthetic", str(data), "--clips", "100", "--skeleton", "kit"]) == 0
    kit = recipes.load("kit")
    small = replace(
        tiny_config, recipe="kit", data=kit.data, training=replace(tiny_config.training, bucket=2, cache_text=True)
    )
    options = ["--recipe", "kit", "--data", str(data), "--out", str(out)]
    assert main(["pipeline", *options, *settings_of(small)]) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["config"]["recipe"] == "kit"
    assert report["config"]["data"]["min_frames"] == 24
    assert report["skeleton"] == "kit"
    assert set(report["rows"]) == {"gt", "floor", "baseline", "adaqf", "denoised_baseline", "denoised_adaqf"}
    cells = [(name, cell["mean"]) for row in report["rows"].values() for name, cell in row.items()]
    assert all(np.isfinite(mean) for name, mean in cells if name != "minimal_pairs")  # which may be void
    config = json.loads((out / "adaqf" / "config.json").read_text())
    assert config["features"] == 251
    joints = MotionGenerator.from_pretrained(out / "adaqf").generate(["a person walks"], seconds=2.0)[0]
    assert joints.shape == (24, 21, 3)  # 12.5 frames a second, whole units of four
    assert (out / "motions.html").is_file()
