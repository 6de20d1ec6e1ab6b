"""`prepare`: other people's motions into HumanML3D's layout, whole or not at all."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from adaqf_train.data.dataset import MotionDataset
from adaqf_train.data.layout import Caption, CaptionedMotion, RunningStatistics, write_folder
from adaqf_train.data.prepare.captions import mirrored_caption
from adaqf_train.data.prepare.joints import prepare_joints, resample
from adaqf_train.data.prepare.procedural import is_procedural, prepare_procedural
from adaqf_train.errors import DataError
from adaqf_train.motion.features import canonicalise, encode
from adaqf_train.motion.skeleton import KIT
from adaqf_train.procedural import generate
from tests.helpers import cut_pack, kit_body

CLIPS = list(generate(12, seed=9))
SPLIT = ("train", "train", "val", "test")


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Joints and captions as somebody would have them: one .npy and one .txt a clip, and split lists."""
    source = tmp_path / "source"
    source.mkdir()
    lists = {split: [] for split in SPLIT}
    for index, clip in enumerate(CLIPS):
        np.save(source / f"{clip.name}.npy", clip.joints)
        (source / f"{clip.name}.txt").write_text("".join(f"{caption}\n" for caption in clip.captions))
        lists[SPLIT[index % 4]].append(clip.name)
    for split, names in lists.items():
        (source / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    return source


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """The same clips as a pack of integer positions."""
    source = tmp_path / "pack"
    source.mkdir()
    for split in ("train", "val", "test"):
        clips = [clip for index, clip in enumerate(CLIPS) if SPLIT[index % 4] == split]
        positions = np.concatenate([np.round(clip.joints * 4096).astype(np.int16) for clip in clips])
        offsets = np.cumsum([0, *(len(clip.joints) for clip in clips)])
        names = np.array([clip.name for clip in clips])
        np.savez(source / f"{split}.npz", positions=positions, scale=1 / 4096, offsets=offsets, names=names, fps=20)
    (source / "captions.json").write_text(json.dumps({clip.name: clip.captions for clip in CLIPS}))
    return source


def nothing_left(folder: Path) -> bool:
    return not folder.exists() and not list(folder.parent.glob(".*partial*"))


def test_prepare_joints_writes_a_readable_data_set(plain, tmp_path):
    out = tmp_path / "out"
    assert prepare_joints(plain, out) == {"train": 6, "val": 3, "test": 3}
    dataset = MotionDataset(out, "test")
    for item in dataset.items:
        clip = next(clip for clip in CLIPS if clip.name == item.key)
        assert item.captions == clip.captions
        assert np.abs(item.vectors - encode(clip.joints.astype(np.float64))).max() < 1e-5
        joints = np.load(out / "new_joints" / f"{item.key}.npy")
        assert np.abs(joints - canonicalise(clip.joints.astype(np.float64))[:-1]).max() < 1e-4
    assert len((out / "all.txt").read_text().split()) == 12
    assert len((out / "train_val.txt").read_text().split()) == 9


def test_packs_give_the_same_within_their_resolution(plain, pack, tmp_path):
    prepare_joints(plain, tmp_path / "a")
    prepare_joints(pack, tmp_path / "b")
    for path in sorted((tmp_path / "a" / "new_joints").glob("*.npy")):
        other = np.load(tmp_path / "b" / "new_joints" / path.name)
        assert np.abs(np.load(path) - other).max() < 5e-3


def test_prepare_joints_accepts_any_unit_and_frame_rate(plain, tmp_path):
    prepare_joints(plain, tmp_path / "metres")
    for clip in CLIPS:
        np.save(plain / f"{clip.name}.npy", resample(clip.joints * 100, 20, 40))  # centimetres at 40 frames a second
    prepare_joints(plain, tmp_path / "fast", fps=40.0)
    for clip in CLIPS:
        a, b = (np.load(tmp_path / name / "new_joints" / f"{clip.name}.npy") for name in ("metres", "fast"))
        assert a.shape == b.shape
        assert np.abs(a - b).max() < 1e-3


def test_segments_of_official_caption_lines_are_kept(plain, tmp_path):
    name = (plain / "train.txt").read_text().split()[0]
    (plain / f"{name}.txt").write_text("walks#walk/VERB#0.0#0.0\nstops#stop/VERB#0.5#2.0\n")
    prepare_joints(plain, tmp_path / "out")
    lines = (tmp_path / "out" / "texts" / f"{name}.txt").read_text().splitlines()
    assert [line.split("#")[2:] for line in lines] == [["0.0", "0.0"], ["0.5", "2.0"]]


def test_mirror_adds_training_clips_with_sides_swapped(plain, tmp_path):
    assert prepare_joints(plain, tmp_path / "out", mirror=True) == {"train": 12, "val": 3, "test": 3}
    name = (plain / "train.txt").read_text().split()[0]
    joints, mirrored = (np.load(tmp_path / "out" / "new_joints" / f"{n}.npy") for n in (name, f"M{name}"))
    # Mirroring keeps the standard skeleton only as far as its sides are alike.
    assert np.abs(mirrored[:, 20] - joints[:, 21] * [-1, 1, 1]).max() < 0.1
    assert np.abs(mirrored[:, 20] - joints[:, 20]).max() > 0.2
    texts = [(tmp_path / "out" / "texts" / f"{n}.txt").read_text() for n in (name, f"M{name}")]
    assert mirrored_caption(texts[0]) == texts[1]


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        ("Left foot, then right.", "Right foot, then left."),
        ("turns clockwise, then counter-clockwise", "turns counterclockwise, then clockwise"),
        ("a counter clockwise circle, anticlockwise", "a clockwise circle, clockwise"),
        ("steps leftwards", "steps rightwards"),
        ("a leftover is upright", "a leftover is upright"),
    ],
)
def test_mirrored_captions(text, mirrored):
    assert mirrored_caption(text) == mirrored


def lose(path: Path, name: str) -> None:
    (path / f"{name}.npy").unlink()


def unnamed(path: Path, name: str) -> None:
    (path / f"{name}.txt").unlink()


def features_instead(path: Path, name: str) -> None:
    np.save(path / f"{name}.npy", np.zeros((50, 263), np.float32))


def other_skeleton(path: Path, name: str) -> None:
    np.save(path / f"{name}.npy", np.zeros((50, 23, 3), np.float32))


def holes(path: Path, name: str) -> None:
    joints = np.load(path / f"{name}.npy")
    joints[9, 3] = np.nan
    np.save(path / f"{name}.npy", joints)


def collapsed(path: Path, name: str) -> None:
    np.save(path / f"{name}.npy", np.ones((50, 22, 3), np.float32))


def silent(path: Path, name: str) -> None:
    (path / f"{name}.txt").write_text("\n")


def no_val(path: Path, name: str) -> None:
    (path / "val.txt").write_text("")


def unknown_in_list(path: Path, name: str) -> None:
    (path / "val.txt").write_text("somebody_else\n")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lose, "captions without a motion"),
        (unnamed, "a motion without captions"),
        (features_instead, r"shape \(50, 263\), expected joint positions"),
        (other_skeleton, r"shape \(50, 23, 3\)"),
        (holes, "NaN or infinite at frame 9"),
        (collapsed, "coincide"),
        (silent, "no captions"),
        (no_val, r"val\.txt: the val split is empty"),
        (unknown_in_list, "lists somebody_else, which has no"),
    ],
)
def test_prepare_joints_names_bad_sources_and_writes_nothing(plain, tmp_path, damage, message):
    damage(plain, CLIPS[4].name)
    out = tmp_path / "out"
    with pytest.raises(DataError, match=message) as caught:
        prepare_joints(plain, out)
    assert "\n" not in str(caught.value)
    assert nothing_left(out)


def test_packs_that_are_damaged_are_refused(pack, tmp_path):
    captions = json.loads((pack / "captions.json").read_text())
    missing = captions.pop(CLIPS[0].name)
    (pack / "captions.json").write_text(json.dumps(captions))
    with pytest.raises(DataError, match=f"{CLIPS[0].name} has no captions"):
        prepare_joints(pack, tmp_path / "out")
    (pack / "captions.json").write_text(json.dumps(captions | {CLIPS[0].name: missing}))
    whole = (pack / "val.npz").read_bytes()
    for damaged in (b"PK not a zip", whole[: len(whole) // 2], whole[:2000] + b"xxxx" + whole[2004:], b""):
        (pack / "val.npz").write_bytes(damaged)
        with pytest.raises(DataError, match=r"val\.npz: not a pack"):
            prepare_joints(pack, tmp_path / "out")
    (pack / "captions.json").write_text("[1, 2]")
    with pytest.raises(DataError, match=r"captions\.json: holds a list"):
        prepare_joints(pack, tmp_path / "out")
    assert nothing_left(tmp_path / "out")


@pytest.mark.parametrize(
    "arrays", [{"scale": np.ones(3)}, {"offsets": np.array([0, 5])}, {"offsets": np.array(["a", "b"])}]
)
def test_packs_with_arrays_that_do_not_fit_are_refused(pack, tmp_path, arrays):
    with np.load(pack / "test.npz") as archive:
        content = dict(archive)
    np.savez(pack / "test.npz", **(content | arrays))
    with pytest.raises(DataError, match=r"test\.npz: "):
        prepare_joints(pack, tmp_path / "out")
    assert nothing_left(tmp_path / "out")


@pytest.mark.parametrize("name", ["../../escaped", "a/b", ".hidden", "two\nlines", " padded", ""])
def test_names_that_cannot_be_files_are_refused(tmp_path, name):
    clip = CaptionedMotion(name, CLIPS[0].joints, (Caption("a"),), "train")
    with pytest.raises(DataError, match="cannot name a file"):
        write_folder(tmp_path / "deep" / "er" / "out", [clip])
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_names_with_spaces_and_other_letters_are_read_back(plain, tmp_path):
    for number, clip in enumerate(CLIPS):
        for suffix in (".npy", ".txt"):
            (plain / f"{clip.name}{suffix}").rename(plain / f"gehe größer {number}{suffix}")
    for split in ("train", "val", "test"):
        (plain / f"{split}.txt").unlink()
    (plain / "train.txt").write_text("".join(f"gehe größer {n}\n" for n in range(6)), encoding="utf-8")
    (plain / "val.txt").write_text("gehe größer 6\n", encoding="utf-8")
    (plain / "test.txt").write_text("gehe größer 7\n", encoding="utf-8")
    prepare_joints(plain, tmp_path / "out")
    assert {item.key for item in MotionDataset(tmp_path / "out", "train").items} == {
        f"gehe größer {n}" for n in range(6)
    }
    (plain / "val.txt").write_bytes("größer\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"val\.txt: not UTF-8"):
        prepare_joints(plain, tmp_path / "again")


def test_captions_may_contain_a_number_sign(plain, tmp_path):
    name = (plain / "train.txt").read_text().split()[0]
    (plain / f"{name}.txt").write_text("person #1 walks\n")
    prepare_joints(plain, tmp_path / "out")
    (item,) = [item for item in MotionDataset(tmp_path / "out", "train").items if item.key == name]
    assert item.captions == ("person 1 walks",)
    (plain / f"{name}.txt").write_text("#\n")
    with pytest.raises(DataError, match="empty caption"):
        prepare_joints(plain, tmp_path / "again")


def test_kit_positions_in_metres_are_refused(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name, split in (("a", "train"), ("b", "val"), ("c", "test")):
        np.save(source / f"{name}.npy", kit_body(frames=30) / 640)
        (source / f"{name}.txt").write_text("a person stands\n")
        (source / f"{split}.txt").write_text(f"{name}\n")
    with pytest.raises(DataError, match=r"a\.npy, .*c\.npy: legs of .* units: .* 640 units per metre"):
        prepare_joints(source, tmp_path / "out")


def test_fps_defaults_to_the_skeletons_rate(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("a", "b", "c"):
        np.save(source / f"{name}.npy", kit_body(frames=30))
        (source / f"{name}.txt").write_text("a person stands\n")
    for split, name in (("train", "a"), ("val", "b"), ("test", "c")):
        (source / f"{split}.txt").write_text(f"{name}\n")
    prepare_joints(source, tmp_path / "out")
    assert np.load(tmp_path / "out" / "new_joint_vecs" / "a.npy").shape == (29, 251)


def test_prepare_never_overwrites_an_existing_output(plain, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious.txt").write_text("mine")
    with pytest.raises(DataError, match="already exists"):
        prepare_joints(plain, out)
    with pytest.raises(DataError, match="already exists"):
        prepare_procedural(out, clips=10, seed=0)
    assert (out / "precious.txt").read_text() == "mine"


def test_names_may_not_occur_twice(tmp_path):
    clip = CaptionedMotion("same", CLIPS[0].joints, (Caption("a"),), "train")
    with pytest.raises(DataError, match="two clips are named same"):
        write_folder(tmp_path / "out", [clip, clip])


def test_prepare_procedural_writes_kit_mls_skeleton(tmp_path):
    prepare_procedural(tmp_path / "kit", clips=40, seed=0, skeleton=KIT)
    for clip in generate(3, 0):
        joints = np.load(tmp_path / "kit" / "new_joints" / f"{clip.name}.npy") / KIT.units_per_metre
        assert joints.shape[1:] == (21, 3)
        assert len(joints) == pytest.approx(len(clip.joints) * 12.5 / 20, abs=2)
        expected = canonicalise(clip.joints.astype(np.float64))
        # The same person at the same time: heads, and which wrist is the left one (at frame 0 the left is +X).
        head, wrist = (joints[0, KIT.joints.index(name)] for name in ("bun", "left_wrist"))
        assert np.abs(head - expected[0, 15])[[0, 2]].max() < 0.05
        assert head[1] == pytest.approx(expected[0, 15, 1], abs=0.06)
        assert np.abs(wrist - expected[0, 20]).max() < 0.08
        assert np.abs(wrist - expected[0, 21]).max() > 0.2
    assert not (tmp_path / "kit" / "parameters").exists()
    assert is_procedural(tmp_path / "kit", clips=40, seed=0) is False  # the demo does not take it for its own


def test_prepare_procedural_keeps_each_clips_parameters(tmp_path):
    counts = prepare_procedural(tmp_path / "out", clips=100, seed=0)
    assert sum(counts.values()) == 100
    names = (tmp_path / "out" / "all.txt").read_text().split()
    for name in names:
        actions = json.loads((tmp_path / "out" / "parameters" / f"{name}.json").read_text())["actions"]
        assert actions[0]["action"]


def test_running_statistics_equal_those_of_everything_at_once():
    rng = np.random.default_rng(0)
    parts = [rng.normal(3, 2, (n, 263)).astype(np.float32) for n in (50, 7, 90)]
    running = RunningStatistics(263)
    for part in parts:
        running.add(part)
    mean, std = running.result()
    whole = np.concatenate(parts)
    np.testing.assert_allclose(mean, whole.mean(0), atol=1e-5)
    np.testing.assert_allclose(std[4:67], whole.std(0)[4:67].mean(), atol=1e-5)


def test_resample_keeps_path_and_duration():
    joints = np.linspace(0, 1, 31)[:, None, None] * np.ones((31, 22, 3))  # one second at 30 frames a second
    half = resample(joints, 30, 20)
    assert len(half) == 21
    assert np.abs(half[:, 0, 0] - np.linspace(0, 1, 21)).max() < 1e-9
    assert resample(joints, 20, 20) is joints


@pytest.mark.data
def test_prepare_joints_converts_bandai_namco(shared, tmp_path):
    pack = cut_pack(shared("bandai-namco"), tmp_path / "pack", clips=6)
    assert prepare_joints(pack, tmp_path / "out") == {"train": 6, "val": 6, "test": 6}
    dataset = MotionDataset(tmp_path / "out", "test")
    assert len(dataset) > 0
    heights = [item.vectors[:, 3].mean() for item in dataset.items]
    assert 0.5 < np.median(heights) < 1.1  # metres of a pelvis above the floor


class Stopped(BaseException):
    """Stands for being killed: nothing gets to clean up after it."""


def stopping(clips, after: int):
    for index, clip in enumerate(clips):
        if index == after:
            raise Stopped
        yield clip


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lazily(reads: list[str], clips=CLIPS):
    """Clips that say when their joints are read."""

    def read(clip) -> np.ndarray:
        reads.append(clip.name)
        return clip.joints

    for index, clip in enumerate(clips):
        captions = tuple(map(Caption, clip.captions))
        yield CaptionedMotion(clip.name, partial(read, clip), captions, SPLIT[index % 4], {"number": index})


def interrupted(folder: Path, after: int = 7, **made_from: object) -> None:
    with pytest.raises(Stopped):
        write_folder(folder, stopping(lazily([]), after), made_from=made_from)
    assert not folder.exists()


def test_write_folder_completes_an_interrupted_folder(tmp_path):
    interrupted(tmp_path / "out", seed=1)
    reads: list[str] = []
    counts = write_folder(tmp_path / "out", lazily(reads), made_from={"seed": 1})
    assert reads == [clip.name for clip in CLIPS[7:]]  # what was written is not made again
    assert counts == write_folder(tmp_path / "whole", lazily([]))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]


def test_write_folder_reuses_nothing_of_other_settings_or_clips(tmp_path):
    interrupted(tmp_path / "out", seed=1)
    reads: list[str] = []
    write_folder(tmp_path / "out", lazily(reads), made_from={"seed": 2})
    assert len(reads) == len(CLIPS)

    interrupted(tmp_path / "fewer", seed=1)
    write_folder(tmp_path / "fewer", lazily([], CLIPS[4:]), made_from={"seed": 1})
    write_folder(tmp_path / "whole", lazily([], CLIPS[4:]))
    assert contents(tmp_path / "fewer") == contents(tmp_path / "whole")


def test_write_folder_reads_a_changed_source_again(plain, tmp_path, monkeypatch):
    first = sorted(CLIPS, key=lambda clip: clip.name)[0]

    def encode_two(joints, seen=[]):  # noqa: B006  counts its calls
        seen.append(len(joints))
        if len(seen) > 2:
            raise Stopped
        return encode(joints)

    with monkeypatch.context() as patch:
        patch.setattr("adaqf_train.data.layout.motion_features.encode", encode_two)
        with pytest.raises(Stopped):
            prepare_joints(plain, tmp_path / "out")
    np.save(plain / f"{first.name}.npy", first.joints[:-10])
    prepare_joints(plain, tmp_path / "out")
    assert len(np.load(tmp_path / "out" / "new_joints" / f"{first.name}.npy")) == len(first.joints) - 11


def test_write_folder_refuses_a_second_writer(tmp_path):
    def meanwhile():
        for index, clip in enumerate(lazily([])):
            if index == 3:
                with pytest.raises(DataError, match="out: another process is writing it"):
                    write_folder(tmp_path / "out", lazily([]), made_from={"seed": 1})
            yield clip

    write_folder(tmp_path / "out", meanwhile(), made_from={"seed": 1})
    assert len(MotionDataset(tmp_path / "out", "train")) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
