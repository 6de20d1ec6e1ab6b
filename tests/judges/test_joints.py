"""The second evaluator: it reads decoded joints, and each motion by itself."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from adaclip.integrity import read_sealed, write_sealed
from adaqf_train.cli import main
from adaqf_train.config import JointEvaluatorConfig
from adaqf_train.data.batches import pad
from adaqf_train.evaluation.report import gap
from adaqf_train.judges import store
from adaqf_train.judges.base import Evaluator
from adaqf_train.judges.joints import JointMatcher
from adaqf_train.judges.matcher import Matcher
from adaqf_train.motion.features import Slices, decode
from adaqf_train.motion.skeleton import HUMANML3D, KIT
from tests.helpers import FLOAT32, deviation, kit_body

SLICES = Slices.of(HUMANML3D)
SMALL = JointEvaluatorConfig(width=16, layers=3, embedding=8)


@pytest.fixture(scope="module")
def judge(tiny_train) -> JointMatcher:
    torch.manual_seed(0)
    return JointMatcher(tiny_train.mean, tiny_train.std, 50, SMALL).eval()


@pytest.fixture(scope="module")
def motions(tiny_train) -> list[np.ndarray]:
    return [
        (item.vectors[: 40 + 8 * i] - tiny_train.mean) / tiny_train.std for i, item in enumerate(tiny_train.items[:3])
    ]


def embed(judge: JointMatcher, motions) -> torch.Tensor:
    with torch.no_grad():
        return judge.embed_motion(*pad(motions))


def test_view_holds_places_velocities_and_contacts(judge, tiny_train):
    item = min(tiny_train.items, key=lambda item: item.vectors[:, SLICES.contacts].mean())
    joints = decode(item.vectors.astype(np.float64))
    normalised = (item.vectors - tiny_train.mean) / tiny_train.std
    seen = judge.view(torch.from_numpy(normalised)[None]).numpy()[0]
    places = joints.copy()
    places[..., [0, 2]] -= joints[:, :1, [0, 2]]
    speeds = np.zeros_like(joints)
    for frame in range(1, len(joints)):
        speeds[frame] = 20 * (joints[frame] - joints[frame - 1])
    assert np.abs(seen[:, :66] - places.reshape(len(joints), 66)).max() < 1e-3
    assert np.abs(seen[:, 66:132] - speeds.reshape(len(joints), 66)).max() < 1e-2
    feet = [7, 10, 8, 11]
    expected = (np.linalg.norm(speeds[:, feet], axis=-1) < 0.5) & (joints[:, feet, 1] < 0.1)
    assert (seen[:, 132:] == expected).mean() > 0.98  # a foot at a threshold may round either way
    assert 0.1 < expected.mean() < 1


def test_embed_motion_depends_on_real_frames_alone(judge, motions):
    alone = embed(judge, motions[:1])
    together = embed(judge, motions)[:1]
    assert deviation(together, alone) < FLOAT32
    padded, mask = pad(motions)
    padded = torch.where(mask[..., None], padded, torch.full_like(padded, 9.0))
    with torch.no_grad():
        garbage = judge.embed_motion(padded, mask)[:1]
    assert deviation(garbage, alone) < FLOAT32
    changed = motions[0].copy()
    changed[20] += 1
    assert deviation(embed(judge, [changed]), alone) > 1e-3
    assert alone.norm() == pytest.approx(SMALL.embedding**0.5, rel=1e-5)


@pytest.mark.parametrize("group", ["rotations", "velocities", "contacts", "positions", "root_height"])
def test_embed_motion_reads_joints_and_no_other_features(judge, motions, group):
    """Rotations, velocities and contacts of the features contradict the joints here: they must not matter."""
    changed = motions[0].copy()
    changed[:, getattr(SLICES, group)] += (
        np.random.default_rng(0).standard_normal(changed[:, getattr(SLICES, group)].shape).astype(np.float32)
    )
    moved = deviation(embed(judge, [changed]), embed(judge, motions[:1]))
    assert (moved > 1e-3) == (group in ("positions", "root_height"))


def test_embed_text_depends_on_real_tokens_alone(judge):
    ids = torch.tensor([[3, 7, 9, 0, 0], [3, 7, 9, 11, 5]])
    mask = torch.tensor([[True] * 3 + [False] * 2, [True] * 5])
    with torch.no_grad():
        both = judge.embed_text(ids, mask)
        alone = judge.embed_text(ids[:1, :3], mask[:1, :3])
        order = judge.embed_text(ids[:1, [1, 0, 2]], mask[:1, :3])
    assert deviation(both[:1], alone) < FLOAT32
    assert deviation(both[1:], alone) > 1e-2
    assert deviation(order, alone) > 1e-4  # words have an order


def test_joint_matcher_reads_kit(tiny_train):
    judge = JointMatcher(np.zeros(251), np.ones(251), 50, SMALL).eval()
    from adaqf_train.motion.features import encode

    features = encode(kit_body(41)).astype(np.float32)
    view = judge.view(torch.from_numpy(features)[None])
    assert view.shape == (1, 40, 6 * len(KIT) + 4)
    assert 0.3 < float(view[0, :, 1].mean()) < 3  # metres, not KIT-ML's units
    assert torch.isfinite(embed(judge, [features])).all()


def test_store_keeps_both_kinds_apart(tiny_run, tiny_train, tmp_path):
    second, tokenizer, statistics = store.load_evaluator(tiny_run / "joint_evaluator")
    assert isinstance(second, JointMatcher)
    assert isinstance(store.load_evaluator(tiny_run / "evaluator")[0], Matcher)
    store.save_evaluator(tmp_path / "again", second, statistics, tokenizer)
    read = store.load_evaluator(tmp_path / "again")[0]
    motions = [item.vectors[:40] for item in tiny_train.items[:4]]
    before, after = (Evaluator(towers, tokenizer, *statistics).embed_motions(motions) for towers in (second, read))
    assert np.array_equal(before, after)
    assert store.fingerprint_of(tmp_path / "again") == store.fingerprint_of(tiny_run / "joint_evaluator")


def test_report_has_the_second_evaluators_figures_and_gaps(tiny_run):
    report = json.loads((tiny_run / "report.json").read_text())
    for row in report["rows"].values():
        assert {"joints_fid", "joints_kid", "joints_r_precision_3", "joints_mm_dist"} <= row.keys()
        assert row["joints_fid"] != row["fid"]
    assert len(report["joint_evaluator"]) == 64
    text = (tiny_run / "report.md").read_text()
    assert "By the second evaluator, which reads decoded joints:" in text
    rows = report["rows"]
    expected = (rows["adaqf"]["r_precision_3_extractors"]["mean"] - rows["gt"]["r_precision_3_extractors"]["mean"]) - (
        rows["adaqf"]["joints_r_precision_3"]["mean"] - rows["gt"]["joints_r_precision_3"]["mean"]
    )
    assert gap(rows["adaqf"], rows["gt"], "joints_r_precision_3") == pytest.approx(expected)
    assert "minus R@3 by the second evaluator, each minus the ground truth's: baseline" in text
    assert f"AdaQF {expected:+.3f}." in text


def test_evaluate_reads_a_run_of_a_version_without_the_second_evaluator(tiny_run, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    shutil.rmtree(run / "joint_evaluator")
    for name, drop in (
        ("stages.json", lambda c: c.pop("joint_evaluator")),
        ("run.json", lambda c: c["config"].pop("joint_evaluator")),
    ):
        content = read_sealed(run / name, "")
        drop(content)
        write_sealed(run / name, content)
    assert main(["evaluate", "--run", str(run), "--evaluation.replications", "1"]) == 0
    report = json.loads((run / "report.json").read_text())
    assert report["joint_evaluator"] is None
    assert not any(name.startswith("joints_") for name in report["rows"]["adaqf"])
