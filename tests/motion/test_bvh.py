"""BVH files: whatever the channels, the joints are where an independent reference puts them; damage is named."""

from __future__ import annotations

import csv
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from adaqf_train.errors import DataError
from adaqf_train.motion import mapping
from adaqf_train.motion.bvh import Bvh, read_bvh
from tests.helpers import bvh_body, bvh_text

ORDERS = ["".join(order) for order in itertools.permutations("XYZ")]
POSITIONS = "Xposition Yposition Zposition"


def turns(order: str) -> str:
    return " ".join(f"{axis}rotation" for axis in order)


def chain(order: str, *, six: bool = False, frames: int = 5) -> tuple[list, np.ndarray]:
    """A branching tree of five joints and random channels."""
    rng = np.random.default_rng(0)
    parents = (-1, 0, 1, 1, 0)
    joints = [
        (
            f"j{joint}",
            parent,
            rng.normal(0, 10, 3),
            f"{POSITIONS} {turns(order)}" if six or joint == 0 else turns(order),
        )
        for joint, parent in enumerate(parents)
    ]
    width = sum(len(joint[3].split()) for joint in joints)
    return joints, rng.uniform(-170, 170, (frames, width))


def reference(joints: list, values: np.ndarray) -> np.ndarray:
    """Positions (T, J, 3) by 4 x 4 matrices, one frame and joint at a time."""
    positions = np.zeros((len(values), len(joints), 3))
    for frame, row in enumerate(values):
        numbers, matrices = iter(row), []
        for joint, (_, parent, offset, channels) in enumerate(joints):
            matrix = np.eye(4)
            matrix[:3, 3] = offset
            for channel in channels.split():
                axis, kind = "XYZ".index(channel[0]), channel[1:]
                if kind == "position":
                    matrix[axis, 3] = next(numbers)
                else:
                    turn = np.eye(4)
                    turn[:3, :3] = Rotation.from_euler("xyz"[axis], next(numbers), degrees=True).as_matrix()
                    matrix = matrix @ turn
            matrices.append(matrices[parent] @ matrix if parent >= 0 else matrix)
            positions[frame, joint] = matrices[-1][:3, 3]
    return positions


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def joints_only(bvh: Bvh, positions: np.ndarray) -> np.ndarray:
    return positions[:, [not name.endswith("_end") for name in bvh.names]]


@pytest.mark.parametrize("six", [False, True])
@pytest.mark.parametrize("order", [*ORDERS, "ZXZ", "Y", ""])
def test_read_bvh_equals_a_reference_in_any_rotation_order(tmp_path, order, six):
    joints, values = chain(order, six=six)
    bvh = read_bvh(written(tmp_path / "a.bvh", bvh_text(joints, values)))
    assert np.abs(joints_only(bvh, bvh.positions()) - reference(joints, values)).max() < 1e-9
    if len(set(order)) == 3:  # control: the same numbers in another order
        other = [(*joint[:3], joint[3].replace(turns(order), turns(order[::-1]))) for joint in joints]
        assert np.abs(joints_only(bvh, bvh.positions()) - reference(other, values)).max() > 1


def test_read_bvh_replaces_offsets_by_position_channels(tmp_path):
    joints = [("root", -1, (1, 2, 3), turns("ZXY")), ("tip", 0, (10, 20, 30), "Yposition")]
    bvh = read_bvh(written(tmp_path / "a.bvh", bvh_text(joints, np.array([[0, 0, 0, 5]]))))
    np.testing.assert_array_equal(bvh.positions()[0, :2], [[1, 2, 3], [11, 7, 33]])


def test_read_bvh_makes_end_sites_rigid_joints(tmp_path):
    joints = [("root", -1, (0, 0, 0), f"{POSITIONS} {turns('ZXY')}"), ("arm", 0, (5, 0, 0), turns("ZXY"))]
    bvh = read_bvh(written(tmp_path / "a.bvh", bvh_text(joints, np.array([[0, 0, 0, 90, 0, 0, 0, 0, 0]]))))
    assert bvh.names == ("root", "arm", "arm_end")
    assert bvh.channels[2] == ()
    np.testing.assert_allclose(bvh.positions()[0], [[0, 0, 0], [0, 5, 0], [-1, 5, 0]], atol=1e-12)


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda text: text.replace("  ", "\t").replace("Frames: ", "Frames:\t").replace("Time: ", "Time:\t"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\r"),
        lambda text: "\ufeff" + text + "\n \n",
        lambda text: text.replace(" 0.", "\t  0.").replace("OFFSET", "offset").replace("rotation", "ROTATION"),
        lambda text: text.replace("\n{", " {").replace("Site\n", "Site ").replace("Frame Time", "FRAME TIME"),
    ],
)
def test_read_bvh_accepts_any_layout_of_the_text(tmp_path, rewrite):
    joints, values = chain("ZXY")
    text = bvh_text(joints, values)
    assert rewrite(text) != text
    plain = read_bvh(written(tmp_path / "a.bvh", text))
    other = read_bvh(written(tmp_path / "b.bvh", rewrite(text)))
    assert other.names == plain.names
    np.testing.assert_array_equal(other.positions(), plain.positions())


def test_read_bvh_accepts_names_with_spaces_and_other_bytes(tmp_path):
    joints, values = chain("ZXY")
    text = bvh_text(joints, values).replace("j1", "Hüfte links\x85").encode("latin-1")
    bvh = read_bvh(written(tmp_path / "a.bvh", text))
    assert "Hüfte links" in {name.rstrip("\x85") for name in bvh.names}
    assert bvh.frames == 5


def test_read_bvh_with_a_limit_still_counts_all_frames(tmp_path):
    joints, values = chain("ZXY")
    path = written(tmp_path / "a.bvh", bvh_text(joints, values))
    first = read_bvh(path, limit=1)
    assert first.frames == 5
    np.testing.assert_array_equal(first.positions(), read_bvh(path).positions()[:1])
    with pytest.raises(DataError, match='4 lines of motion, but "Frames:" says 5'):
        read_bvh(written(path, path.read_text().rstrip().rpartition("\n")[0]), limit=1)


@pytest.mark.parametrize(
    ("frame_time", "fps"), [(0.0333333, 30), (0.008333, 120), (0.05, 20), (0.0333667, 1 / 0.0333667), (0.04, 25)]
)
def test_fps_of_rounded_frame_times_is_whole(tmp_path, frame_time, fps):
    bvh = read_bvh(written(tmp_path / "a.bvh", bvh_body(frames=31, frame_time=frame_time)))
    assert bvh.fps == fps
    assert len(bvh.positions(20)) == int(30 * 20 / fps + 1e-9) + 1


def test_resample_to_a_divisor_picks_frames(tmp_path):
    bvh = read_bvh(written(tmp_path / "a.bvh", bvh_body(frames=41, frame_time=1 / 60)))
    np.testing.assert_allclose(bvh.positions(20), bvh.positions()[::3], atol=1e-9)
    np.testing.assert_array_equal(bvh.positions(60), bvh.positions())


@pytest.mark.parametrize("rate", [24, 25, 30, 100])
def test_resample_keeps_bones_and_follows_the_motion(tmp_path, rate):
    fine = read_bvh(written(tmp_path / "fine.bvh", bvh_body(frames=201, frame_time=1 / 100)))
    bvh = read_bvh(written(tmp_path / "a.bvh", bvh_body(frames=2 * rate + 1, frame_time=1 / rate)))
    positions, truth = bvh.positions(20), fine.positions(20)
    assert positions.shape == truth.shape == (41, len(bvh.names), 3)
    parents, joints = list(bvh.parents[1:]), slice(1, None)
    lengths = np.linalg.norm(positions[:, joints] - positions[:, parents], axis=-1)
    assert np.abs(lengths - lengths[:1]).max() < 1e-9
    assert np.abs(positions - truth).max() < 0.15  # centimetres
    assert np.abs(positions[1:] - truth[:-1]).max() > 2  # control: one frame late


def test_resample_goes_the_short_way_where_angles_wrap(tmp_path):
    angles = np.array([170, 175, 180, -175, -170, -165.0])
    joints = [("root", -1, (0, 0, 0), turns("Z")), ("arm", 0, (1, 0, 0), turns("Z"))]
    values = np.stack([angles, np.zeros(6)], axis=1)
    bvh = read_bvh(written(tmp_path / "a.bvh", bvh_text(joints, values, frame_time=0.1)))
    arm = bvh.positions(20)[:, 1]
    expected = np.deg2rad(np.arange(170, 196, 2.5))
    np.testing.assert_allclose(arm[:, :2], np.stack([np.cos(expected), np.sin(expected)], axis=1), atol=1e-3)


GOOD = bvh_body(frames=3)
FIRST = GOOD.split("\n").index("MOTION") + 4  # line number of the first frame


def line_changed(number: int, change) -> str:
    lines = GOOD.split("\n")
    lines[number - 1] = change(lines[number - 1])
    return "\n".join(lines)


BAD = {
    "empty": ("", "the file is empty"),
    "blank": (" \n\n", "the file is empty"),
    "another format": ("Kaydara FBX Binary\nMOTION\n", "line 1: a BVH file starts with HIERARCHY"),
    "no motion": (GOOD.partition("MOTION")[0], "the MOTION section is missing"),
    "cut off in the hierarchy": (GOOD[:400] + "\nMOTION\nFrames: 1\nFrame Time: 1\n0", "ends in the middle"),
    "nothing after MOTION": (GOOD.partition("Frames:")[0], 'expected "Frames:" and a number of frames above 0'),
    "no frames": (GOOD.replace("Frames: 3", "Frames: 0"), f'line {FIRST - 2}: expected "Frames:"'),
    "half a frame": (GOOD.replace("Frames: 3", "Frames: 2.5"), "2.5 is not a number of frames"),
    "frames in words": (GOOD.replace("Frames: 3", "Frames: three"), 'expected "Frames:"'),
    "no frame time": (GOOD.replace("Frame Time: 0.05", "Frame Time:"), 'expected "Frame Time:" and seconds'),
    "frame time zero": (GOOD.replace("Time: 0.05", "Time: 0"), f'line {FIRST - 1}: expected "Frame Time:"'),
    "frame time NaN": (GOOD.replace("Time: 0.05", "Time: nan"), 'expected "Frame Time:"'),
    "missing frames": (GOOD.replace("Frames: 3", "Frames: 4"), '3 lines of motion, but "Frames:" says 4'),
    "too many frames": (GOOD.replace("Frames: 3", "Frames: 2"), '3 lines of motion, but "Frames:" says 2'),
    "a value too few": (
        line_changed(FIRST + 1, lambda line: line.rpartition(" ")[0]),
        f"line {FIRST + 1}: 68 values, expected 69",
    ),
    "a value too many": (line_changed(FIRST + 2, lambda line: line + " 0"), f"line {FIRST + 2}: 70 values"),
    "NaN": (
        line_changed(FIRST + 1, lambda line: "nan " + line.partition(" ")[2]),
        f"line {FIRST + 1}: 'nan' is not a number",
    ),
    "infinite": (line_changed(FIRST, lambda line: "-inf " + line.partition(" ")[2]), f"line {FIRST}: '-inf'"),
    "decimal commas": (line_changed(FIRST, lambda line: line.replace(".", ",")), f"line {FIRST}: '0,0' is not a"),
    "words": (line_changed(FIRST, lambda line: "here " + line.partition(" ")[2]), f"line {FIRST}: 'here'"),
    "every line short": (
        "\n".join(line.rpartition(" ")[0] if n >= FIRST - 1 else line for n, line in enumerate(GOOD.split("\n"))),
        f"line {FIRST}: 68 values, expected 69",
    ),
    "a bad offset": (GOOD.replace("OFFSET 0.0", "OFFSET zero", 1), "line 4: 'zero' is not a number"),
    "no offset": (GOOD.replace("  OFFSET 0.0 0.0 0.0\n", "", 1), "joint Hips has no OFFSET"),
    "an unknown channel": (GOOD.replace("Zrotation", "Wrotation", 1), "line 5: 'Wrotation' is not a channel"),
    "a channel too few": (GOOD.replace("CHANNELS 3", "CHANNELS 4", 1), "is not a channel: expected 4 of"),
    "a channel too many": (GOOD.replace("CHANNELS 3", "CHANNELS 2", 1), "'Xrotation' is out of place"),
    "a hundred channels": (GOOD.replace("CHANNELS 3", "CHANNELS 100", 1), "100 channels, expected 0 to 6"),
    "two bodies": (GOOD.replace("JOINT LeftUpLeg", "ROOT Hips2"), "ROOT is out of place"),
    "a joint outside": (GOOD.replace("ROOT", "JOINT"), "line 2: JOINT is out of place"),
    "no name": (GOOD.replace("JOINT LeftUpLeg", "JOINT"), "a joint has no name"),
    "a name twice": (GOOD.replace("RightUpLeg", "LeftUpLeg"), "a second joint is named LeftUpLeg"),
    "a brace too few": (GOOD.replace("}", "", 1), "the hierarchy ends in the middle"),
    "a brace too many": (GOOD.replace("MOTION", "}\nMOTION"), "'}' is out of place"),
    "no brace": (GOOD.replace("{", "", 1), "expected {, found 'OFFSET'"),
    "a stray word": (GOOD.replace("  OFFSET", "  SCALE 1\n  OFFSET", 1), "'SCALE' is out of place"),
}


@pytest.mark.parametrize("case", BAD)
def test_read_bvh_names_the_fault_in_one_line(tmp_path, case):
    text, says = BAD[case]
    assert text != GOOD
    path = written(tmp_path / "bad.bvh", text)
    with pytest.raises(DataError) as caught:
        read_bvh(path)
    assert says in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def captures(shared) -> dict[str, Bvh]:
    return {path.stem: read_bvh(path) for path in sorted((shared("bandai-namco") / "bvh").glob("*.bvh"))}


@pytest.fixture(scope="module")
def takes(shared, captures) -> dict[str, tuple[str, int, int, np.ndarray]]:
    """Clips of the shared data that were made from those files: stem, first and last frame, positions in metres."""
    folder, positions = shared("bandai-namco"), {}
    for split in ("train", "val", "test"):
        with np.load(folder / f"{split}.npz") as pack:
            stored, scale = pack["positions"], float(pack["scale"])
            for name, (start, stop) in zip(pack["names"], itertools.pairwise(pack["offsets"]), strict=True):
                positions[str(name)] = stored[start:stop] * scale
    with (folder / "meta.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if Path(row["source_file"]).stem in captures]
    return {
        row["name"]: (
            Path(row["source_file"]).stem,
            int(row["start_frame"]),
            int(row["end_frame"]),
            positions[row["name"]],
        )
        for row in rows
    }


def standard(bvh: Bvh) -> np.ndarray:
    """The 22 joints at 20 fps in metres."""
    matrix = mapping.weights(bvh.names, mapping.PRESETS[mapping.recognise(bvh.names)])
    return (matrix @ torch.from_numpy(bvh.positions(20))).numpy() / 100


def errors(captures, takes, change=lambda bvh: bvh) -> dict[str, np.ndarray]:
    """Distance of each joint (T, 22) from the shared clip, millimetres."""
    found = {stem: standard(change(captures[stem])) for stem in {take[0] for take in takes.values()}}
    return {
        name: 1000 * np.linalg.norm(found[stem][start:stop] - positions, axis=-1)
        for name, (stem, start, stop, positions) in takes.items()
    }


@pytest.mark.data
def test_read_bvh_reads_all_shared_captures(captures):
    assert len(captures) == 121
    for bvh in captures.values():
        assert len(bvh.values) == bvh.frames
        assert bvh.fps == 30
        assert mapping.recognise(bvh.names) == "bandai-namco"


@pytest.mark.data
def test_read_bvh_gives_the_shared_joints(captures, takes):
    assert len(takes) > 100
    for name, distances in errors(captures, takes).items():
        assert distances.mean() < 0.5, name  # millimetres; the shared clips are rounded by 0.1
        # Half a frame before a capture's end there are no four frames to interpolate between.
        assert distances[:-1].max() < 0.25, name


def with_offsets_added(bvh: Bvh) -> Bvh:
    values = bvh.values.reshape(len(bvh.values), -1, 6).copy()
    moving = [joint for joint, channels in enumerate(bvh.channels) if channels]
    values[:, 2:, :3] += bvh.offsets[moving][2:]
    return replace(bvh, values=values.reshape(len(values), -1))


def with_another_order(bvh: Bvh) -> Bvh:
    other = (*POSITIONS.split(), *turns("ZYX").split())
    return replace(bvh, channels=tuple(other if channels else () for channels in bvh.channels))


@pytest.mark.data
@pytest.mark.parametrize("mistake", [with_offsets_added, with_another_order])
def test_common_mistakes_are_far_from_the_shared_joints(captures, takes, mistake):
    few = dict(list(takes.items())[::10])
    for name, distances in errors(captures, few, mistake).items():
        assert distances.mean() > 50, name
