"""`adaqf convert` and `adaqf sample`: any array of motion into any format, and one line for what is wrong."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from adaqf_train.cli import main
from adaqf_train.files import write_bvh
from adaqf_train.files.names import joint_names
from adaqf_train.files.read import features_of, read_clips, read_motions
from adaqf_train.generators.base import MotionGenerator
from adaqf_train.motion import features, mapping
from adaqf_train.motion.bvh import read_bvh
from adaqf_train.motion.skeleton import HUMANML3D, KIT
from tests.files import glb
from tests.files.motions import dancer, written
from tests.helpers import bvh_body, kit_body

DANCE = features.canonicalise(dancer(30))


def saved(path, array):
    np.save(path, array)
    return path


def error_of(capsys, arguments: list[str]) -> str:
    """Runs a command that must fail; returns its one line of error."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 1
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    return line


def test_read_motions_accepts_joints_features_and_batches(tmp_path):
    vectors = features.encode(DANCE)
    wanted = features.decode(vectors)
    for array, expected in (
        (DANCE.astype(np.float32), [DANCE]),
        (np.stack([DANCE, 1.2 * DANCE]), [DANCE, 1.2 * DANCE]),
        (vectors, [wanted]),
        (np.stack([vectors, vectors]).astype(np.float32), [wanted, wanted]),
    ):
        found = read_motions(saved(tmp_path / "a.npy", array))
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)


def test_read_motions_converts_kit_to_metres(tmp_path):
    own = kit_body(20)
    for array in (own, own / 640):
        (found,) = read_motions(saved(tmp_path / "a.npy", array))
        np.testing.assert_allclose(found, own / 640, atol=1e-6)
        (clip,) = read_clips(tmp_path / "a.npy")
        np.testing.assert_allclose(features_of(clip), features.encode(own), atol=1e-4)
    (found,) = read_motions(saved(tmp_path / "a.npy", features.encode(own)))
    assert 0.5 < np.ptp(found[:, :, 1]) < 2.5


def test_convert_writes_what_sample_writes(tmp_path, capsys):
    source = saved(tmp_path / "a.npy", DANCE)
    assert main(["convert", str(source), str(tmp_path / "a.bvh"), "--source-fps", "30"]) == 0
    said = capsys.readouterr().out
    assert "bones keep their lengths" in said
    bvh = read_bvh(tmp_path / "a.bvh")
    assert bvh.fps == 30
    joints = bvh.positions()[:, [bvh.names.index(name) for name in HUMANML3D.joints]]
    assert np.abs(joints - DANCE).max() < 1e-4
    wobbly = saved(tmp_path / "b.npy", DANCE + np.random.default_rng(0).normal(0, 0.02, DANCE.shape))
    assert main(["convert", str(wobbly), str(tmp_path / "b.bvh")]) == 0
    assert "bones keep their lengths" in capsys.readouterr().out
    assert main(["convert", str(wobbly), str(tmp_path / "b.bvh"), "--bones", "stretch"]) == 0
    said = capsys.readouterr()
    assert "bones change their lengths" in said.out
    assert "misread" in said.err


@pytest.mark.parametrize("fps", [10, 24, 30, 60])
@pytest.mark.parametrize("kind", ["features", "joints", "bvh"])
def test_convert_to_another_rate_keeps_the_speed(tmp_path, capsys, kind, fps):
    """A motion lasts as long at any rate, and lies on the path between its frames: a straight line would miss it."""
    fine = dancer(141)  # at 20 frames per second; every third frame is the source
    coarse = fine[::3]
    source = tmp_path / ("a.bvh" if kind == "bvh" else "a.npy")
    if kind == "bvh":
        written(write_bvh, source, coarse, 20, HUMANML3D)
    else:
        saved(source, coarse if kind == "joints" else features.encode(features.canonicalise(coarse)))
    assert main(["convert", str(source), str(tmp_path / "b.bvh"), "--fps", str(fps)]) == 0
    assert "at 20 frames per second" in capsys.readouterr().out
    bvh = read_bvh(tmp_path / "b.bvh")
    frames = 47 - (kind == "features")
    assert bvh.fps == fps
    assert bvh.frames == (frames - 1) * fps // 20 + 1
    if fps == 60 and kind != "features":
        order = [bvh.names.index(name) for name in HUMANML3D.joints]
        away = np.linalg.norm(bvh.positions()[:, order] - fine[: 3 * frames - 2], axis=-1)
        assert away.max() < 0.02
        assert away[::3].max() < 1e-4
        steps = np.linspace(0, 1, 4)[1:3, None, None, None]
        straight = (1 - steps) * coarse[:-1] + steps * coarse[1:]
        control = np.linalg.norm(straight - np.stack([fine[1:138:3], fine[2:139:3]]), axis=-1)
        assert np.median(control) > 2 * np.median(np.delete(away, np.s_[::3], axis=0))


def test_convert_to_another_rate_in_every_format(tmp_path):
    source = saved(tmp_path / "a.npy", DANCE)
    for suffix in (".npy", ".glb", ".npz", ".gif"):
        assert main(["convert", str(source), str(tmp_path / f"b{suffix}"), "--fps", "40"]) == 0
    joints = np.load(tmp_path / "b.npy")
    assert joints.shape == (59, 22, 3)
    np.testing.assert_allclose(joints[::2], DANCE, atol=1e-5)
    assert next(glb.read(tmp_path / "b.glb").tracks())[2] == pytest.approx(np.arange(59) / 40)
    with np.load(tmp_path / "b.npz") as file:
        assert (len(file["poses"]), file["mocap_framerate"]) == (59, 40)


def test_convert_reads_bvh_files_and_writes_every_format(tmp_path, capsys):
    written(write_bvh, tmp_path / "a.bvh", DANCE, 20, HUMANML3D)
    for suffix in (".npy", ".glb", ".npz", ".html", ".png"):
        assert main(["convert", str(tmp_path / "a.bvh"), str(tmp_path / f"b{suffix}")]) == 0
    np.testing.assert_allclose(np.load(tmp_path / "b.npy"), DANCE, atol=1e-4)
    vectors = tmp_path / "features.npy"
    assert main(["convert", str(tmp_path / "a.bvh"), str(vectors), "--format", "features"]) == 0
    np.testing.assert_allclose(np.load(vectors), features.encode(DANCE), atol=0.01)
    assert main(["convert", str(tmp_path / "a.bvh"), str(tmp_path / "c.npy"), "--skip", "10"]) == 0
    assert len(np.load(tmp_path / "c.npy")) == 20
    capsys.readouterr()
    assert main(["convert", str(tmp_path / "a.bvh"), str(tmp_path / "d.bvh"), "--source-fps", "60"]) == 0
    assert read_bvh(tmp_path / "d.bvh").fps == 60


@pytest.mark.parametrize("names", ["mixamo", "ue", "unity"])
def test_convert_names_joints_for_engines(tmp_path, names):
    """The names come back by the preset of that program, and the rest pose stays the T-pose."""
    source = saved(tmp_path / "a.npy", DANCE)
    for suffix in (".bvh", ".glb"):
        assert main(["convert", str(source), str(tmp_path / f"a{suffix}"), "--names", names]) == 0
    bvh = read_bvh(tmp_path / "a.bvh")
    assert mapping.recognise(bvh.names) == names
    joints = mapping.weights(bvh.names, mapping.PRESETS[names]) @ torch.from_numpy(bvh.positions())
    np.testing.assert_allclose(joints.numpy(), DANCE, atol=1e-4)
    nodes = {node["name"]: node for node in glb.read(tmp_path / "a.glb").content["nodes"]}
    assert set(nodes) == {*joint_names(HUMANML3D, names), "body"}
    assert all(node.get("rotation", [0, 0, 0, 1]) == [0, 0, 0, 1] for node in nodes.values())
    assert len(set(joint_names(KIT, names))) == len(KIT)


def test_convert_between_features_and_joints(tmp_path):
    source, there, back = (tmp_path / f"{name}.npy" for name in ("source", "there", "back"))
    saved(source, DANCE)
    assert main(["convert", str(source), str(there), "--format", "features"]) == 0
    assert np.load(there).shape == (29, 263)
    assert main(["convert", str(there), str(back)]) == 0
    np.testing.assert_allclose(np.load(back), features.decode(features.encode(DANCE)), atol=1e-3)
    assert main(["convert", str(there), str(tmp_path / "same.npy"), "--format", "features"]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "same.npy"), np.load(there))


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((5, 67)), "shape (5, 67), expected joints"),
        (np.zeros((3, 22, 60)), "Transpose an array"),
        (np.zeros((5, 22, 3)), "every frame is zero"),
        (np.full((5, 22, 3), np.nan), "NaN or infinite"),
        (np.zeros((0, 22, 3)), "no frames"),
        (np.zeros((5, 22, 3), int), "expected floats"),
        (DANCE * 100, "the joints are in centimetres. Multiply the joints by 0.01"),
        (None, "no such file. Give a .npy file"),
    ],
)
def test_convert_rejects_arrays_without_motion(tmp_path, capsys, array, says):
    source = tmp_path / "a.npy"
    if array is not None:
        np.save(source, array)
    message = error_of(capsys, ["convert", source, tmp_path / "a.bvh"])
    assert says in message
    assert str(source) in message
    assert not (tmp_path / "a.bvh").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["SOURCE", "a.fbx"], "name a .npy, .bvh"),
        (["SOURCE", "a.bvh", "--format", "features"], "cannot hold features"),
        (["SOURCE", "a.bvh", "--format", "features-272"], "cannot hold features"),
        (["SOURCE", "a.bvh", "--fps", "0"], "fps must lie between 0.1 and 1000"),
        (["SOURCE", "a.bvh", "--source-fps", "0"], "--source-fps must be a positive number"),
        (["SOURCE", "a.bvh", "--source-fps", "nan"], "--source-fps must be a positive number"),
        (["SOURCE", "a.bvh", "--source-fps", "2000"], "fps must lie between 0.1 and 1000"),
        (["SOURCE", "a.bvh", "--fps", "inf"], "fps must lie between 0.1 and 1000"),
        (["SOURCE", "a.bvh", "--skip", "-1"], "--skip must be at least 0"),
        (["SOURCE", "a.bvh", "--skip", "30"], "30 frames, of which 30 are skipped"),
        (["SOURCE", "a.npy", "--format", "features", "--lock-feet"], "--lock-feet changes joints"),
        (["SOURCE", "a.npy", "--format", "features", "--fps", "30"], "--fps cannot change features"),
        (["SOURCE", "a.npy", "--names", "mixamo"], "--names mixamo has no effect on .npy files"),
        (["SOURCE", "a.npz", "--bones", "stretch"], "--bones stretch has no effect on .npz files"),
        (["SOURCE", "a.bvh", "--body", "smplx"], "--body smplx has no effect on .bvh files"),
        (["SOURCE", "a.bvh", "--map", "cmu"], "--map has no effect on"),
        (["FEATURES", "a.bvh", "--up", "z"], "features have Y up by definition"),
        (["SOURCE", "SOURCE/a.bvh"], "cannot be written to"),
        (["ONE", "a.npy", "--format", "features"], "only one frame"),
    ],
)
def test_convert_rejects_impossible_conversions(tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    places = {"SOURCE": str(saved(tmp_path / "source.npy", DANCE)), "ONE": str(saved(tmp_path / "one.npy", DANCE[:1]))}
    places["FEATURES"] = str(saved(tmp_path / "features.npy", features.encode(DANCE)))
    for name, place in places.items():
        arguments = [argument.replace(name, place) for argument in arguments]
    assert says in error_of(capsys, ["convert", *arguments])


def test_convert_lists_all_bad_files_of_a_folder(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name, array in {"a": DANCE, "b": DANCE * 1000, "c": DANCE * 1000, "d": np.zeros((5, 67))}.items():
        saved(tmp_path / "in" / f"{name}.npy", array)
    (tmp_path / "in" / "e.bvh").write_text(bvh_body().replace("Frame Time: 0.05", "Frame Time: 33"))
    assert main(["convert", str(tmp_path / "in"), str(tmp_path / "out.bvh")]) == 1
    first, *lines = capsys.readouterr().err.strip().splitlines()
    assert "4 files cannot be used, for 3 reasons" in first
    assert [name for name in "abcde" if f"{name}." in " ".join(lines)] == list("bcde")
    assert "--source-fps" in lines[2]
    assert not list(tmp_path.glob("out*"))


def test_convert_rejects_files_that_are_not_arrays(tmp_path, capsys):
    (tmp_path / "text.npy").write_text("0 1 2\n")
    np.savez(tmp_path / "two.npz", a=DANCE)
    saved(tmp_path / "objects.npy", np.array([{}, None], dtype=object))
    for name, says in (
        ("text.npy", "not a .npy"),
        ("two.npz", "Save an array of"),
        ("objects.npy", "Give the results.npy"),
    ):
        message = error_of(capsys, ["convert", tmp_path / name, tmp_path / "a.bvh"])
        assert says in message
        assert "pickle" not in message


class Stub:
    """A generator that notes what it is asked for and answers with a dance."""

    skeleton = HUMANML3D

    def __init__(self) -> None:
        self.asked: dict[str, object] = {}

    def generate(self, prompts, *, seed, num_samples=1, output="joints", **options):
        self.asked = {"prompts": prompts, "seed": seed, "num_samples": num_samples, "output": output, **options}
        motions = [DANCE[: 30 - 2 * number] for number in range(len(prompts) * num_samples)]
        return motions if output == "joints" else [features.encode(motion) for motion in motions]


@pytest.fixture
def generator(monkeypatch) -> Stub:
    stub = Stub()
    monkeypatch.setattr(MotionGenerator, "from_pretrained", lambda name, **_: stub)
    return stub


def test_sample_passes_on_only_what_was_asked_for(generator, tmp_path):
    command = ["sample", "--model", "user/model", "--prompt", "a person bows", "--out", str(tmp_path / "a.npy")]
    assert main(command) == 0
    plain = {"prompts": ["a person bows"], "seconds": 4.0, "seed": 0, "num_samples": 1, "output": "joints"}
    plain |= {"guidance": None, "steps": None, "scheduler": None}  # those of the generator
    assert generator.asked == plain
    assert np.load(tmp_path / "a.npy").shape == (30, 22, 3)
    options = ["--guidance", "3.5", "--steps", "10", "--scheduler", "dpm++", "--seconds", "2", "--seed", "4"]
    assert main([*command, *options]) == 0
    given = {"guidance": 3.5, "steps": 10, "scheduler": "dpm++", "seconds": 2.0, "seed": 4}
    assert generator.asked == plain | given


def test_sample_prints_warnings_as_a_line(generator, tmp_path, monkeypatch, capsys):
    def generate(prompts, **_):
        warnings.warn("the end is cut off", stacklevel=2)
        return [DANCE]

    monkeypatch.setattr(generator, "generate", generate)
    assert main(["sample", "--model", "m", "--prompt", "a person bows", "--out", str(tmp_path / "a.npy")]) == 0
    assert capsys.readouterr().err == "warning: the end is cut off\n"


def test_sample_numbers_what_one_file_cannot_hold(generator, tmp_path):
    prompts = ["--prompt", "a person bows", "--prompt", "a person sits", "--seconds", "1", "--seconds", "2"]
    command = ["sample", "--model", "m", *prompts, "--num-samples", "2", "--out"]
    for suffix in (".bvh", ".glb", ".npy"):
        assert main([*command, str(tmp_path / f"a{suffix}")]) == 0
        assert sorted(path.name for path in tmp_path.glob(f"*{suffix}")) == [f"a_00{n}{suffix}" for n in range(4)]
    assert generator.asked["seconds"] == [1.0, 2.0]
    assert main([*command, str(tmp_path / "f.npy"), "--format", "features"]) == 0
    assert np.load(tmp_path / "f_001.npy").shape == (27, 263)
    assert main([*command, str(tmp_path / "a.html")]) == 0
    assert (tmp_path / "a.html").read_text().count("<canvas") == 4


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--out", "a.fbx"], "name a .npy, .bvh"),
        (["--out", "FILE/a.bvh"], "cannot be written to"),
        (["--out", "a.bvh", "--prompt", "  "], "The prompt is missing or blank"),
        (["--out", "a.bvh", "--seed", "-1"], "--seed must be a whole number of at least 0"),
        (["--out", "a.bvh", "--num-samples", "0"], "--num-samples must be a whole number of at least 1"),
        (["--out", "a.bvh", "--seconds", "1", "--seconds", "2"], "--seconds is given 2 times for 1 prompts"),
        (["--out", "a.bvh", "--format", "features"], "cannot hold features"),
    ],
)
def test_sample_refuses_before_it_generates(tmp_path, monkeypatch, capsys, options, says):
    def load(name, **_):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(MotionGenerator, "from_pretrained", load)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    command = ["sample", "--model", "m", "--prompt", "a person bows"]
    message = error_of(capsys, [*command, *(option.replace("FILE", "file") for option in options)])
    assert says in message


def test_sample_names_a_model_that_is_missing(tmp_path, capsys):
    command = ["sample", "--model", tmp_path / "none", "--prompt", "a", "--out", tmp_path / "a.bvh"]
    assert str(tmp_path / "none") in error_of(capsys, command)
    assert not (tmp_path / "a.bvh").exists()


def test_sample_writes_the_skeleton_of_kit_generators(monkeypatch, tmp_path):
    stub = SimpleNamespace(skeleton=KIT, generate=lambda prompts, **_: [dancer(20, skeleton=KIT)])
    monkeypatch.setattr(MotionGenerator, "from_pretrained", lambda name, **_: stub)
    out = tmp_path / "a.bvh"
    assert main(["sample", "--model", "m", "--prompt", "a person bows", "--out", str(out)]) == 0
    bvh = read_bvh(out)
    assert bvh.fps == KIT.fps
    assert "left_midfoot" in bvh.names
