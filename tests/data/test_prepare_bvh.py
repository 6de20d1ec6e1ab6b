"""`prepare bvh`: folders of captures into a data set that loads, and every bad input in one line."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from adaqf_train.cli import main
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.data.prepare.bvh import prepare_bvh
from adaqf_train.data.prepare.joints import prepare_joints
from adaqf_train.doctor import examine
from adaqf_train.errors import DataError
from adaqf_train.motion.features import decode, encode
from adaqf_train.motion.mapping import PRESETS
from tests.helpers import FLOAT32, bvh_body, deviation

SPLITS = {"train": ["walk", "turn"], "val": ["sway"], "test": ["bow"]}
NAMES = [name for names in SPLITS.values() for name in names]
CAPTIONS = {name: [f"a person can {name}", f"someone does {name} to the left"] for name in NAMES}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Four captures, one of them in a folder of its own, captions in JSON and split lists."""
    source = tmp_path / "source"
    (source / "more").mkdir(parents=True)
    for seed, name in enumerate(NAMES):
        folder = source / "more" if name == "bow" else source
        (folder / f"{name}.bvh").write_text(bvh_body(frames=60, seed=seed))
    for split, names in SPLITS.items():
        (source / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    (source / "captions.json").write_text(json.dumps(CAPTIONS))
    return source


def prepared(source: Path, out: Path, **options):
    return prepare_bvh(source, out, captions=source / "captions.json", **options)


def joints(folder: Path, name: str) -> np.ndarray:
    return np.load(folder / "new_joints" / f"{name}.npy")


def test_prepare_bvh_writes_a_data_set_that_loads(source, tmp_path):
    summary = prepared(source, tmp_path / "out")
    assert summary.clips == {"train": 2, "val": 1, "test": 1}
    assert not list(summary.lines())
    for split, names in SPLITS.items():
        dataset = MotionDataset(tmp_path / "out", split)
        assert {item.key: list(item.captions) for item in dataset.items} == {name: CAPTIONS[name] for name in names}
        assert all(item.vectors.shape == (59, 263) for item in dataset.items)
    body = joints(tmp_path / "out", "walk")
    assert body[..., 1].min() == pytest.approx(0, abs=1e-5)
    assert 1.2 < body[:, 15, 1].mean() < 1.7  # metres of a head above the floor, from centimetres
    assert body[-1, 0, 2] > 0.5  # it goes where it faces
    assert body[0, 1, 0] > 0 > body[0, 2, 0]  # left is left
    assert not list(tmp_path.glob(".*"))
    assert examine(tmp_path / "out").ok


def test_prepare_bvh_reads_captions_from_csv_and_text_files(source, tmp_path):
    prepared(source, tmp_path / "json")
    with (source / "captions.csv").open("w", newline="", encoding="utf-8-sig") as file:
        rows = csv.writer(file)
        rows.writerow(["take", "Name", " Caption"])
        rows.writerows([index, name, text] for name, texts in CAPTIONS.items() for index, text in enumerate(texts))
    prepare_bvh(source, tmp_path / "csv", captions=source / "captions.csv")
    for name, texts in CAPTIONS.items():
        (source / ("more" if name == "bow" else ".") / f"{name}.txt").write_text("\n".join(texts))
    prepare_bvh(source, tmp_path / "txt")
    for kind in ("csv", "txt"):
        for name in NAMES:
            path = Path("texts") / f"{name}.txt"
            assert (tmp_path / kind / path).read_text() == (tmp_path / "json" / path).read_text()


def test_prepare_bvh_skips_and_names_unusable_files(source, tmp_path, capsys):
    (source / "short.bvh").write_text(bvh_body(frames=40))
    (source / "silent.bvh").write_text("not even BVH")
    (source / "unlisted.bvh").write_text(bvh_body())
    (source / "captions.json").write_text(
        json.dumps(CAPTIONS | {name: ["a"] for name in ("short", "unlisted", "lost", "gone")})
    )
    with (source / "train.txt").open("a") as file:
        file.write("short\n")
    command = ["prepare", "bvh", str(source), str(tmp_path / "out"), "--captions", str(source / "captions.json")]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "skipped 1, no caption: silent" in lines
    assert "skipped 1, fewer than 41 frames at 20 fps: short" in lines
    assert "skipped 1, in no split list: unlisted" in lines
    assert "2 captioned names have no file" in lines
    assert lines[-1] == f"wrote {tmp_path / 'out'}: 2 train, 1 val, 1 test"
    assert (tmp_path / "out" / "all.txt").read_text().split() == sorted(NAMES)


@pytest.mark.parametrize(("frames", "windows"), [(196, 1), (197, 2), (400, 3)])
def test_windows_are_even_and_stay_in_one_split(source, tmp_path, frames, windows):
    (source / "walk.bvh").write_text(bvh_body(frames=frames))
    prepared(source, tmp_path / "out")
    train = (tmp_path / "out" / "train.txt").read_text().split()
    cut = ["walk"] if windows == 1 else [f"walk_w{index}" for index in range(windows)]
    assert train == sorted(["turn", *cut])
    lengths = [len(joints(tmp_path / "out", name)) + 1 for name in cut]
    assert sum(lengths) == frames
    assert max(lengths) - min(lengths) <= 1
    for name in cut:
        assert (tmp_path / "out" / "texts" / f"{name}.txt").read_text().count("\n") == 2


def test_windows_keep_their_segments(source, tmp_path):
    for name, texts in CAPTIONS.items():
        (source / ("more" if name == "bow" else ".") / f"{name}.txt").write_text("\n".join(texts))
    (source / "walk.bvh").write_text(bvh_body(frames=400))  # 20 s in windows of 6.65, 6.7 and 6.65 s
    (source / "walk.txt").write_text("starts#x#0.0#3.0\nturns#x#5.0#10.0\nmoves#x#0.0#0.0\n")
    prepare_bvh(source, tmp_path / "out")
    lines = [(tmp_path / "out" / "texts" / f"walk_w{index}.txt").read_text().splitlines() for index in range(3)]
    found = [[(line.split("#")[0], *map(float, line.split("#")[2:])) for line in window] for window in lines]
    assert found[0] == [("starts", 0, 3), ("moves", 0, 0)]
    assert [part[0] for part in found[1]] == ["turns", "moves"]
    assert found[1][0][1:] == pytest.approx((0, 3.35))
    assert found[2] == [("moves", 0, 0)]


def test_prepare_bvh_is_independent_of_unit_rate_and_skeleton(source, tmp_path):
    prepared(source, tmp_path / "plain")
    for seed, name in enumerate(NAMES):
        path = source / ("more" if name == "bow" else ".") / f"{name}.bvh"
        path.write_text(bvh_body("mixamo", frames=119, seed=seed, frame_time=0.025).replace("OT ", "OT mixamorig:"))
    prepared(source, tmp_path / "other")
    for name in NAMES:
        assert np.abs(joints(tmp_path / "other", name) - joints(tmp_path / "plain", name)).max() < 1e-4


def test_fps_replaces_the_rate_of_the_files(source, tmp_path):
    prepared(source, tmp_path / "out", fps=24)
    assert len(joints(tmp_path / "out", "walk")) == int(59 * 20 / 24)


def test_joint_map_may_be_a_file_or_a_preset(source, tmp_path):
    prepared(source, tmp_path / "known", joint_map="lafan1")
    for path in source.rglob("*.bvh"):
        path.write_text(path.read_text().replace("Spine1", "Belly"))
    points = {**PRESETS["lafan1"], "spine2": "Belly", "spine3": ["Belly", "Spine2", 1.0]}
    (source / "map.json").write_text(json.dumps(points))
    prepared(source, tmp_path / "mapped", joint_map=str(source / "map.json"))
    for name in NAMES:
        assert deviation(joints(tmp_path / "mapped", name), joints(tmp_path / "known", name)) < FLOAT32


def lying(text: str) -> str:
    """The same file with Z up: a joint before the root turns y to z."""
    head, _, motion = text.partition("Frame Time: 0.05\n")
    world = "ROOT World\n{\nOFFSET 0 0 0\nCHANNELS 1 Xrotation\nJOINT"
    head = head.replace("ROOT", world).replace("MOTION", "}\nMOTION")
    return f"{head}Frame Time: 0.05\n" + "".join(f"90 {row}\n" for row in motion.splitlines())


def test_up_z_is_required_and_rotates_files(source, tmp_path):
    prepared(source, tmp_path / "plain")
    for path in source.rglob("*.bvh"):
        path.write_text(lying(path.read_text()))
    with pytest.raises(DataError, match=r"bow\.bvh, .*sway\.bvh.*: the body lies: it extends along \+z\. Give --up z"):
        prepared(source, tmp_path / "out")
    prepared(source, tmp_path / "turned", up="z")
    prepared(source, tmp_path / "sleeping", up="y")
    for name in NAMES:
        assert deviation(joints(tmp_path / "turned", name), joints(tmp_path / "plain", name)) < FLOAT32
        sleeper = joints(tmp_path / "sleeping", name)
        assert np.abs(sleeper[:, 15, 1] - sleeper[:, 7, 1]).max() < 0.8  # head no higher than feet


def test_skip_is_required_for_a_rest_pose(source, tmp_path):
    prepared(source, tmp_path / "plain")
    for path in source.rglob("*.bvh"):
        head, _, motion = path.read_text().partition("Frame Time: 0.05\n")
        rest = [*motion.split()[:3], *["0"] * 66]
        rest[48], rest[60] = "90", "-90"  # the arms, which would hang, out to the sides
        head = head.replace("Frames: 60", "Frames: 61")
        path.write_text(f"{head}Frame Time: 0.05\n{' '.join(rest)}\n{motion}")
    with pytest.raises(DataError, match=r"the body jumps in the first frame, .* Give --skip 1"):
        prepared(source, tmp_path / "out")
    prepared(source, tmp_path / "skipped", skip=1)
    prepared(source, tmp_path / "kept", skip=0)
    for name in NAMES:
        np.testing.assert_array_equal(joints(tmp_path / "skipped", name), joints(tmp_path / "plain", name))
        assert len(joints(tmp_path / "kept", name)) == 60
    with pytest.raises(DataError, match=r"no file can be used\. skipped 4, fewer than 41"):
        prepared(source, tmp_path / "none", skip=100)


def test_splits_without_lists_are_drawn_from_the_names(source, tmp_path):
    for split in SPLITS:
        (source / f"{split}.txt").unlink()
    names = [f"clip{number}" for number in range(40)]
    for name in names:
        (source / f"{name}.bvh").write_text(bvh_body(frames=45))
    (source / "captions.json").write_text(json.dumps({name: ["a person moves"] for name in names}))
    summary = prepared(source, tmp_path / "out", mirror=True)
    assert sum(summary.clips.values()) == 40 + summary.clips["train"] // 2
    assert min(summary.clips.values()) > 0
    assert (tmp_path / "out" / "texts" / f"M{(tmp_path / 'out' / 'train.txt').read_text().split()[-1]}.txt").is_file()


def test_prepare_bvh_continues_after_an_interruption(source, tmp_path, monkeypatch):
    from adaqf_train.data import layout

    (source / "walk.bvh").write_text(bvh_body(frames=400))
    prepared(source, tmp_path / "whole")
    encoded: list[int] = []

    def encoding(joints, *, stop: int):
        if len(encoded) == stop:
            raise KeyboardInterrupt
        encoded.append(len(joints))
        return encode(joints)

    monkeypatch.setattr(layout.motion_features, "encode", lambda joints: encoding(joints, stop=2))
    with pytest.raises(KeyboardInterrupt):
        prepared(source, tmp_path / "out")
    monkeypatch.setattr(layout.motion_features, "encode", lambda joints: encoding(joints, stop=-1))
    prepared(source, tmp_path / "out")
    assert len(encoded) == 6  # three files, and the three windows of another, once each
    for path in sorted((tmp_path / "whole").rglob("*.npy")):
        assert path.read_bytes() == (tmp_path / "out" / path.relative_to(tmp_path / "whole")).read_bytes()


def test_prepare_bvh_reads_the_same_whether_or_not_files_stay_in_memory(source, tmp_path, monkeypatch):
    from adaqf_train.data.prepare import bvh

    prepared(source, tmp_path / "kept")
    monkeypatch.setattr(bvh, "KEPT", 0)
    prepared(source, tmp_path / "again")
    for name in NAMES:
        np.testing.assert_array_equal(joints(tmp_path / "kept", name), joints(tmp_path / "again", name))


def rewritten(name: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    def damage(source: Path) -> None:
        (source / name).write_text(change((source / name).read_text()))

    return damage


def replaced(name: str, content: str | bytes) -> Callable[[Path], None]:
    def damage(source: Path) -> None:
        (source / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return damage


def all_of(*damages: Callable[[Path], None]) -> Callable[[Path], None]:
    def damage(source: Path) -> None:
        for each in damages:
            each(source)

    return damage


def no_bvh(source: Path) -> None:
    for path in source.rglob("*.bvh"):
        path.unlink()


def last_value_lost(text: str) -> str:
    return text.rstrip().rpartition(" ")[0] + "\n"


JSON, CSV = ["--captions", "SRC/captions.json"], ["--captions", "SRC/captions.csv"]
BAD = {
    "no files": (no_bvh, JSON, "source: no .bvh files"),
    "an empty file": (replaced("walk.bvh", ""), JSON, "walk.bvh: the file is empty"),
    "another format": (replaced("walk.bvh", b"\x00\xff\x01"), JSON, "walk.bvh: the MOTION section is missing"),
    "missing frames": (
        rewritten("walk.bvh", lambda text: text.rstrip().rpartition("\n")[0]),
        JSON,
        'walk.bvh: 59 lines of motion, but "Frames:" says 60',
    ),
    "a value lost in the last line": (
        rewritten("turn.bvh", last_value_lost),
        JSON,
        "turn.bvh, line 194: 68 values, expected 69",
    ),
    "NaN in the last line": (
        rewritten("turn.bvh", lambda text: last_value_lost(text).rstrip() + " NaN\n"),
        JSON,
        "turn.bvh, line 194: 'NaN' is not a number",
    ),
    "an unknown skeleton": (
        rewritten("walk.bvh", lambda text: text.replace("Spine1", "Belly")),
        JSON,
        "walk.bvh: no preset (humanml3d, cmu, mixamo, lafan1, bandai-namco, ",
    ),
    "a preset that does not fit": (
        lambda source: None,
        [*JSON, "--map", "cmu"],
        "the joint of spine3, 'Neck1'",
    ),
    "a map that is not there": (lambda source: None, [*JSON, "--map", "nowhere.json"], "neither a preset"),
    "a map that is no JSON": (replaced("map.json", "{"), [*JSON, "--map", "SRC/map.json"], "map.json: not valid JSON"),
    "a map of bytes": (replaced("map.json", b"\xff"), [*JSON, "--map", "SRC/map.json"], "map.json: not valid JSON"),
    "half a map": (
        replaced("map.json", '{"pelvis": "Hips"}'),
        [*JSON, "--map", "SRC/map.json"],
        "have no joint. Add them",
    ),
    "joints that coincide": (
        replaced("map.json", json.dumps({**PRESETS["lafan1"], "spine1": "Hips"})),
        [*JSON, "--map", "SRC/map.json"],
        "spine1 and pelvis coincide",
    ),
    "two files of one name": (
        lambda source: (source / "more" / "walk.bvh").write_text(bvh_body()),
        JSON,
        "walk.bvh: has the name of",
    ),
    "a name for a window that exists": (
        all_of(
            replaced("walk.bvh", bvh_body(frames=300)),
            replaced("walk_w0.bvh", bvh_body()),
            rewritten("train.txt", lambda text: text + "walk_w0\n"),
            replaced("captions.json", json.dumps(CAPTIONS | {"walk_w0": ["a"]})),
        ),
        JSON,
        "two clips are named walk_w0",
    ),
    "an unknown name in a list": (replaced("val.txt", "nobody\n"), JSON, "val.txt: lists nobody, which has no"),
    "a name in two lists": (replaced("val.txt", "walk\n"), JSON, "val.txt: lists walk, as train.txt does"),
    "an empty list": (replaced("val.txt", ""), JSON, "val.txt: the val split is empty"),
    "a split without clips": (lambda source: (source / "val.txt").unlink(), JSON, "of 3 clips is in split val"),
    "no captions file": (lambda source: None, ["--captions", "SRC/none.json"], "none.json: missing"),
    "captions of another kind": (replaced("c.yaml", "a"), ["--captions", "SRC/c.yaml"], "c.yaml: expected captions as"),
    "no captions at all": (lambda source: None, [], "Give --captions FILE, or put a .txt beside each file"),
    "captions of others": (replaced("captions.json", '{"x": ["a"]}'), JSON, "source: no file can be used. skipped 4"),
    "captions that are no JSON": (replaced("captions.json", '{"walk": [\n"a",]}'), JSON, "line 2"),
    "captions in a list": (replaced("captions.json", '["a"]'), JSON, "captions.json: holds a list"),
    "a name twice": (replaced("captions.json", '{"a": ["x"], "a": ["y"]}'), JSON, "'a' occurs twice"),
    "a caption that is no list": (replaced("captions.json", '{"walk": "a"}'), JSON, "walk needs a non-empty list"),
    "an empty caption": (replaced("captions.json", '{"walk": ["a", " "]}'), JSON, "walk needs a non-empty list"),
    "a number for a caption": (replaced("captions.json", '{"walk": [7]}'), JSON, "walk needs a non-empty list"),
    "latin-1 JSON": (replaced("captions.json", '{"walk": ["grüßt"]}'.encode("latin-1")), JSON, "not UTF-8 (byte 13)"),
    "latin-1 CSV": (replaced("captions.csv", "name,caption\nwalk,grüßt\n".encode("latin-1")), CSV, "not UTF-8"),
    "CSV without a header": (replaced("captions.csv", "walk,a person walks\n"), CSV, "line 1: expected a header"),
    "empty CSV": (replaced("captions.csv", ""), CSV, "line 1: expected a header"),
    "CSV with a header only": (replaced("captions.csv", "name,caption\n"), CSV, "captions.csv: no captions"),
    "a comma too many": (replaced("captions.csv", "name,caption\nwalk,a,b\n"), CSV, "line 2: 3 columns, expected 2"),
    "a row without a caption": (replaced("captions.csv", "name,caption\nwalk, \n"), CSV, "2: the caption is empty"),
    "a row without a name": (replaced("captions.csv", "name,caption\n\n,a\n"), CSV, "line 3: the name is empty"),
    "a quote never closed": (replaced("captions.csv", 'name,caption\nwalk,"a\n'), CSV, "not CSV"),
    "an empty text file": (replaced("walk.txt", "\n"), [], "walk.txt: no captions"),
    "no rate": (lambda source: None, [*JSON, "--fps", "0"], "--fps 0: give a frame rate above 0"),
    "frames to skip below zero": (lambda source: None, [*JSON, "--skip", "-1"], "--skip -1: give 0 or more frames"),
    "a window too small": (lambda source: None, [*JSON, "--window", "20"], "--window 20: expected 82 to 200"),
    "an output that exists": (lambda source: None, [*JSON, "OUT=SRC"], "source: already exists"),
}


@pytest.mark.parametrize("case", BAD)
def test_prepare_bvh_reports_bad_input_in_one_line_and_writes_nothing(source, tmp_path, capsys, case):
    damage, options, says = BAD[case]
    damage(source)
    out = source if "OUT=SRC" in options else tmp_path / "out"
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    options = [option.replace("SRC", str(source)) for option in options if option != "OUT=SRC"]
    capsys.readouterr()
    assert main(["prepare", "bvh", str(source), str(out), *options]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert says in errors[0]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "out").exists()


@pytest.mark.data
def test_prepare_bvh_equals_prepare_joints_on_shared_captures(shared, tmp_path):
    """The same takes by two roads: from the files, and from the positions somebody else made of them."""
    folder = shared("bandai-namco")
    whole = {path.stem for path in (folder / "bvh").glob("*.bvh")}
    pack, names = tmp_path / "pack", []
    pack.mkdir()
    for split in ("train", "val", "test"):
        with np.load(folder / f"{split}.npz") as archive:
            bounds = zip(archive["names"], archive["offsets"][:-1], archive["offsets"][1:], strict=True)
            kept = [(str(n), a, b) for n, a, b in bounds if str(n) in whole and b - a > 40][:6]
            np.savez(
                pack / f"{split}.npz",
                positions=np.concatenate([archive["positions"][a:b] for _, a, b in kept]),
                scale=archive["scale"],
                offsets=np.cumsum([0, *(b - a for _, a, b in kept)]),
                names=[n for n, _, _ in kept],
                fps=archive["fps"],
            )
            names.append([n for n, _, _ in kept])
    captions = json.loads((folder / "captions.json").read_text())
    (pack / "captions.json").write_text(json.dumps(captions))
    prepare_joints(pack, tmp_path / "joints")
    source = tmp_path / "bvh"
    source.mkdir()
    for split, members in zip(("train", "val", "test"), names, strict=True):
        (source / f"{split}.txt").write_text("\n".join(members))
        for name in members:
            (source / f"{name}.bvh").write_bytes((folder / "bvh" / f"{name}.bvh").read_bytes())
    summary = prepare_bvh(source, tmp_path / "out", captions=folder / "captions.json")
    assert list(summary.clips.values()) == [len(members) for members in names]
    for name in itertools.chain(*names):
        assert np.abs(joints(tmp_path / "out", name) - joints(tmp_path / "joints", name))[:-1].max() < 5e-3
        vectors = np.load(tmp_path / "out" / "new_joint_vecs" / f"{name}.npy")
        assert np.abs(encode(decode(vectors).astype(np.float64))[:, 3] - vectors[:-1, 3]).max() < 1e-3
    assert MotionDataset(tmp_path / "out", "train").items[0].captions == tuple(captions[sorted(names[0])[0]])
