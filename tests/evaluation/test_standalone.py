"""Motions of any model, scored without a run: every layout of the field gives the same figures, nonsense one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from adaqf_train import evaluate_motions
from adaqf_train.cli import main
from adaqf_train.errors import AdaQFError, ConfigError, DataError
from adaqf_train.evaluation.foreign import Reading, gather
from adaqf_train.motion import physics
from adaqf_train.motion.features import encode
from adaqf_train.motion.mapping import to_kit
from adaqf_train.motion.skeleton import HUMANML3D, KIT
from adaqf_train.procedural import generate
from tests.evaluation.test_motions import Mischief
from tests.helpers import bvh_body

CLIPS = 10


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    """Joints (T, 22, 3) of different lengths."""
    return [np.asarray(clip.joints, np.float64)[: 48 + 4 * i] for i, clip in enumerate(generate(CLIPS, seed=11))]


@pytest.fixture(scope="module")
def captions() -> list[str]:
    return [clip.captions[0] for clip in generate(CLIPS, seed=11)]


def save(folder: Path, clips, name: Callable[[int], str] = "{:02}".format) -> Path:
    for i, clip in enumerate(clips):
        path = folder / f"{name(i)}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, clip.astype(np.float32))
    return folder


def plain(folder, clips, captions):
    save(folder, clips, "{:02}".format)
    (folder / "captions.json").write_text(json.dumps({f"{i:02}": text for i, text in enumerate(captions)}))


def beside(folder, clips, captions):  # MLD
    save(folder, clips, "text_motion_48_batch0_{:02}".format)
    for i, text in enumerate(captions):
        (folder / f"text_motion_48_batch0_{i:02}.txt").write_text(text)


def mdm(folder, clips, captions):
    folder.mkdir()
    motion = np.zeros((len(clips), 22, 3, max(map(len, clips))), np.float32)
    for row, clip in zip(motion, clips, strict=True):
        row[..., : len(clip)] = clip.transpose(1, 2, 0)
    content = {"motion": motion, "text": captions, "lengths": np.array([len(clip) for clip in clips])}
    np.save(folder / "results.npy", content | {"num_samples": len(clips), "num_repetitions": 1})


def momask(folder, clips, captions):
    for ending in ("", "_ik"):
        moved = [clip + bool(ending) for clip in clips]
        save(folder / "joints", moved, lambda i, e=ending: f"{i}/sample{i}_repeat0_len{len(clips[i])}{e}")
    (folder / "animations" / "0").mkdir(parents=True)
    (folder / "animations" / "0" / "sample0_repeat0_len48.bvh").write_text("a film of the joints")


def salad(folder, clips, captions):
    folder = folder / "E0000" / "motion-steps50-00"
    folder.mkdir(parents=True)
    for i, (clip, text) in enumerate(zip(clips, captions, strict=True)):
        np.savez(folder / f"{i:06d}.npz", motion=clip, caption=text)


def mardm(folder, clips, captions):
    save(folder, clips, lambda i: f"{i}/caption:{captions[i]}_sample{i}_repeat0_len{len(clips[i])}")


def t2m_gpt(folder, clips, captions):
    save(folder, [clip[None] for clip in clips], "{:02}_pred".format)
    save(folder, [clip[None] + 1 for clip in clips], "{:02}_gt".format)
    (folder / "captions.json").write_text(json.dumps({f"{i:02}_pred": [text] for i, text in enumerate(captions)}))


def pack(folder, clips, captions):
    folder.mkdir()
    stacked, offsets = np.concatenate(clips), np.cumsum([0, *map(len, clips)])
    names = np.array([f"{i:02}" for i in range(len(clips))])
    stored = np.round(stacked * 4096).astype(np.int16)
    np.savez(folder / "test.npz", positions=stored, scale=1 / 4096, offsets=offsets, names=names, fps=20)
    (folder / "captions.json").write_text(json.dumps({name: [c] for name, c in zip(names, captions, strict=True)}))


def smpl(folder, clips, captions):
    plain(folder, [np.concatenate([clip, clip[:, :1].repeat(30, axis=1)], axis=1) for clip in clips], captions)


def flat(folder, clips, captions):
    plain(folder, [clip.reshape(len(clip), 66) for clip in clips], captions)


def padded(folder, clips, captions):
    plain(folder, [np.concatenate([clip, np.zeros((9, 22, 3))]) for clip in clips], captions)


LAYOUTS = (plain, beside, mdm, momask, salad, mardm, t2m_gpt, pack, smpl, flat, padded)


@pytest.mark.parametrize("write", LAYOUTS, ids=lambda write: write.__name__)
def test_every_layout_gives_the_same_motions_and_captions(write, clips, captions, tmp_path):
    write(tmp_path / "theirs", clips, captions)
    table = None
    if write is momask:  # MoMask's prompts stand in the file that it was given
        table = tmp_path / "prompts.txt"
        table.write_text("\n".join(f"{text}#{len(clip)}" for text, clip in zip(captions, clips, strict=True)))
    found = gather(tmp_path / "theirs", table)
    assert (found.name, found.skeleton, found.captions) == ("theirs", HUMANML3D, tuple(captions))
    for own, joints in zip(clips, found.joints, strict=True):
        assert own.shape == joints.shape
        assert np.abs(own - joints).max() < (2e-4 if write is pack else 1e-6)
    left_out = [note for note in found.notes if "left out" in note]
    assert bool(left_out) == (write in (momask, t2m_gpt))


def test_physics_are_those_of_the_clips_with_intervals_over_them(clips, captions, tmp_path):
    plain(tmp_path / "theirs", clips, captions)
    rows = evaluate_motions(tmp_path / "theirs").rows
    values = [physics.skating_kimodo(clip, HUMANML3D) for clip in clips]
    assert rows["theirs"]["skating_kimodo"]["mean"] == pytest.approx(np.mean(values), rel=1e-4)
    assert rows["theirs"]["skating_kimodo"]["ci95"] == pytest.approx(1.96 * np.std(values) / CLIPS**0.5, rel=1e-4)
    assert rows["theirs"]["mean_jerk"]["ci95"] is None
    assert "fid" not in rows["theirs"]
    one = evaluate_motions(save(tmp_path / "one", clips[:1])).rows["one"]
    assert one["jitter_mm"]["ci95"] is None


def test_gather_reads_bvh_files_with_their_captions(tmp_path):
    for seed in range(2):
        (tmp_path / f"{seed}.bvh").write_text(bvh_body("lafan1", seed=seed))
        (tmp_path / f"{seed}.txt").write_text(f"a person stands, {seed}")
    found = gather(tmp_path)
    assert found.captions == ("a person stands, 0", "a person stands, 1")
    assert found.skeleton is HUMANML3D
    assert physics.bone_change(found.joints[0], HUMANML3D) < 1e-6


def test_scale_leaves_features_alone(clips, tmp_path):
    folder = save(tmp_path / "features", [encode(clip) for clip in clips])
    before, after = gather(folder), gather(folder, None, Reading(scale=0.001))
    assert all(np.array_equal(a, b) for a, b in zip(before.joints, after.joints, strict=True))


def test_rate_leaves_features_alone(clips, tmp_path):
    """Physics and evaluators see the same frames, whatever rate the joints beside them have."""
    folder = save(tmp_path / "features", [encode(clip) for clip in clips])
    found = gather(folder, None, Reading(fps=60))
    assert [len(clip) for clip in found.joints] == [len(rows) for rows in found.features]


@pytest.mark.parametrize(
    ("names", "lines", "expected"),
    [
        (["1", "2", "9", "10"], "abcd", "abcd"),  # from 1
        (["walk_3", "walk_20", "walk_100"], "abc", "abc"),
        (["0", "2", "10"], "a-b-------c", "abc"),  # with lines of other motions
        (["sample0_repeat0_len48", "sample0_repeat1_len48", "sample1_repeat0_len48"], "ab", "aab"),
        (["walk", "run"], "rw", "wr"),  # no numbers: in the order of names
    ],
)
def test_lines_belong_to_numbers_not_to_the_order_of_files(names, lines, expected, clips, tmp_path):
    save(tmp_path / "theirs", clips[: len(names)], names.__getitem__)
    (tmp_path / "lines.txt").write_text("\n".join(lines) + "\n\n")
    found = gather(tmp_path / "theirs", tmp_path / "lines.txt")
    assert dict(zip(found.names, found.captions, strict=True)) == dict(zip(names, expected, strict=True))


def test_features_are_scored_like_the_joints_they_stand_for(clips, tmp_path):
    save(tmp_path / "joints", clips)
    save(tmp_path / "features", [encode(clip) for clip in clips])
    rows = evaluate_motions([tmp_path / "joints", tmp_path / "features"], reference=tmp_path / "joints").rows
    for name in ("jitter_mm", "dynamic_mm", "slide_mm"):  # one frame less, and the standard bones
        assert rows["features"][name]["mean"] == pytest.approx(rows["joints"][name]["mean"], rel=0.1)
    assert rows["joints"]["jerk"]["mean"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("change", "reading"),
    [
        (lambda clip: np.stack([clip[..., 0], -clip[..., 2], clip[..., 1]], axis=-1), Reading(up="z")),
        (lambda clip: 1000 * clip, Reading(scale=0.001)),
        (lambda clip: clip + np.array([0, 3, 0]), Reading(floor="clip")),
        (lambda clip: clip - np.array([0, 3, 0]), None),
        (lambda clip: np.repeat(clip, 2, axis=0)[:-1], Reading(fps=40)),
    ],
)
def test_reading_undoes_axes_units_floor_and_rate(change, reading, clips, tmp_path):
    before, after = gather(save(tmp_path / "a", clips)), gather(save(tmp_path / "b", map(change, clips)), None, reading)
    for own, joints in zip(before.joints, after.joints, strict=True):
        lifted = [0, own[..., 1].min() * (reading is None or reading.floor == "clip"), 0]
        assert np.abs(own - lifted - joints).max() < 2e-3
    if reading is None:
        assert "floor is not at height 0" in after.notes[0]


def test_kit_joints_may_be_in_metres_or_in_the_data_sets_units(clips, tmp_path):
    bodies = [to_kit(clip) for clip in clips]
    rows = [
        evaluate_motions(save(tmp_path / name, own)).rows[name]
        for name, own in (("units", bodies), ("metres", [body / KIT.units_per_metre for body in bodies]))
    ]
    assert rows[0]["slide_mm"]["mean"] == pytest.approx(rows[1]["slide_mm"]["mean"], rel=1e-4)


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_few_lying_bodies_are_a_note_and_most_of_them_an_error(share, clips, tmp_path):
    turned = [np.stack([c[..., 0], -c[..., 2], c[..., 1]], axis=-1) for c in clips]
    save(
        tmp_path / "theirs", [t if i < share * CLIPS else c for i, (c, t) in enumerate(zip(clips, turned, strict=True))]
    )
    reading = Reading(floor="clip")
    if share < 0.5:
        notes = gather(tmp_path / "theirs", None, reading).notes
        assert any("the body lies" in note and "2 more of 10 motions" in note for note in notes)
    else:
        with pytest.raises(DataError, match=r"00.npy \(and 6 more of 10 motions\): the body lies.*--up z"):
            gather(tmp_path / "theirs", None, reading)


def test_evaluator_scores_fid_and_r_precision(tiny_run, tiny_data, clips, tmp_path):
    """Copies of the reference are as near as can be, and noise is far; the halves of the reference lie between."""
    items = sorted((tiny_data / "new_joint_vecs").glob("*.npy"))
    listed = (tiny_data / "test.txt").read_text().split()
    texts = {name: (tiny_data / "texts" / f"{name}.txt").read_text().partition("#")[0] for name in listed}
    real = [np.load(path) for path in items if path.stem in listed]
    names = [path.stem for path in items if path.stem in listed]
    rng = np.random.default_rng(0)
    noise = [clip + 0.3 * rng.standard_normal(clip.shape).astype(np.float32) for clip in real]
    for label, own in (("copies", real), ("noise", noise)):
        save(tmp_path / label, own, names.__getitem__)
    (tmp_path / "captions.json").write_text(json.dumps(texts))
    report = evaluate_motions(
        [tmp_path / "copies", tmp_path / "noise"],
        reference=tiny_data,
        captions=tmp_path / "captions.json",
        evaluator=tiny_run,
        replications=3,
    )
    rows = report.rows
    assert list(rows) == ["reference", "floor", "copies", "noise"]
    assert rows["copies"]["fid"]["mean"] < 1e-3 < rows["floor"]["fid"]["mean"]
    assert rows["noise"]["fid"]["mean"] > 10 * rows["copies"]["fid"]["mean"]
    assert rows["noise"]["jerk"]["mean"] > rows["floor"]["jerk"]["mean"]
    assert "fid" not in rows["reference"]
    assert {"r_precision_3", "mm_dist", "diversity", "kid", "fid_normalised"} <= set(rows["noise"])
    assert rows["noise"]["joints_fid"]["mean"] > 10 * rows["copies"]["joints_fid"]["mean"]
    assert "By the second evaluator, which reads decoded joints:" in report.markdown()
    alone = evaluate_motions(
        tmp_path / "noise", reference=tiny_data, evaluator=tiny_run / "joint_evaluator", replications=3
    )
    assert alone.rows["noise"]["fid"] == rows["noise"]["joints_fid"]
    assert any("quarter" in note for note in report.notes) == (len(real) < 16)
    without = evaluate_motions(tmp_path / "copies", reference=tiny_data, evaluator=tiny_run, replications=1)
    assert "r_precision_3" not in without.rows["copies"]
    assert any("no caption: no R-precision" in note for note in without.notes)
    assert (
        evaluate_motions(tmp_path / "copies", reference=tiny_data, evaluator=tiny_run, replications=1).rows
        == without.rows
    )


def test_reference_from_one_clip_has_no_row_of_halves(clips, tiny_run, tmp_path):
    parts = save(tmp_path / "parts", clips, "walk#{}".format)
    report = evaluate_motions(parts, reference=parts, evaluator=tiny_run, replications=1)
    assert list(report.rows) == ["reference", "parts"]
    assert any("parts (NAME#…)" in note for note in report.notes)


def test_warnings_about_a_data_set_are_notes(tiny_data, tmp_path, recwarn):
    """A warning would print a line of our source."""
    data = Path(shutil.copytree(tiny_data, tmp_path / "data"))
    name = (data / "test.txt").read_text().split()[0]
    for part, ending in (("new_joint_vecs", "npy"), ("texts", "txt")):
        shutil.copyfile(data / part / f"{name}.{ending}", data / part / f"007975.{ending}")
    with (data / "test.txt").open("a") as file:
        file.write("007975\n")  # NaN in the official release
    assert any("skipping 007975" in note for note in gather(data).notes)
    assert not recwarn.list


def test_evaluate_prints_a_table_and_writes_a_report(clips, captions, tmp_path, capsys):
    plain(tmp_path / "theirs", clips, captions)
    out = tmp_path / "scored"
    assert main(["evaluate", str(tmp_path / "theirs"), "--out", str(out)]) == 0
    assert "Skating, Kimodo" in capsys.readouterr().out
    report = json.loads((out / "report.json").read_text())
    assert report["rows"]["theirs"]["contact"]["mean"] > 0.5
    assert report["motions"] == {"theirs": {"path": str(tmp_path / "theirs"), "count": CLIPS}}
    assert "| theirs |" in (out / "report.md").read_text()


NONSENSE = {
    "nowhere": "no such file or folder",
    "empty": "no .npy, .npz or .bvh files",
    "text file": "is not read here",
    "text as npy": "not a readable .npy file",
    "empty npy": "not a readable .npy file",
    "truncated": "not a readable .npy file",
    "integers": "expected floats",
    "code": "is not data",
    "other object": "missing. Give the results.npy",
    "vector": "expected joints",
    "17 joints": "expected joints",
    "no frames": "no frames",
    "one frame": "frames at 20 per second: 1, expected at least 4",
    "three frames": "frames at 20 per second: 3, expected at least 4",
    "nan": "NaN or infinite values at frame 7",
    "infinite features": "NaN or infinite values at frame 7",
    "zeros": "every frame is zero",
    "all joints in one place": "coincide",
    "millimetres": "Give --scale 0.001",
    "centimetres": "Give --scale 0.01",
    "z up": "--up z",
    "mirrored": "left and right are exchanged",
    "normalised": "these features are normalised",
    "mixed skeletons": "Give each kind alone",
    "smpl parameters": "adaqf prepare amass",
    "other npz": "expected one of motion",
    "npz of objects": "not a readable .npz file",
    "no zip": "not a readable .npz file",
    "pack without offsets": "offsets do not fit",
    "captions missing": "missing",
    "captions for others": "no caption for 10 of 10 motions",
    "too few lines": "9 captions for 10 motions",
    "captions not utf-8": "utf-8",
    "captions with a gap": "line 3 has no caption",
    "captions of another kind": "expected captions as .json",
    "evaluator nowhere": "missing",
    "evaluator without comparison": "give real motions with --reference",
    "too few": "3 motions; FID and R-precision need at least 8",
    "reference of other joints": "Score each skeleton by itself",
    "reference nowhere": "no such file or folder",
    "evaluator of other features": "the evaluator reads 263",
    "negative rate": "fps must be a positive number",
    "needs a run": "--data needs a run",
    "no motions": "Nothing to score",
    "setting": "--evaluation.pool: has no effect without a run",
    "sampling": "--sampling.steps: has no effect without a run",
    "override": "--set evaluation.pool=8: has no effect without a run",
    "out is a file": "is a file, but the report needs a folder",
    "run and out": "--out: is for motions",
    "run and floor": "--floor: is for motions without a run",
    "both": "Omit --run",
}


def nonsense(kind: str, clips, root: Path, run: Path) -> list[str]:
    """The arguments of `evaluate` for a kind of nonsense."""
    folder = root / "theirs"
    path, joints = folder / "00.npy", np.asarray(clips[0])
    turned = np.stack([joints[..., 0], -joints[..., 2], joints[..., 1]], axis=-1)
    holed, rows = joints.copy(), encode(joints)
    holed[7, 3, 1] = np.nan
    arrays = {
        "integers": (joints * 1000).astype(int),
        "vector": np.zeros(5),
        "17 joints": np.zeros((60, 17, 3)),
        "no frames": np.zeros((0, 22, 3)),
        "one frame": joints[:1],
        "three frames": joints[:3],
        "nan": holed,
        "infinite features": np.where(np.arange(len(rows))[:, None] == 7, np.inf, rows),
        "zeros": np.zeros((60, 22, 3)),
        "all joints in one place": np.ones((60, 22, 3)),
        "millimetres": 1000 * joints,
        "centimetres": 100 * joints,
        "z up": turned,
        "mirrored": joints * [-1, 1, 1],
        "normalised": (rows - rows.mean(0)) / (rows.std(0) + 1e-3),
        "other object": {"motion": 1},
        "code": {"motion": Mischief()},
    }
    archives = {
        "smpl parameters": {"poses": np.zeros((9, 156)), "trans": np.zeros((9, 3))},
        "other npz": {"weights": np.zeros(3)},
        "npz of objects": {"motion": np.array([Mischief()])},
        "pack without offsets": {"positions": np.zeros((9, 22, 3)), "scale": 1, "offsets": [0, 7], "names": ["a"]},
    }
    raw = {"text as npy": b"a text", "empty npy": b"", "truncated": None}
    folder.mkdir(parents=True)
    if kind in arrays:
        np.save(path, arrays[kind], allow_pickle=True)
    elif kind in archives:
        np.savez(folder / "00.npz", **archives[kind])
    elif kind in raw:
        np.save(path, joints)
        path.write_bytes(path.read_bytes()[:500] if raw[kind] is None else raw[kind])
    elif kind == "no zip":
        (folder / "00.npz").write_bytes(b"no zip")
    elif kind == "mixed skeletons":
        save(folder, [joints, joints, to_kit(joints)])
    elif kind not in ("nowhere", "empty"):
        save(folder, clips[:3] if kind == "too few" else clips)
    lines = {"too few lines": "a person walks\n" * 9, "captions with a gap": "a\nb\n\n" + "c\n" * 9}
    table = root / ("captions.txt" if kind in lines else "captions.json")
    if kind == "captions of another kind":
        table = root / "captions.xml"
    if kind in lines:
        table.write_text(lines[kind])
    elif "captions" in kind and kind != "captions missing":
        table.write_bytes(b'{"\xff": "a"}' if "utf-8" in kind else b'{"other": ["a person walks"]}')
    given = ["--captions", str(table)] if "captions" in kind or kind == "too few lines" else []
    kit = save(root / "kit", [to_kit(clip) for clip in clips])
    options = {
        "nowhere": [str(root / "nowhere")],
        "text file": [str(Path(__file__))],
        "evaluator nowhere": [str(folder), "--evaluator", str(root / "nowhere")],
        "evaluator without comparison": [str(folder), "--evaluator", str(run)],
        "too few": [str(folder), "--evaluator", str(run), "--reference", str(folder)],
        "reference of other joints": [str(folder), "--reference", str(kit)],
        "reference nowhere": [str(folder), "--reference", str(root / "nowhere")],
        "evaluator of other features": [str(kit), "--evaluator", str(run), "--reference", str(kit)],
        "negative rate": [str(folder), "--fps", "-5"],
        "needs a run": [str(folder), "--data", str(root)],
        "no motions": [],
        "both": [str(folder), "--run", str(run)],
        "setting": [str(folder), "--evaluation.pool", "64"],
        "sampling": [str(folder), "--sampling.steps", "3"],
        "override": [str(folder), "--set", "evaluation.pool=8"],
        "out is a file": [str(folder), "--out", str(path)],
        "run and out": ["--run", str(run), "--out", str(root)],
        "run and floor": ["--run", str(run), "--floor", "keep"],
    }
    return options.get(kind, [str(folder), *given])


@pytest.mark.parametrize("kind", NONSENSE)
def test_evaluate_says_in_one_line_what_is_wrong(kind, clips, tiny_run, tmp_path, capsys):
    assert main(["evaluate", *nonsense(kind, clips, tmp_path, tiny_run)]) == 1
    captured = capsys.readouterr()
    complaint = captured.err.rpartition("error: ")[2]
    assert NONSENSE[kind] in complaint
    assert "\n" not in complaint.strip()
    assert "Traceback" not in captured.err
    assert "called" not in captured.out


@pytest.mark.parametrize("options", [{"fps": 0}, {"scale": float("nan")}, {"up": "w"}, {"floor": "sea"}])
def test_reading_refuses_what_does_not_hold(options):
    with pytest.raises(ConfigError):
        Reading(**options)
    assert issubclass(ConfigError, AdaQFError)


@pytest.mark.data
def test_evaluate_scores_real_captures_without_complaint(shared):
    """Real motion capture slides little, keeps its bones and stands on the floor."""
    found = evaluate_motions(shared("bandai-namco") / "test.npz")
    row = {name: figure["mean"] for name, figure in found.rows["test"].items()}
    assert found.manifest["motions"]["test"]["count"] == 421
    assert row["skating"] < 0.01
    assert row["bone_change"] < 0.2
    assert row["deep_penetration_mm"] == 0
    assert not any("floor is not" in note for note in found.notes)
