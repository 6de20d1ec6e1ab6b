"""The procedural motion source: bodies that keep their bones and their feet, and captions that the joints bear out."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter

import numpy as np
import pytest
import torch

from adaqf_train.motion.skeleton import HUMANML3D
from adaqf_train.procedural import ProceduralClip, generate
from adaqf_train.procedural.captions import clause_key
from adaqf_train.procedural.dataset import is_held_out

CLIPS = 700
J = {name: index for index, name in enumerate(HUMANML3D.joints)}
FPS = HUMANML3D.fps
SIGN = {"left": 1.0, "right": -1.0}
ATTRIBUTES = ("side", "count", "speed", "direction", "height", "amplitude", "angle_deg", "path")


@pytest.fixture(scope="module")
def clips() -> list[ProceduralClip]:
    return list(generate(CLIPS, seed=3))


def singles(clips: list[ProceduralClip], *actions: str) -> list[ProceduralClip]:
    return [clip for clip in clips if len(clip.actions) == 1 and clip.actions[0]["action"] in actions]


def mirrored(joints: np.ndarray) -> np.ndarray:
    return HUMANML3D.mirror(torch.from_numpy(joints)).numpy()


def forward_of(joints: np.ndarray) -> np.ndarray:
    """Horizontal unit forward of the hips, (T, 3)."""
    across = joints[:, J["left_hip"]] - joints[:, J["right_hip"]]
    forward = np.stack((-across[:, 2], np.zeros(len(joints)), across[:, 0]), -1)
    return forward / np.linalg.norm(forward, axis=-1, keepdims=True)


def yaw_of(joints: np.ndarray) -> np.ndarray:
    forward = forward_of(joints)
    return np.degrees(np.unwrap(np.arctan2(forward[:, 0], forward[:, 2])))


def rises(signal: np.ndarray, low: float, high: float) -> int:
    """How often the signal goes above `high` after having been below `low`."""
    count, armed = 0, True
    for value in signal:
        if armed and value > high:
            count, armed = count + 1, False
        armed = armed or value < low
    return count


def elbow_angle(joints: np.ndarray, side: str) -> np.ndarray:
    """Flexion of the elbow in degrees, 0 for a straight arm, (T,)."""
    upper = joints[:, J[f"{side}_elbow"]] - joints[:, J[f"{side}_shoulder"]]
    lower = joints[:, J[f"{side}_wrist"]] - joints[:, J[f"{side}_elbow"]]
    cosine = (upper * lower).sum(-1) / np.linalg.norm(upper, axis=-1) / np.linalg.norm(lower, axis=-1)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def repetitions(joints: np.ndarray, action: str, side: str) -> int:
    """How often an action is done with the limb of a side, read from the joints alone."""
    if action == "raise_arm":
        reach = joints[:, J[f"{side}_wrist"], 1] - joints[:, J[f"{side}_shoulder"], 1]
        return rises(reach, -0.38, -0.15)
    if action == "wave":  # the forearm folds inward once per stroke
        return rises(elbow_angle(joints, side), 105, 118)
    if action == "punch":
        reach = joints[:, J[f"{side}_wrist"]] - joints[:, J[f"{side}_shoulder"]]
        return rises((reach * forward_of(joints)).sum(-1), 0.35, 0.45)
    if action == "kick":
        reach = joints[:, J[f"{side}_foot"]] - joints[:, J["pelvis"]]
        return rises((reach * forward_of(joints)).sum(-1), 0.3, 0.42)
    if action == "jump":
        return rises(joints[:, [J["left_foot"], J["right_foot"]], 1].min(-1), 0.03, 0.07)
    joint = {"bow": "head", "crouch": "pelvis"}[action]
    depth = joints[0, J[joint], 1] - joints[:, J[joint], 1]
    return rises(depth, 0.35 * depth.max(), 0.7 * depth.max())


def test_generate_keeps_bone_lengths(clips):
    actions = set()
    for clip in clips:
        lengths = HUMANML3D.lengths_of(torch.from_numpy(clip.joints)).numpy()
        assert np.abs(lengths - np.array(HUMANML3D.bone_lengths)).max() < 1e-4, clip.name
        actions |= {clause_key(facts) for facts in clip.actions}
    assert len(actions) == 21  # every action was seen


def test_generate_gives_finite_clips_that_start_at_the_origin(clips):
    for clip in clips:
        assert clip.joints.dtype == np.float32
        assert clip.joints.shape[1:] == (22, 3)
        assert 44 <= len(clip.joints) <= 120, clip.name
        assert np.isfinite(clip.joints).all()
        assert np.abs(clip.joints[0, 0, [0, 2]]).max() < 1e-5
        yaw = np.abs(yaw_of(clip.joints))
        assert yaw[0] < 4, clip.name
        assert yaw.max() < 150, clip.name


def test_generate_keeps_bodies_above_the_floor(clips):
    assert min(clip.joints[..., 1].min() for clip in clips) > 0.015
    assert max(clip.joints[0, [10, 11], 1].max() for clip in clips) < 0.04  # and everybody starts on it


def skating(joints: np.ndarray, floor: float = 0.0) -> float:
    """Share of foot frames in which a toe is low and travels faster than 0.5 m/s."""
    toes = joints[:, [J["left_foot"], J["right_foot"]]]
    speed = np.linalg.norm(np.diff(toes[..., [0, 2]], axis=0), axis=-1) * FPS
    low = toes[..., 1] - floor < 0.05
    return float(((speed > 0.5) & low[1:] & low[:-1]).mean())


def test_generate_keeps_planted_feet_still(clips):
    assert np.mean([skating(clip.joints) for clip in clips]) < 0.001
    # The features put the floor at a clip's lowest joint, which makes the same band 2 cm higher.
    assert np.mean([skating(clip.joints, clip.joints[..., 1].min()) for clip in clips]) < 0.004
    walk = next(clip for clip in singles(clips, "walk") if clip.actions[0]["direction"] == "forward")
    dragged = walk.joints + np.linspace(0, 4, len(walk.joints))[:, None, None] * np.array((1, 0, 0))
    assert skating(dragged) > 0.2


def test_generate_moves_smoothly(clips):
    """The fastest things are the toe of a sprinter and the hand of a fast overhead raise, about 9 m/s."""
    for clip in clips:
        velocity = np.diff(clip.joints, axis=0)
        assert np.linalg.norm(velocity, axis=-1).max() < 0.5, clip.name
        assert np.linalg.norm(np.diff(velocity, axis=0), axis=-1).max() < 0.38, clip.name
    still = singles(clips, "idle")[0].joints
    popping = still.copy()
    popping[20, J["left_wrist"]] += 0.4
    assert np.linalg.norm(np.diff(popping, 2, axis=0), axis=-1).max() > 0.38


def test_generate_bends_knees_forward_and_never_locks_them(clips):
    for clip in clips:
        forward = forward_of(clip.joints)
        for side in ("left", "right"):
            hip, knee, ankle = (clip.joints[:, J[f"{side}_{part}"]] for part in ("hip", "knee", "ankle"))
            span = np.linalg.norm(ankle - hip, axis=-1)
            whole = np.linalg.norm(knee - hip, axis=-1) + np.linalg.norm(ankle - knee, axis=-1)
            assert (span / whole).max() < 0.995, clip.name
            axis = (ankle - hip) / span[:, None]
            bulge = knee - hip - ((knee - hip) * axis).sum(-1, keepdims=True) * axis
            ahead = forward - (forward * axis).sum(-1, keepdims=True) * axis
            assert ((bulge * ahead).sum(-1) > 0).all(), clip.name


def test_generate_avoids_bones_opposite_to_rest(clips):
    """There the features' rotations are singular."""
    rest, parents = np.array(HUMANML3D.rest_directions[1:], float), list(HUMANML3D.parents[1:])
    for clip in clips:
        bones = clip.joints[:, 1:] - clip.joints[:, parents]
        cosine = (bones / np.linalg.norm(bones, axis=-1, keepdims=True) * rest).sum(-1)
        assert cosine.min() > -np.cos(np.radians(12)), clip.name


def test_generate_depends_on_seed_and_index_only():
    few, many = list(generate(6, seed=11)), list(generate(9, seed=11))
    other = list(generate(6, seed=12))
    for a, b in zip(few, many, strict=False):
        assert np.array_equal(a.joints, b.joints)
        assert (a.name, a.captions, a.actions, a.split) == (b.name, b.captions, b.actions, b.split)
    assert not any(
        a.joints.shape == b.joints.shape and np.allclose(a.joints, b.joints) for a, b in zip(few, other, strict=True)
    )
    assert len({clip.name for clip in many}) == 9


def test_counts_and_sides_are_in_the_joints(clips):
    checked = Counter()
    for clip in singles(clips, "raise_arm", "wave", "punch", "kick", "bow", "crouch", "jump"):
        facts = clip.actions[0]
        side = facts.get("side", "")
        for hand in ("left", "right"):
            expected = facts["count"] if side in (hand, "both", "") else 0
            assert repetitions(clip.joints, facts["action"], hand) == expected, (clip.name, facts, hand)
        if side in SIGN:  # control: in the mirror the other hand does it
            assert repetitions(mirrored(clip.joints), facts["action"], side) == 0, clip.name
        checked[facts["action"]] += 1
    assert min(checked.values()) > 5
    assert len(checked) == 7


def test_held_limbs_are_the_named_ones(clips):
    for clip in singles(clips, "lift_arm", "lower_arm", "one_leg"):
        facts, frame = clip.actions[0], {"lift_arm": -1, "lower_arm": 0, "one_leg": len(clip.joints) // 2}
        pose = clip.joints[frame[facts["action"]]]
        for side in ("left", "right"):
            if facts["action"] == "one_leg":
                up = pose[J[f"{side}_ankle"], 1] > 0.2
            else:
                up = pose[J[f"{side}_wrist"], 1] > pose[J[f"{side}_shoulder"], 1] - 0.15
            assert up == (facts["side"] in (side, "both")), (clip.name, side)
        if "height" in facts:
            limb = "left" if facts["side"] == "both" else facts["side"]
            over = pose[J[f"{limb}_wrist"], 1] > pose[J["head"], 1]
            assert over == (facts["height"] == "overhead"), clip.name


def test_displacement_and_turn_have_the_named_direction(clips):
    def moved(joints: np.ndarray) -> tuple[float, float]:
        return float(joints[-1, 0, 2]), float(joints[-1, 0, 0])

    for clip in singles(clips, "walk", "run", "sidestep", "jump"):
        facts = clip.actions[0]
        if "path" in facts:
            continue
        ahead, left = moved(clip.joints)
        along = {"forward": ahead, "backward": -ahead, "left": left, "right": -left, "up": 1.0}[facts["direction"]]
        assert along > 0.3, clip.name
        if facts["direction"] in SIGN:
            assert moved(mirrored(clip.joints))[1] * SIGN[facts["direction"]] < 0
        if facts["direction"] == "up":
            assert np.hypot(ahead, left) < 0.1
    turned = [c for c in clips if len(c.actions) == 1 and "angle_deg" in c.actions[0]]
    assert len(turned) > 50
    for clip in turned:
        facts = clip.actions[0]
        angle, named = yaw_of(clip.joints)[-1], SIGN[facts["side"]] * facts["angle_deg"]
        assert abs(angle - named) < 10, (clip.name, angle, named)
        assert abs(angle - facts["turned_deg"]) < 6
        assert abs(yaw_of(mirrored(clip.joints))[-1] - named) > 60


def test_speeds_differ_clearly_between_words(clips):
    pace: dict[tuple, list[float]] = {}
    for clip in singles(clips, "walk", "run", "sidestep", "wave", "turn", "raise_arm"):
        facts = clip.actions[0]
        if "speed_mps" in facts:
            kind = (facts["action"], facts["direction"] if facts["direction"] == "backward" else "")
            root = clip.joints[:, 0][:, [0, 2]]
            step = np.linalg.norm(np.diff(root, axis=0), axis=-1) * FPS
            value = float(np.percentile(step, 75))
        else:
            kind = (facts["action"], facts.get("height"), facts.get("count"), facts.get("angle_deg"))
            value = 1 / (facts["end"] - facts["start"])
        pace.setdefault((kind, facts["speed"]), []).append(value)
    kinds = {kind for kind, _ in pace}
    compared = 0
    for kind, (slower, faster) in itertools.product(kinds, (("slow", "normal"), ("normal", "fast"))):
        if (kind, slower) in pace and (kind, faster) in pace:
            assert max(pace[kind, slower]) < min(pace[kind, faster]), (kind, slower, faster)
            compared += 1
    assert compared > 15
    assert min(pace[("run", ""), "slow"]) > max(pace[("walk", ""), "fast"])


def test_sequences_have_their_actions_in_order(clips):
    sequences = [clip for clip in clips if len(clip.actions) > 1]
    pairs = Counter((c.actions[0]["action"], c.actions[1]["action"]) for c in sequences)
    assert sum(1 for a, b in pairs if (b, a) in pairs and a != b) > 10  # the reverse order occurs as well
    for clip in sequences:
        for first, second in itertools.pairwise(clip.actions):
            assert first["end"] <= second["start"] + 4
        for facts in clip.actions:
            if facts["action"] in ("wave", "raise_arm", "punch", "kick") and facts["side"] in SIGN:
                part = clip.joints[max(facts["start"] - 1, 0) : facts["end"] + 2]
                assert repetitions(part, facts["action"], facts["side"]) == facts["count"], (clip.name, facts)


TIMES = {"once": 1, "one time": 1, "twice": 2, "two times": 2, "three times": 3}
NUMBERS = {"one": 1, "a single": 1, "two": 2, "three": 3}
NOUNS = r"(?:quick |slow |high |low |deep |slight |shallow )*(?:waves?|punch(?:es)?|bows?|squats?|jumps?|kicks?)\b"


def counts_in(caption: str) -> list[int]:
    found = [TIMES[word] for word in re.findall(r"\b(once|one time|twice|two times|three times)\b", caption)]
    return found + [NUMBERS[word] for word in re.findall(rf"\b(one|a single|two|three) {NOUNS}", caption)]


def test_captions_say_what_the_actions_say(clips):
    for clip in clips:
        assert len(clip.captions) in (3, 4)
        assert len(set(clip.captions)) == len(clip.captions)
        for caption in clip.captions:
            assert caption == caption.lower()
            assert "{" not in caption
            assert "<" not in caption
            assert "  " not in caption
            sides = set(re.findall(r"\b(left|right)\b", caption))
            if any(facts["action"] == "one_leg" for facts in clip.actions):
                continue  # names both legs
            true_sides = {facts.get(key) for facts in clip.actions for key in ("side", "direction")} & {"left", "right"}
            assert sides <= true_sides, caption
            true_counts = [facts["count"] for facts in clip.actions if "count" in facts]
            assert not Counter(counts_in(caption)) - Counter(true_counts), (caption, true_counts)
            directions = {facts.get("direction") for facts in clip.actions}
            assert "backward" not in caption or "backward" in directions, caption
            speeds = {facts.get("speed") for facts in clip.actions}
            assert not re.search(r"\b(slow|slowly)\b", caption) or "slow" in speeds, caption
            assert not re.search(r"\b(fast|quick|quickly|rapidly)\b", caption) or "fast" in speeds, caption
            angles = {str(facts["angle_deg"]) for facts in clip.actions if "angle_deg" in facts}
            assert set(re.findall(r"\d+", caption)) <= angles, caption


def test_captions_mostly_name_every_attribute(clips):
    for clip in singles(clips, "wave", "punch", "raise_arm", "kick", "sidestep", "turn"):
        facts = clip.actions[0]
        named = 0
        for caption in clip.captions:
            side = facts.get("side", facts.get("direction"))
            complete = bool(re.search(rf"\b{side}\b", caption))
            complete &= "count" not in facts or counts_in(caption) == [facts["count"]]
            slow, fast = (re.search(word, caption) for word in (r"\bslow", r"\b(fast|quick|rapid)"))
            complete &= {"slow": bool(slow), "fast": bool(fast), "normal": True}[facts["speed"]]
            named += complete
        assert named >= min(3, len(clip.captions)), clip.captions


def test_pools_contain_minimal_pairs(clips):
    """In 32 clips, several pairs share the action and differ in a single attribute."""
    alone = [clip.actions[0] for clip in clips if len(clip.actions) == 1]
    pairs = []
    for start in range(0, len(alone) - 32, 32):
        pool = alone[start : start + 32]
        pairs.append(
            sum(
                a["action"] == b["action"] and sum(a.get(key) != b.get(key) for key in ATTRIBUTES) == 1
                for a, b in itertools.combinations(pool, 2)
            )
        )
    assert np.mean(pairs) > 6


def test_splits_have_the_requested_shares(clips):
    share = {split: n / CLIPS for split, n in Counter(clip.split for clip in clips).items()}
    assert share == pytest.approx({"train": 0.75, "val": 0.08, "test": 0.17}, abs=0.04)
    unseen = [clip for clip in clips if clip.actions[0].get("unseen_combination")]
    assert 0.03 < len(unseen) / CLIPS < 0.09
    assert all(clip.split == "test" for clip in unseen)
    assert not any(is_held_out(clip.actions) for clip in clips if clip.split != "test")


def test_families_have_their_shares_and_json_facts(clips):
    share = Counter(clip.name.rsplit("_", 1)[0] for clip in clips)
    assert 0.10 < share["sequence"] / CLIPS < 0.20
    arms = sum(share[name] for name in ("raise_arm", "lift_arm", "lower_arm", "wave", "punch"))
    assert 0.29 < arms / CLIPS < 0.42
    locomotion = sum(share[name] for name in ("walk", "run", "sidestep", "turn"))
    assert 0.29 < locomotion / CLIPS < 0.42
    for clip in clips:
        assert json.loads(json.dumps(clip.actions)) == [dict(facts) for facts in clip.actions]
