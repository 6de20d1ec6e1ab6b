"""`prepare` on bodies that are not as they should be: every bad file is named, with the option that corrects it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from adaqf_train.cli import main
from adaqf_train.data.prepare.bvh import prepare_bvh
from adaqf_train.data.prepare.joints import prepare_joints
from adaqf_train.motion.features import encode
from adaqf_train.motion.mapping import to_kit
from adaqf_train.motion.skeleton import HUMANML3D, KIT
from adaqf_train.procedural import generate
from tests.helpers import bvh_body
from tests.motion.test_orientation import from_rest, turned_from

CLIPS = [clip.joints.astype(np.float64) for clip in generate(4, seed=11)]
NAMES = ("a", "b", "c", "d")
EXCHANGED = list(HUMANML3D.mirrored)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Joints of four clips with captions and split lists."""
    source = tmp_path / "source"
    source.mkdir()
    for name, joints in zip(NAMES, CLIPS, strict=True):
        np.save(source / f"{name}.npy", joints)
        (source / f"{name}.txt").write_text("a person moves\n")
    for split, names in (("train", "a\nb"), ("val", "c"), ("test", "d")):
        (source / f"{split}.txt").write_text(names)
    return source


def alter(source: Path, change: Callable[[np.ndarray], np.ndarray], names: str = "b") -> None:
    for name in names:
        np.save(source / f"{name}.npy", change(np.load(source / f"{name}.npy")))


def failing(capsys, command: list[str]) -> str:
    """Runs a command that must fail with one error and leave nothing; returns what it says."""
    before = sorted(Path(command[2]).parent.rglob("*"))
    capsys.readouterr()
    assert main(command) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert len([line for line in said.splitlines() if line.startswith("error: ")]) == 1
    assert sorted(Path(command[2]).parent.rglob("*")) == before
    return said


def kit(scale: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda joints: to_kit(joints) / KIT.units_per_metre * scale


def with_hole(joints: np.ndarray) -> np.ndarray:
    joints[7, 3] = np.nan
    return joints


BAD = {
    **{f"up {up}": (lambda x, up=up: turned_from(x, up), f"--up {up}") for up in ("x", "-x", "z", "-z", "-y")},
    "exchanged": (lambda x: x[:, EXCHANGED], "left and right are exchanged"),
    "x negated": (lambda x: x * [-1, 1, 1], "left and right are exchanged"),
    "z negated": (lambda x: x * [1, 1, -1], "left and right are exchanged"),
    "y and z swapped": (lambda x: x[..., [0, 2, 1]], "left and right are exchanged"),
    "KIT-ML in millimetres": (kit(1000), "millimetres. Multiply the joints by 0.64"),
    "KIT-ML in centimetres": (kit(100), "centimetres. Multiply the joints by 6.4"),
    "KIT-ML in metres": (kit(1), "metres. Multiply the joints by 640"),
    "KIT-ML in inches": (kit(1 / 0.0254), "inches. Multiply the joints by 16.3"),
    "KIT-ML, a giant": (kit(3 * 640), "people's are 0.6 to 1.15 m long"),
    "rest pose": (lambda x: from_rest(x, 1), "Give --skip 1"),
    "rest pose, held": (lambda x: from_rest(x, 1, 3), "Give --skip 4"),
    "rest pose, faded": (lambda x: from_rest(x, 3), "Give --skip 3"),
    "holes": (with_hole, "NaN or infinite at frame 7"),
    "infinite": (lambda x: np.full_like(x, np.inf), "NaN or infinite at frame 0"),
    "collapsed": (np.ones_like, "coincide"),
    "zeros": (np.zeros_like, "every frame is zero"),
    "one frame": (lambda x: x[:1], "1 frames, expected at least 2"),
    "no frame": (lambda x: x[:0], "no frames"),
    "23 joints": (lambda x: np.concatenate([x, x[:, :1]], axis=1), "shape (57, 23, 3), expected joint"),
    "features": (encode, "These are features"),
    "a batch": (lambda x: np.stack([x, x]), "Save the clips of a batch one by one"),
    "whole numbers": (lambda x: (1000 * x).astype(int), "expected floats"),
    "frames in the middle": (lambda x: x[:54].transpose(1, 0, 2), "Transpose an array"),
    "55 frames in the middle": (lambda x: x[:55].transpose(1, 0, 2), "legs change their length"),
}


@pytest.mark.parametrize("case", BAD)
def test_prepare_joints_refuses_bodies_and_names_the_remedy(source, tmp_path, capsys, case):
    change, says = BAD[case]
    alter(source, change)
    frames = len(CLIPS[1])
    said = failing(capsys, ["prepare", "joints", str(source), str(tmp_path / "out")])
    assert says.replace("57", str(frames)) in said
    assert "b.npy" in said
    assert "a.npy" not in said


def test_prepare_joints_finds_an_empty_split_before_it_examines(source, tmp_path, capsys):
    (source / "val.txt").unlink()
    alter(source, with_hole)
    said = failing(capsys, ["prepare", "joints", str(source), str(tmp_path / "out")])
    assert "is in split val. List clips in train.txt" in said
    assert "Checking" not in said


def test_prepare_joints_lists_all_bad_files_at_once(source, tmp_path, capsys):
    alter(source, lambda x: turned_from(x, "z"), "ab")
    alter(source, lambda x: x[:, EXCHANGED], "c")
    alter(source, with_hole, "d")
    said = failing(capsys, ["prepare", "joints", str(source), str(tmp_path / "out")])
    first, *lines = [line for line in said.splitlines() if ".npy" in line or line.startswith("error")]
    assert "4 files cannot be used, for 3 reasons" in first
    assert len(lines) == 3
    assert "a.npy" in lines[0]
    assert "b.npy" in lines[0]
    assert "--up z" in lines[0]


@pytest.mark.parametrize(
    "layout",
    [
        lambda x: x.reshape(len(x), 66),
        lambda x: np.concatenate([x, x[:, 20:22]], axis=1),
        lambda x: np.concatenate([x, np.repeat(x[:, 20:21], 30, 1)], axis=1),
        lambda x: x.transpose(1, 2, 0),
        lambda x: x[None],
        lambda x: np.concatenate([x, np.zeros((20, 22, 3))]),
        lambda x: 100 * x,
    ],
)
def test_prepare_joints_accepts_every_layout_of_joints(source, tmp_path, layout):
    prepare_joints(source, tmp_path / "plain")
    alter(source, layout, "abcd")
    prepare_joints(source, tmp_path / "other")
    for name in NAMES:
        a, b = (np.load(tmp_path / kind / "new_joint_vecs" / f"{name}.npy") for kind in ("plain", "other"))
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("up", ["x", "-x", "-y", "z", "-z"])
def test_up_gives_the_same_clips_from_any_axis(source, tmp_path, up):
    prepare_joints(source, tmp_path / "plain")
    alter(source, lambda x: turned_from(x, up), "abcd")
    assert main(["prepare", "joints", str(source), str(tmp_path / "out"), "--up", up]) == 0
    for name in NAMES:
        a, b = (np.load(tmp_path / kind / "new_joint_vecs" / f"{name}.npy") for kind in ("plain", "out"))
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_options_of_folders_and_tables_win_over_the_command_line(tmp_path):
    """A mixed folder: one file with Z up, one that begins with a rest pose, one at 40 fps, one with other names."""
    source = tmp_path / "source"
    text = {name: bvh_body(frames=60, seed=seed) for seed, name in enumerate(NAMES)}
    for name, folder in (("a", "plain"), ("b", "studio/z"), ("c", "studio"), ("d", "plain")):
        (source / folder).mkdir(parents=True, exist_ok=True)
        (source / folder / f"{name}.bvh").write_text(text[name])
    for split, names in (("train", "a\nb"), ("val", "c"), ("test", "d")):
        (source / f"{split}.txt").write_text(names)
    captions = source / "captions.json"
    captions.write_text(json.dumps({name: ["a person moves"] for name in NAMES}))
    prepare_bvh(source, tmp_path / "plain", captions=captions)
    body, _, motion = text["b"].partition("Frame Time: 0.05\n")
    world = "ROOT World\n{\nOFFSET 0 0 0\nCHANNELS 1 Xrotation\nJOINT"
    body = body.replace("ROOT", world).replace("MOTION", "}\nMOTION")
    (source / "studio/z/b.bvh").write_text(
        f"{body}Frame Time: 0.05\n" + "".join(f"90 {r}\n" for r in motion.splitlines())
    )
    (source / "studio/z/options.json").write_text('{"up": "z"}')
    (source / "studio/options.json").write_text('{"fps": 20}')
    (source / "studio/c.bvh").write_text(text["c"].replace("Frame Time: 0.05", "Frame Time: 50"))
    table = {name: ["a person moves"] for name in NAMES} | {
        "d": {"captions": ["a person moves"], "fps": 20, "map": "lafan1"}
    }
    captions.write_text(json.dumps(table))
    prepare_bvh(source, tmp_path / "out", captions=captions, fps=20.0)
    for name in NAMES:
        a, b = (np.load(tmp_path / kind / "new_joint_vecs" / f"{name}.npy") for kind in ("plain", "out"))
        np.testing.assert_allclose(a, b, atol=1e-4)
    rows = ["name,caption,up,skip,fps,map"]
    rows += ["a,moves,,,,", "b,moves,z,0,20,", "c,moves,,,20,lafan1", "d,moves,y,,,", "d,moves on,y,,,"]
    (source / "captions.csv").write_text("\n".join(rows))
    (source / "studio/options.json").unlink()
    prepare_bvh(source, tmp_path / "csv", captions=source / "captions.csv")
    for name in NAMES:
        a, b = (np.load(tmp_path / kind / "new_joint_vecs" / f"{name}.npy") for kind in ("plain", "csv"))
        np.testing.assert_allclose(a, b, atol=1e-4)


OPTIONS = {
    "an unknown option": ('{"upp": "z"}', "", "options.json: upp: no such option. Options are map, skip, up, fps"),
    "an unknown axis": ('{"up": "w"}', "", "up w: give one of x, y, z, -x, -y, -z"),
    "a list": ("[1]", "", "options.json: holds a list"),
    "no JSON": ("{", "", "options.json: not valid JSON"),
    "a rate of 0": ('{"fps": 0}', "", "fps 0: give a frame rate above 0"),
    "a rate in words": ('{"fps": "many"}', "", "fps many: give a frame rate above 0"),
    "half a frame": ('{"skip": 0.5}', "", "skip 0.5: give 0 or more frames"),
    "true": ('{"skip": true}', "", "skip True: give 0 or more frames"),
    "a map that is a number": ('{"map": 3}', "", "map 3: give a preset's name or a JSON file"),
    "a map that is missing": ('{"map": "nowhere.json"}', "", "source/options.json: map "),
    "a map in a table": ("{}", "name,caption,map\na,x,cmuu\n", "captions of a: map cmuu: neither a preset"),
    "an axis in a table": ("{}", "name,caption,up\na,moves,w\n", "captions.csv, line 2: up w: give one of"),
    "two rates for a file": ("{}", "name,caption,fps\na,x,20\na,y,30\n", "line 3: a has another fps above"),
    "an option in JSON": ("{}", '{"a": {"captions": ["x"], "spin": 1}}', "captions.json: a: spin: no such option"),
    "an entry without captions": ("{}", '{"a": {"up": "z"}}', "a needs a non-empty list of captions"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_prepare_bvh_names_the_place_of_bad_options(tmp_path, capsys, case):
    options, table, says = OPTIONS[case]
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.bvh").write_text(bvh_body())
    (source / "options.json").write_text(options)
    captions = source / ("captions.csv" if table.startswith("name") else "captions.json")
    captions.write_text(table or '{"a": ["moves"]}')
    said = failing(capsys, ["prepare", "bvh", str(source), str(tmp_path / "out"), "--captions", str(captions)])
    assert says in said


@pytest.mark.parametrize(
    ("written", "says"), [("33.3", "--fps 30.03 if it is milliseconds"), ("30", "--fps 30 if it is")]
)
def test_prepare_bvh_refuses_frame_times_in_other_units(tmp_path, capsys, written, says):
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.bvh").write_text(bvh_body().replace("Frame Time: 0.05", f"Frame Time: {written}"))
    (source / "a.txt").write_text("moves")
    assert says in failing(capsys, ["prepare", "bvh", str(source), str(tmp_path / "out")])


def test_prepare_warns_of_what_may_be_wrong(source, tmp_path, capsys):
    def sinking(joints: np.ndarray) -> np.ndarray:
        joints[9] -= [0, 0.1, 0]
        return joints

    alter(source, sinking)
    assert main(["prepare", "joints", str(source), str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    assert "warning: " in said
    assert "b.npy: the feet are 10 cm above the floor" in said
    assert "a.npy" not in said


EULER = {"x": "-90 0 0", "-x": "90 0 0", "-y": "180 0 0", "z": "0 90 0", "-z": "0 -90 0"}  # degrees about Z, X, Y


@pytest.mark.data
@pytest.mark.parametrize("up", ["x", "-x", "-y", "z", "-z"])
def test_prepare_bvh_finds_the_up_axis_of_turned_captures(shared, tmp_path, up):
    from adaqf_train.data.prepare.bvh import Options, _Converter
    from adaqf_train.errors import DataError

    path = shared("bandai-namco") / "bvh" / "dataset-1_bow_angry_001.bvh"
    head, mark, motion = path.read_text().partition("MOTION")
    world = "ROOT Turned\n{\nOFFSET 0 0 0\nCHANNELS 3 Zrotation Xrotation Yrotation\nJOINT joint_Root"
    head = head.replace("ROOT joint_Root", world, 1)
    lines = motion.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("Frame Time")) + 1
    rows = [f"{EULER[up]} {line}" for line in lines[start:] if line.strip()]
    out = tmp_path / "turned.bvh"
    out.write_text("\n".join([head + "}", mark, *lines[1:start], *rows]) + "\n")
    converter = _Converter({out: Options()})
    with pytest.raises(DataError, match=f"--up {up} if"):
        converter.look(out)
    assert _Converter({out: Options(up=up)}).look(out).frames > 20  # type: ignore[arg-type]
