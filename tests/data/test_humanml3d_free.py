"""`prepare humanml3d-free`: HumanML3D's clips of CMU from BVH files, on files made up in that layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adaqf_train.cli import main
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.data.prepare.humanml3d_free import prepare_humanml3d_free, read_index
from adaqf_train.motion import features, mapping
from adaqf_train.motion.bvh import read_bvh
from tests.helpers import bvh_body

ROWS = [  # clip, file, start, end
    ("000001", "./pose_data/CMU/02/02_01_poses.npy", 0, 60),
    ("000002", "./pose_data/CMU/02/02_01_poses.npy", 40, 100),
    ("000003", "./pose_data/CMU/137/137_09_poses.npy", 10, 60),
    ("000004", "./pose_data/CMU/02/02_02_poses.npy", 0, 50),
    ("000005", "./pose_data/CMU/02/02_02_poses.npy", 50, 100),
    ("000006", "./pose_data/KIT/3/kick_high_left02_poses.npy", 0, 117),
    ("000007", "./pose_data/CMU/99/99_01_poses.npy", 0, 60),
]
LISTS = {"train": ["000001", "000002", "M000001"], "val": ["000003"], "test": ["000004", "000005", "000006"]}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """BVH files of three takes at 120 fps in CMU's two namings, index.csv, texts and split lists."""
    for seed, (path, preset) in enumerate((("02/02_01", "cmu"), ("02/02_02", "cmu"), ("137_09", "mixamo"))):
        target = tmp_path / "bvh" / f"{path}.bvh"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(bvh_body(preset, frames=601, seed=seed, frame_time=1 / 120))
    rows = [f"{file},{start},{stop},{name}.npy" for name, file, start, stop in ROWS]
    (tmp_path / "index.csv").write_text("\n".join(["source_path,start_frame,end_frame,new_name", *rows]))
    (tmp_path / "texts").mkdir()
    for name, *_ in ROWS:
        (tmp_path / "texts" / f"{name}.txt").write_text(f"a person walks left, {name}#a/DET#0.0#0.0\n")
    (tmp_path / "texts" / "M000001.txt").write_text("somebody walks right#a/DET#0.0#0.0\n")
    for split, names in LISTS.items():
        (tmp_path / f"{split}.txt").write_text("\n".join(names))
    return tmp_path


def options(place: Path) -> dict[str, Path]:
    return {"index": place / "index.csv", "texts": place / "texts"}


def test_prepare_humanml3d_free_cuts_the_takes_as_index_csv_says(place):
    summary = prepare_humanml3d_free(place / "bvh", place / "out", mirror=True, **options(place))
    assert summary.clips == {"train": 4, "val": 2, "test": 4}
    assert summary.entries == 6
    assert summary.skipped == {"no BVH file of the take": ["000007"]}
    assert 0.35 < summary.walking < 2.2
    (clip,) = [item for item in MotionDataset(place / "out", "train").items if item.key == "000002"]
    assert clip.captions == ("a person walks left, 000002",)
    bvh = read_bvh(place / "bvh" / "02" / "02_01.bvh")
    take = (mapping.weights(bvh.names, mapping.PRESETS["cmu"]).numpy() @ bvh.positions())[1:]
    wanted = features.encode(take[::6][40:100])
    assert np.abs(clip.vectors - wanted).max() < 1e-4
    assert np.abs(clip.vectors - features.encode(take[::6][39:99])).max() > 1e-2  # control: one frame before


def test_prepare_humanml3d_free_writes_mirrored_clips_with_their_captions(place):
    prepare_humanml3d_free(place / "bvh", place / "out", mirror=True, **options(place))
    texts = {name: (place / "out" / "texts" / f"{name}.txt").read_text() for name in ("M000001", "M000002")}
    assert texts["M000001"].startswith("somebody walks right#")  # HumanML3D's own
    assert texts["M000002"].startswith("a person walks right, 000002#")
    plain, mirrored = (np.load(place / "out" / "new_joint_vecs" / f"{n}000002.npy") for n in ("", "M"))
    where = features.SLICES.positions  # nearly: the bones of the two sides differ in length
    assert np.abs(features.mirror(plain)[:, where] - mirrored[:, where]).mean() < 0.03
    assert np.abs(plain[:, where] - mirrored[:, where]).mean() > 0.05


def test_prepare_humanml3d_free_says_what_it_did(place, capsys):
    command = ["prepare", "humanml3d-free", str(place / "bvh"), str(place / "out")]
    assert main([*command, "--index", str(place / "index.csv"), "--texts", str(place / "texts")]) == 0
    said = capsys.readouterr().out
    assert "6 clips of index.csv come from CMU, of which 5 were written" in said
    assert "people walk at" in said
    assert "2 train, 1 val, 2 test" in said


def test_read_index_takes_the_clips_of_cmu(place):
    assert [(entry.name, entry.take) for entry in read_index(place / "index.csv")][:3] == [
        ("000001", "2_1"),
        ("000002", "2_1"),
        ("000003", "137_9"),
    ]


def replaced(name: str, content: str):
    return lambda place: (place / name).write_text(content)


HEAD = "source_path,start_frame,end_frame,new_name\n"


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda place: (place / "index.csv").unlink(), "index.csv: missing"),
        (replaced("index.csv", "a,b\n1,2\n"), "no column source_path"),
        (replaced("index.csv", HEAD + "./pose_data/KIT/3/a_poses.npy,0,50,000001.npy\n"), "no clip from CMU"),
        (replaced("index.csv", HEAD + "./pose_data/CMU/02/02_01_poses.npy,x,50,000001.npy\n"), "line 2: start_frame"),
        (replaced("index.csv", HEAD + "./pose_data/CMU/02/02_01_poses.npy,9,5,000001.npy\n"), "frames 9 to 5"),
        (
            replaced("index.csv", HEAD + "./pose_data/CMU/02/02_01_poses.npy,0,200,000001.npy\n"),
            "100 frames at 20 fps, but index.csv cuts a clip up to frame 200",
        ),
        (lambda place: (place / "val.txt").unlink(), "val.txt: missing"),
        (replaced("bvh/02/02_01.bvh", "nothing"), "MOTION section is missing"),
        (lambda place: [path.unlink() for path in (place / "texts").iterdir()], "no clip of"),
    ],
)
def test_prepare_humanml3d_free_reports_bad_input_in_one_line(place, capsys, damage, says):
    damage(place)
    command = ["prepare", "humanml3d-free", str(place / "bvh"), str(place / "out")]
    assert main([*command, "--index", str(place / "index.csv"), "--texts", str(place / "texts")]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert says in line
    assert not (place / "out").exists()
    assert not list(place.glob(".*"))


def test_prepare_humanml3d_free_checks_the_speed_of_walks(place, capsys):
    """Files that state a frame time six times too long: clips end in time, but people crawl."""
    for path in (place / "bvh").rglob("*.bvh"):
        path.write_text(path.read_text().replace(f"Frame Time: {1 / 120!r}", "Frame Time: 0.05"))
    command = ["prepare", "humanml3d-free", str(place / "bvh"), str(place / "out")]
    assert main([*command, "--index", str(place / "index.csv"), "--texts", str(place / "texts")]) == 1
    assert "people walk at 0.0" in capsys.readouterr().err
    again = [*command, "--index", str(place / "index.csv"), "--texts", str(place / "texts"), "--fps", "120"]
    assert main(again) == 0
