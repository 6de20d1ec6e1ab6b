"""The doctor: silent on sound data, one finding with a remedy for each thing that is wrong, never a traceback."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from adaqf_train.cli import main
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.data.layout import Caption, CaptionedMotion, write_folder
from adaqf_train.data.prepare.joints import prepare_joints
from adaqf_train.doctor import Examination, Finding, examine
from adaqf_train.doctor.findings import printable
from adaqf_train.errors import DataError
from adaqf_train.motion.features import SLICES, decode, encode, mirror
from adaqf_train.motion.orientation import turned
from adaqf_train.motion.skeleton import HUMANML3D
from adaqf_train.procedural import generate
from tests.helpers import cut_pack, kit_body
from tests.motion.test_orientation import from_rest

CLIPS = 24


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set with nothing wrong; clip names say their split: train00, val00 … Read it, do not write to it."""
    folder = tmp_path_factory.mktemp("sound") / "data"
    splits = ["train"] * (CLIPS - 8) + ["val"] * 4 + ["test"] * 4
    clips = (
        CaptionedMotion(f"{split}{index:02d}", clip.joints, tuple(map(Caption, clip.captions)), split)
        for index, (clip, split) in enumerate(zip(generate(CLIPS, seed=3), splits, strict=True))
    )
    write_folder(folder, clips)
    return folder


@pytest.fixture
def data(sound: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(sound, tmp_path / "data"))


def motion(data: Path, name: str = "train00") -> Path:
    return data / "new_joint_vecs" / f"{name}.npy"


def text(data: Path, name: str = "train00") -> Path:
    return data / "texts" / f"{name}.txt"


def names(data: Path, split: str) -> list[str]:
    return (data / f"{split}.txt").read_text().split()


def append(path: Path, line: str) -> None:
    path.write_text(path.read_text() + line + "\n")


def change(data: Path, alter: Callable[[np.ndarray], np.ndarray], clips: int = CLIPS) -> None:
    """Rewrites the features of so many clips."""
    for path in sorted((data / "new_joint_vecs").glob("*.npy"))[:clips]:
        np.save(path, alter(np.load(path)))


def matching(found: Examination, says: str) -> list[Finding]:
    return [finding for finding in found.findings if says in finding.what]


# Data that are right ----------------------------------------------------------------------------------------------


def test_examine_finds_nothing_in_prepared_data(sound, tiny_data):
    for folder in (sound, tiny_data):
        found = examine(folder)
        assert [finding for finding in found.findings if finding.level != "note"] == []
        assert found.ok
        assert found.facts["contact_labels_that_follow"] == 1
        assert found.facts["leg_metres"] == pytest.approx(0.816, abs=0.001)
    assert found.facts["statistics_fit_the_train_split"] is True
    assert 0.5 < found.facts["walking_metres_a_second"] < 1.5


def test_findings_have_a_place_and_a_remedy(data):
    motion(data).unlink()
    text(data, "train01").write_bytes(b"caf\xe9\n")
    found = examine(data)
    assert len(found.findings) >= 3
    for finding in found.findings:
        assert finding.what
        assert finding.where
        assert finding.remedy.endswith(".")
        assert finding.count >= len(finding.where)
        assert "\n" not in finding.what + finding.remedy + finding.places()


def test_examine_uses_kits_units(tmp_path):
    clips = (
        CaptionedMotion(f"{i:05d}", kit_body(60, seed=i), (Caption(f"a person sways {i} times"),), split)
        for i, split in enumerate(["train"] * 6 + ["val"] * 3 + ["test"] * 3)
    )
    write_folder(tmp_path / "kit", clips)
    found = examine(tmp_path / "kit")
    assert found.ok
    assert found.facts["skeleton"] == "kit"
    assert found.facts["leg_metres"] == pytest.approx(500 / 640, abs=0.02)
    for path in (tmp_path / "kit" / "new_joint_vecs").glob("*.npy"):
        np.save(path, encode(kit_body(60) / 640))  # metres
    (wrong,) = matching(examine(tmp_path / "kit"), "legs of 0.0012")
    assert wrong.level == "error"
    assert "kit features are in units, 640 per metre" in wrong.what
    assert "Multiply the joints by about 6" in wrong.remedy


@pytest.mark.data
def test_examine_recognises_the_official_samples(shared):
    found = examine(shared("humanml3d-samples"))
    assert found.facts["official"] is True
    assert found.facts["statistics"] == "HumanML3D's"
    assert found.facts["evaluators_statistics"] is True
    assert found.facts["listed"] == {"train": 23_384, "val": 1_460, "test": 4_384}
    missing, uncaptioned = [finding for finding in found.findings if finding.level == "error"]
    assert (missing.count, missing.where[0]) == (29_224, "000001 (train)")  # two are NaN officially, two are here
    assert uncaptioned.where == ("012314 (train)",)
    assert not matching(found, "the lists are not HumanML3D's")
    assert not matching(found, "mirror image")


@pytest.mark.data
def test_examine_notes_official_lists_cut_short(shared, tmp_path):
    source = shared("humanml3d-samples")
    for name in ("Mean.npy", "Std.npy", "val.txt", "test.txt"):
        shutil.copyfile(source / name, tmp_path / name)
    (tmp_path / "train.txt").write_text("\n".join(names(source, "train")[:-4]))
    (warned,) = matching(examine(tmp_path), "the lists are not HumanML3D's")
    assert warned.where == ("train 23,380 of 23,384",)
    assert "t2m_mean.npy" in matching(examine(tmp_path), "evaluators' own statistics are not here")[0].places()


@pytest.mark.data
def test_examine_refuses_the_evaluators_statistics(shared, data):
    source = shared("humanml3d-samples")
    for ours, theirs in (("Mean.npy", "t2m_mean.npy"), ("Std.npy", "t2m_std.npy")):
        shutil.copyfile(source / theirs, data / ours)
    (wrong,) = matching(examine(data), "the HumanML3D evaluators'")
    assert wrong.level == "error"
    for ours in ("Mean.npy", "Std.npy"):
        shutil.copyfile(source / ours, data / ours)
    assert examine(data).facts["statistics"] == "HumanML3D's"
    assert not matching(examine(data), "the HumanML3D evaluators'")  # control


# One thing wrong at a time ----------------------------------------------------------------------------------------


def truncated(data: Path) -> None:
    motion(data).write_bytes(motion(data).read_bytes()[:300])


def no_array(data: Path) -> None:
    motion(data).write_bytes(b"not an array")


def no_bytes(data: Path) -> None:
    motion(data).write_bytes(b"")


def zipped(data: Path) -> None:
    np.savez(motion(data).with_suffix(""), a=np.zeros(3))
    motion(data).with_suffix(".npz").replace(motion(data))


def boastful(data: Path) -> None:
    header = b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (9000000000, 263), }"
    motion(data).write_bytes(header.ljust(127) + b"\n" + bytes(100))


def a_folder(data: Path) -> None:
    motion(data).unlink()
    motion(data).mkdir()


def pickled(data: Path) -> None:
    np.save(motion(data), np.array([{"a": 1}], dtype=object), allow_pickle=True)


def integers(data: Path) -> None:
    np.save(motion(data), np.load(motion(data)).astype(np.int32))


def empty(data: Path) -> None:
    np.save(motion(data), np.zeros((0, 263), np.float32))


def transposed(data: Path) -> None:
    np.save(motion(data), np.load(motion(data)).T)


def batched(data: Path) -> None:
    np.save(motion(data), np.load(motion(data))[None])


def joints(data: Path) -> None:
    np.save(motion(data), decode(np.load(motion(data))))


def flat_joints(data: Path) -> None:
    np.save(motion(data), decode(np.load(motion(data))).reshape(-1, 66))


def other_width(data: Path) -> None:
    np.save(motion(data), encode(kit_body(60)))


def not_finite(data: Path) -> None:
    vectors = np.load(motion(data))
    vectors[17, 5] = np.nan
    np.save(motion(data), vectors)


def too_large_for_float32(data: Path) -> None:
    vectors = np.load(motion(data)).astype(np.float64)
    vectors[3, 5] = 1e300
    np.save(motion(data), vectors)


def no_motions(data: Path) -> None:
    shutil.rmtree(data / "new_joint_vecs")


def lost_motion(data: Path) -> None:
    motion(data).unlink()


def stray_caption(data: Path) -> None:
    text(data, "stray").write_text("a person waves#wave/VERB#0.0#0.0\n")


def lost_captions(data: Path) -> None:
    text(data).unlink()


def unlisted_motion(data: Path) -> None:
    shutil.copyfile(motion(data), motion(data, "stray"))


def unlisted_pair(data: Path) -> None:
    unlisted_motion(data)
    stray_caption(data)


def latin_1(data: Path) -> None:
    text(data).write_bytes("sips a café crème#sip/VERB#0.0#0.0\n".encode("latin-1"))


def byte_order_mark(data: Path) -> None:
    text(data).write_bytes(b"\xef\xbb\xbf" + text(data).read_bytes())


def no_separators(data: Path) -> None:
    append(text(data), "just words")


def no_numbers(data: Path) -> None:
    append(text(data), "walks#walk/VERB#start#end")


def empty_caption(data: Path) -> None:
    append(text(data), " ##0.0#0.0")


def no_captions(data: Path) -> None:
    text(data).write_text("\n")


def same_caption_twice(data: Path) -> None:
    append(text(data), text(data).read_text().splitlines()[0])


def segment_after_the_end(data: Path) -> None:
    append(text(data), "walks#walk/VERB#60.0#80.0")


def no_list(data: Path) -> None:
    (data / "val.txt").unlink()


def empty_list(data: Path) -> None:
    (data / "val.txt").write_text("\n")


def list_is_a_folder(data: Path) -> None:
    (data / "val.txt").unlink()
    (data / "val.txt").mkdir()


def latin_1_list(data: Path) -> None:
    (data / "val.txt").write_bytes("é\n".encode("latin-1"))


def listed_twice(data: Path) -> None:
    append(data / "train.txt", "train03")


def overlapping(data: Path) -> None:
    append(data / "test.txt", "train03")


def no_union(data: Path) -> None:
    append(data / "all.txt", "somebody")


def mirror_leak(data: Path) -> None:
    np.save(motion(data, "Mtest20"), mirror(np.load(motion(data, "test20"))))
    text(data, "Mtest20").write_text("a person walks#walk/VERB#0.0#0.0\n")
    append(data / "train.txt", "Mtest20")


def window_leak(data: Path) -> None:
    for old, new, split in (("train00", "long_w0", "train"), ("test20", "long_w1", "test")):
        for path in (motion, text):
            path(data, old).rename(path(data, new))
        (data / f"{split}.txt").write_text((data / f"{split}.txt").read_text().replace(old, new))


def copied_leak(data: Path) -> None:
    shutil.copyfile(motion(data, "test20"), motion(data, "train00"))


def no_mean(data: Path) -> None:
    (data / "Mean.npy").unlink()


def zero_std(data: Path) -> None:
    np.save(data / "Std.npy", np.zeros(263, np.float32))


def narrow_statistics(data: Path) -> None:
    for name in ("Mean.npy", "Std.npy"):
        np.save(data / name, np.ones(66, np.float32))


def kit_statistics(data: Path) -> None:
    for name in ("Mean.npy", "Std.npy"):
        np.save(data / name, np.ones(251, np.float32))


def foreign_statistics(data: Path) -> None:
    np.save(data / "Mean.npy", np.load(data / "Mean.npy") + 1)


def evaluators_weights(data: Path) -> None:
    std = np.load(data / "Std.npy")
    for group in (slice(0, 4), SLICES.contacts):
        std[group] /= 25
    np.save(data / "Std.npy", std)


def stiff_joint(data: Path) -> None:
    def alter(vectors: np.ndarray) -> np.ndarray:
        vectors[:, SLICES.rotations][:, 48:54] = [1, 0, 0, 0, 1, 0]  # spine3's
        return vectors

    change(data, alter)


def constant_contacts(data: Path) -> None:
    def alter(vectors: np.ndarray) -> np.ndarray:
        vectors[:, SLICES.contacts] = 1
        return vectors

    change(data, alter)


def normalised_contacts(data: Path) -> None:
    def alter(vectors: np.ndarray) -> np.ndarray:
        vectors[:, SLICES.contacts] = (vectors[:, SLICES.contacts] - 0.8) / 0.4
        return vectors

    change(data, alter, clips=2)


def inverted_contacts(data: Path) -> None:
    def alter(vectors: np.ndarray) -> np.ndarray:
        vectors[:, SLICES.contacts] = 1 - vectors[:, SLICES.contacts]
        return vectors

    change(data, alter)


def exploding(data: Path) -> None:
    change(data, lambda vectors: 40 * vectors, clips=1)


def centimetres(data: Path) -> None:
    change(data, lambda vectors: encode(100 * decode(vectors), canonical=False))


def other_bones(data: Path) -> None:
    change(data, lambda vectors: encode(1.1 * decode(vectors), canonical=False))


def floating(data: Path) -> None:
    change(data, lambda vectors: encode(decode(vectors) + np.float32([0, 0.3, 0]), canonical=False))


def other_rotations(data: Path) -> None:
    def alter(vectors: np.ndarray) -> np.ndarray:
        vectors[:, SLICES.rotations] = np.roll(vectors[:, SLICES.rotations], 6, axis=1)
        return vectors

    change(data, alter)


def other_velocities(data: Path) -> None:
    def alter(vectors: np.ndarray) -> np.ndarray:
        vectors[:, SLICES.velocities] *= 20  # a second, not a frame
        return vectors

    change(data, alter)


def other_joints(data: Path) -> None:
    path = data / "new_joints" / "train00.npy"
    np.save(path, np.load(path) + np.float32(0.1))


def sliding(data: Path) -> None:
    def alter(vectors: np.ndarray) -> np.ndarray:
        moved = decode(vectors)
        moved[..., 2] += 0.05 * np.arange(len(moved), dtype=moved.dtype)[:, None]  # 1 m/s
        return encode(moved, canonical=False)

    change(data, alter)


def too_short(data: Path) -> None:
    for name in names(data, "val"):
        np.save(motion(data, name), np.load(motion(data, name))[:20])


UNUSABLE = "files that cannot be used"
DAMAGES = [
    (truncated, "error", UNUSABLE, "train00.npy: not a readable .npy file"),
    (no_array, "error", UNUSABLE, "train00.npy: not a readable .npy file (not an array of numbers)"),
    (no_bytes, "error", UNUSABLE, "train00.npy: not a readable .npy file (No data left in file)"),
    (zipped, "error", UNUSABLE, "train00.npy: dtype archive"),
    (boastful, "error", UNUSABLE, "train00.npy: not a readable .npy file"),
    (a_folder, "error", UNUSABLE, "train00.npy: not a re"),
    (pickled, "error", UNUSABLE, "train00.npy: not a readable .npy file (not an array of numbers)"),
    (integers, "error", UNUSABLE, "train00.npy: dtype int32, expected floats"),
    (empty, "error", UNUSABLE, "train00.npy: no frames"),
    (transposed, "error", UNUSABLE, "features per frame, expected 263"),
    (batched, "error", UNUSABLE, "train00.npy: shape (1, "),
    (joints, "error", UNUSABLE, "train00.npy: joint positions"),
    (flat_joints, "error", UNUSABLE, "train00.npy: 66 features per frame, expected 263"),
    (other_width, "error", UNUSABLE, "train00.npy: 251 features per frame, expected 263"),
    (not_finite, "error", UNUSABLE, "train00.npy: NaN or infinite at frame 17"),
    (too_large_for_float32, "error", UNUSABLE, "train00.npy: NaN or infinite at frame 3"),
    (no_motions, "error", "no motions", "new_joint_vecs"),
    (lost_motion, "error", "listed clips have no motion", "train00 (train)"),
    (stray_caption, "error", "captions without a motion", "stray.txt"),
    (lost_captions, "error", "listed clips have no captions", "train00 (train)"),
    (unlisted_motion, "warning", "motions in no list", "stray.npy"),
    (unlisted_pair, "note", "captioned motions in no list", "stray.npy"),
    (latin_1, "error", "not UTF-8", "train00.txt (byte 10)"),
    (byte_order_mark, "warning", "byte order mark", "train00.txt"),
    (no_separators, "error", "malformed lines", "expected caption#tokens#from#to"),
    (no_numbers, "error", "malformed lines", "from and to must be seconds"),
    (empty_caption, "error", "malformed lines", "the caption is empty"),
    (no_captions, "error", "without a caption", "train00.txt"),
    (same_caption_twice, "warning", "the same caption twice", "train00.txt"),
    (segment_after_the_end, "warning", "begins after its clip has ended", "train00.txt (60 to 80 of"),
    (no_list, "error", "split lists are missing", "val.txt"),
    (empty_list, "error", "split lists cannot be used", "the val split is empty"),
    (list_is_a_folder, "error", "split lists cannot be used", "val.txt"),
    (latin_1_list, "error", "split lists cannot be used", "not UTF-8 (byte 0 is 0xe9)"),
    (listed_twice, "warning", "listed twice", "train.txt: train03"),
    (overlapping, "error", "in several splits", "train03 (train, test)"),
    (no_union, "warning", "not the union", "all.txt"),
    (mirror_leak, "warning", "mirror image", "Mtest20 (train) and test20 (test)"),
    (window_leak, "warning", "windows of one recording", "long_w0 (train), long_w1 (test)"),
    (copied_leak, "warning", "the same motion in several splits", "test20 = train00"),
    (no_mean, "error", "statistics that cannot normalise", "Mean.npy"),
    (zero_std, "error", "statistics that cannot normalise", "Std.npy: contains values that cannot normalise"),
    (narrow_statistics, "error", "statistics that cannot normalise", "shape (66,)"),
    (kit_statistics, "error", "statistics of 251 features, clips of 263", "Mean.npy"),
    (foreign_statistics, "warning", "do not fit the training clips", "root_rot_velocity"),
    (evaluators_weights, "error", "25 times smaller", "Std.npy"),
    (constant_contacts, "warning", "one value in every frame", "contacts (4 of 4)"),
    (stiff_joint, "note", "never turn against their parent", "spine3"),
    (normalised_contacts, "warning", "other than 0 and 1", "test20.npy"),
    (inverted_contacts, "warning", "labels that do not follow", "(0% do)"),
    (exploding, "warning", "beyond 20 standard deviations", "test20.npy"),
    (centimetres, "error", "legs of 81.6 m", "test20.npy (81.6 m)"),
    (other_bones, "warning", "standard skeleton", "test20.npy (by 4"),
    (floating, "warning", "not on the floor", "(+0.30 m)"),
    (other_rotations, "warning", "the rotations do not follow", "test20.npy"),
    (other_velocities, "warning", "the velocities do not follow", "test20.npy"),
    (other_joints, "warning", "new_joints does not contain", "train00.npy"),
    (sliding, "warning", "feet slide", "%)"),
    (too_short, "error", "no clip of the split", "val.txt"),
]


@pytest.mark.parametrize(("damage", "level", "says", "where"), DAMAGES, ids=[damage.__name__ for damage, *_ in DAMAGES])
def test_examine_finds_each_damage(sound_report, data, damage, level, says, where):
    assert not matching(sound_report, says)  # control
    damage(data)
    found = examine(data)
    (finding,) = matching(found, says)
    assert finding.level == level
    assert any(where in place for place in finding.where), finding.where
    assert found.ok is not any(finding.level == "error" for finding in found.findings)
    if refused(data):
        assert not found.ok  # nothing that stops training gets past the doctor
    json.dumps(found.to_dict(), allow_nan=False)


def refused(data: Path) -> bool:
    """Whether the reader that training uses raises on one of the splits."""
    for split in ("train", "val", "test"):
        try:
            MotionDataset(data, split)
        except DataError:
            return True
    return False


@pytest.fixture(scope="module")
def sound_report(sound: Path) -> Examination:
    return examine(sound)


def test_examine_finds_all_damages_at_once(data):
    """No damage hides another: all that can live together are found in one go."""
    together = (latin_1, stray_caption, overlapping, mirror_leak, foreign_statistics, listed_twice, other_joints)
    for damage in together:
        damage(data)
    np.save(motion(data, "train05"), np.zeros((60, 66), np.float32))
    motion(data, "train06").write_bytes(b"")
    found = examine(data)
    expected = [says for damage, _, says, _ in DAMAGES if damage in together]
    for says in expected:
        assert matching(found, says), says
    unusable = matching(found, UNUSABLE)  # one finding per remedy
    assert sorted(place.partition(":")[0] for f in unusable for place in f.where) == ["train05.npy", "train06.npy"]
    assert len({finding.remedy for finding in unusable}) == 2


def test_findings_list_errors_first(data):
    for damage in (unlisted_pair, foreign_statistics, latin_1):
        damage(data)
    levels = [finding.level for finding in examine(data).findings]
    assert set(levels) == {"error", "warning", "note"}
    assert levels == sorted(levels, key=["error", "warning", "note"].index)


def test_findings_count_many_places(data):
    append(data / "train.txt", "\n".join(f"lost{i:04d}" for i in range(5000)))
    (finding,) = matching(examine(data), "listed clips have no motion")
    assert finding.count == 5000
    assert len(finding.where) < 10
    assert "and 4,996 more" in finding.places()


def test_examine_accepts_the_official_nan_clips(data):
    for name in ("007975", "M007975"):
        np.save(motion(data, name), np.full((60, 263), np.nan, np.float32))
        text(data, name).write_text("a person walks#walk/VERB#0.0#0.0\n")
        append(data / "train.txt", name)
    found = examine(data)
    (finding,) = matching(found, "NaN in the official release")
    assert (finding.level, finding.count) == ("note", 2)
    assert found.ok


def test_examine_notes_walks_at_a_wrong_frame_rate(tiny_data, tmp_path):
    slow = Path(shutil.copytree(tiny_data, tmp_path / "slow"))
    for path in (slow / "new_joint_vecs").glob("*.npy"):
        joints = decode(np.load(path))
        np.save(path, encode(np.repeat(joints, 3, axis=0)[: len(joints)], canonical=False))  # 60 fps read as 20
    (finding,) = matching(examine(slow), "people walk at")
    assert finding.level == "warning"
    assert "frame rate" in finding.remedy
    assert not matching(examine(tiny_data), "people walk at")


def turned_from(joints: np.ndarray, up: str) -> np.ndarray:
    return joints @ turned(np.eye(3), up).T


def shifted(joints: np.ndarray, frames: slice, by: list[float]) -> np.ndarray:
    moved = joints.copy()
    moved[frames] += by
    return moved


def written(folder: Path, alter: Callable[[np.ndarray], np.ndarray], captions: str = "a person moves") -> Examination:
    """Examine five sound clips and one that is altered before it is encoded."""
    clips = [clip.joints.astype(np.float64) for clip in generate(6, seed=3)]
    splits = ("train", "train", "train", "train", "val", "test")
    write_folder(
        folder,
        (
            CaptionedMotion(f"clip{i}", alter(joints) if i == 1 else joints, (Caption(captions),), split)
            for i, (joints, split) in enumerate(zip(clips, splits, strict=True))
        ),
    )
    return examine(folder)


BODIES = [
    *(
        pytest.param(lambda x, up=up: turned_from(x, up), "bodies lie or stand on their heads", "error", id=f"up {up}")
        for up in ("x", "-x", "z", "-z", "-y")
    ),
    pytest.param(lambda x: x[:, list(HUMANML3D.mirrored)], "left and right are exchanged", "error", id="exchanged"),
    pytest.param(lambda x: x * [1, 1, -1], "left and right are exchanged", "error", id="mirrored axis"),
    pytest.param(lambda x: from_rest(x, 3), "clips start with a rest pose", "warning", id="rest pose"),
    pytest.param(
        lambda x: np.concatenate([x[:30], x[30:] + np.array([0.6, 0, 0.4])]), "the body jumps", "warning", id="jump"
    ),
    pytest.param(lambda x: shifted(x, slice(9, 10), [0, -0.1, 0]), "off the floor", "warning", id="floating"),
]


@pytest.mark.parametrize(("alter", "says", "level"), BODIES)
def test_examine_finds_bodies_that_are_not_as_they_should(tmp_path, alter, says, level):
    found = written(tmp_path / "data", alter)
    (finding,) = matching(found, says)
    assert finding.level == level
    assert finding.count == 1
    assert finding.where[0].startswith("clip1.npy")
    assert found.ok is (level != "error")
    if "rest pose" in says:  # counted at the rate of the data set, not of the source
        assert finding.where[0] == "clip1.npy (frames 0 to 2)"
        assert "frames of the source" in finding.remedy


def test_examine_accepts_bodies_that_lie_as_their_caption_says(tmp_path):
    found = written(tmp_path / "data", lambda x: turned_from(x, "z"), "a person lies on the floor")
    assert not matching(found, "bodies lie")


def test_examine_names_normalised_features(data):
    mean, std = (np.load(data / f"{name}.npy") for name in ("Mean", "Std"))
    change(data, lambda vectors: (vectors - mean) / np.maximum(std, 0.05))
    (finding,) = matching(examine(data), "features are normalised")
    assert finding.level == "error"
    assert finding.count > CLIPS / 2
    assert "Std.npy" in finding.remedy
    assert not matching(examine(data), "legs of")  # rubble says nothing about bodies


def test_examine_explains_headings_that_cross_180_degrees(tmp_path):
    clips = [clip.joints.astype(np.float64) for clip in generate(3, seed=3)]
    for number, joints in enumerate(clips):
        angle = np.concatenate([np.zeros(10), np.linspace(0, 2 * np.pi, len(joints) - 10)]) + 0.3 * number
        cos, sin, zero = np.cos(angle), np.sin(angle), np.zeros(len(joints))
        rows = np.stack([cos, zero, sin, zero, zero + 1, zero, -sin, zero, cos], -1).reshape(-1, 3, 3)
        clips[number] = np.einsum("tij,tnj->tni", rows, joints - joints[:, :1] * [1, 0, 1])
    splits = ("train", "val", "test")
    write_folder(
        tmp_path / "data",
        (
            CaptionedMotion(f"c{i}", c, (Caption("turns"),), s)
            for i, (c, s) in enumerate(zip(clips, splits, strict=True))
        ),
    )
    found = examine(tmp_path / "data")
    (note,) = matching(found, "the heading crosses 180 degrees")
    assert note.level == "note"
    assert note.count >= 2
    assert not matching(found, "another pipeline")
    assert not matching(found, "the body jumps")


def test_examine_draws_its_sample_from_the_seed(sound):
    assert examine(sound, sample=5).facts["decoded_sample"] == "5 clips"
    assert examine(sound, sample=5).to_dict() == examine(sound, sample=5).to_dict()
    other = examine(sound, sample=5, seed=1).facts
    assert other["skating"] != examine(sound, sample=5).facts["skating"] or (
        other["foot_contact_share"] != examine(sound, sample=5).facts["foot_contact_share"]
    )


@pytest.mark.parametrize("seed", range(6))
def test_examine_never_raises_on_damaged_files(data, seed):
    rng = np.random.default_rng(seed)
    files = sorted(path for path in data.rglob("*") if path.is_file())
    for path in rng.choice(np.array(files, dtype=object), 25, replace=False):
        content = path.read_bytes()
        cut = int(rng.integers(0, len(content) + 1))
        path.write_bytes(
            (b"", content[:cut], rng.bytes(200), content[:cut] + rng.bytes(40) + content[cut:])[rng.integers(4)]
        )
    found = examine(data)
    assert not found.ok
    json.dumps(found.to_dict(), allow_nan=False)


def test_examine_never_raises_on_extreme_features(data):
    for name, value in (("train00", 0.0), ("train01", 1e30), ("train02", -1e-30), ("train03", 3e38)):
        np.save(motion(data, name), np.full((60, 263), value, np.float32))
    np.save(motion(data, "train04"), np.load(motion(data, "train04"))[:1])
    found = examine(data)
    assert matching(found, "legs that are not 0.6 to 1.15 m long")
    json.dumps(found.to_dict(), allow_nan=False)


def test_printable_escapes_names_that_terminals_cannot_print(data):
    assert printable("bell\a \udcff é") == "bell\\x07 \\udcff é"
    motion(data, "bell\a").write_bytes(b"")
    (finding,) = matching(examine(data), UNUSABLE)
    assert finding.where[0].startswith("bell\\x07.npy: not a readable .npy file")


def test_examine_accepts_an_empty_folder(tmp_path):
    found = examine(tmp_path)
    says = {"split lists are missing", "statistics that cannot normalise", "no motions"}
    assert {finding.what for finding in found.findings} >= says
    (finding,) = examine(tmp_path / "nowhere").findings
    assert finding.what == "there is no data set"
    assert finding.where[0].endswith("nowhere: no such folder")


@pytest.mark.data
def test_examine_finds_no_fault_in_prepared_captures(shared, tmp_path):
    prepare_joints(cut_pack(shared("bandai-namco"), tmp_path / "pack", clips=31), tmp_path / "data")
    assert [f for f in examine(tmp_path / "data").findings if f.level == "error"] == []


# The command ------------------------------------------------------------------------------------------------------


def test_doctor_exits_with_1_on_errors(sound, data, capsys):
    assert main(["doctor", str(sound)]) == 0
    said = capsys.readouterr().out
    assert "0 errors" in said
    assert "humanml3d" in said
    not_finite(data)
    motion(data, "[red]").write_bytes(b"")  # not a colour
    assert main(["doctor", str(data)]) == 1
    said = capsys.readouterr().out
    for part in ("train00.npy: NaN or infinite", "[red].npy", "Repair it", "2 errors"):
        assert part in said
    assert main(["doctor", str(data / "nowhere")]) == 1


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_show_prints_on_any_console(data, encoding):
    foreign_statistics(data)  # said with a ×
    text(data, "train01").write_text("\n".join(2 * ["人が歩く [red]#a/b#0.0#0.0"]), encoding="utf-8")
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    examine(data).show(Console(file=file, width=140))
    file.flush()
    said = file.buffer.getvalue().decode(encoding)
    assert "[red]" in said
    assert "人が歩く" in said if encoding == "utf-8" else r"\u4eba" in said


@pytest.mark.parametrize("damage", [None, not_finite, no_motions])
def test_doctor_prints_only_json_with_json(data, capsys, damage):
    if damage:
        damage(data)
    code = main(["doctor", str(data), "--json", "--gallery", str(data / "page.html")])
    content = json.loads(capsys.readouterr().out)
    assert code == (0 if damage is None else 1)
    assert content["ok"] is (damage is None)
    assert content["counts"]["error"] == sum(f["level"] == "error" for f in content["findings"])
    for finding in content["findings"]:
        assert set(finding) == {"level", "what", "where", "count", "remedy"}
    assert content["facts"]["features"] == HUMANML3D.features
    assert (data / "page.html").exists() is (damage is not no_motions)


def test_doctor_writes_the_gallery_as_a_page(sound, capsys):
    assert main(["doctor", str(sound), "--gallery", "page.pdf"]) == 1
    assert "Name a .html file" in capsys.readouterr().err


def test_examine_lists_shared_captions_in_their_files_order(data):
    shared = [f"a person does the {word} thing" for word in ("first", "second", "third", "fourth", "fifth")]
    lines = "".join(f"{caption}#a/DET#0.0#0.0\n" for caption in shared)
    for number in range(8):  # most common of all
        (data / "texts" / f"train{number:02d}.txt").write_text(lines)
    (found,) = [finding for finding in examine(data).findings if "belong to several clips" in finding.what]
    assert [place.partition("'")[2].partition("'")[0] for place in found.where] == shared[:4]
