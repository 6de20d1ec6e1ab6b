"""Physical measures: of bodies whose figures are known, and against definitions written out as loops."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.signal import find_peaks

from adaqf_train.motion import physics
from adaqf_train.motion.physics import NamedBody, bone_lengths, travelling_speed
from adaqf_train.motion.skeleton import HUMANML3D, KIT, Skeleton

SKELETONS = pytest.mark.parametrize("skeleton", [HUMANML3D, KIT], ids=lambda skeleton: skeleton.name)


def moving(skeleton: Skeleton, lengths: np.ndarray, speed: float, frames: int = 30) -> np.ndarray:
    """A stiff body with these bones that moves along a diagonal of the floor at `speed` m/s: (frames, J, 3)."""
    directions = torch.tensor(skeleton.rest_directions[1:], dtype=torch.float64)
    pose = skeleton.pose_from_directions(torch.zeros(3, dtype=torch.float64), directions, torch.from_numpy(lengths))
    step = speed * skeleton.units_per_metre / skeleton.fps * np.array([0.6, 0.0, 0.8])
    return pose.numpy() + np.arange(frames)[:, None, None] * step


@SKELETONS
def test_bone_lengths_ignore_a_wild_frame(skeleton):
    lengths = np.linspace(0.1, 0.5, len(skeleton) - 1)
    joints = moving(skeleton, lengths, speed=1.0)
    assert np.abs(bone_lengths(joints, skeleton) - lengths).max() < 1e-9
    joints[7] *= 50
    assert np.abs(bone_lengths(joints, skeleton) - lengths).max() < 1e-9
    assert np.abs(bone_lengths(2 * joints, skeleton) - lengths).max() > 0.1  # control


@SKELETONS
@pytest.mark.parametrize("speed", [0.0, 1.3])
def test_travelling_speed_is_in_metres_per_second_along_the_floor(skeleton, speed):
    joints = moving(skeleton, np.full(len(skeleton) - 1, 0.3), speed)
    joints[:, :, 1] += np.arange(len(joints))[:, None]  # rising is not travelling
    assert travelling_speed(joints, skeleton) == pytest.approx(speed, abs=1e-9)


def shuffling(skeleton: Skeleton, seed: int, frames: int = 80) -> np.ndarray:
    """A body whose toes slide, lift, drag and sink at random around the floor, in the skeleton's units."""
    rng = np.random.default_rng(seed)
    smooth = np.cumsum(rng.normal(0, 0.008, (frames, len(skeleton), 3)), axis=0)
    root = np.cumsum(rng.normal(0.01, 0.01, (frames, 1, 3)), axis=0) * [1, 0.1, 1]
    joints = smooth + root + rng.uniform(0.3, 1.5, (1, len(skeleton), 3))
    for toe in skeleton.toes:
        joints[:, toe, 1] = 0.05 + 0.07 * np.sin(np.arange(frames) / rng.uniform(3, 9) + rng.uniform(0, 6))
        still = rng.random(frames) < 0.7  # stretches of rest between steps
        joints[1:, toe, [0]] = np.cumsum(np.where(still[1:, None], 0.004, 0.05), axis=0)
    return joints * skeleton.units_per_metre


def norm(vector) -> float:
    return math.sqrt(sum(float(x) ** 2 for x in vector))


class ByLoops:
    """The published definitions, frame by frame, in metres; each threshold can be moved."""

    def __init__(self, joints, skeleton, **thresholds):
        limits = {"high": 0.05, "fast": 0.2, "step": 0.01, "low": 0.02, "deep": 0.005, "rates": (0.6, 1.75)}
        self.limits = limits | thresholds
        self.clip, self.fps = joints / skeleton.units_per_metre, skeleton.fps
        self.feet = [[frame[toe] for frame in self.clip] for toe in skeleton.toes]
        self.root = [frame[0] for frame in self.clip]
        self.frames, self.parents = len(self.clip), skeleton.parents

    @staticmethod
    def steps(points):
        moved = [after - before for before, after in itertools.pairwise(points)]
        return [*moved, moved[-1]]

    def skating_kimodo(self):
        pairs = [(a, b) for foot in self.feet for a, b in itertools.pairwise(foot)]
        low = [(a, b) for a, b in pairs if a[1] < self.limits["high"] and b[1] < self.limits["high"]]
        return sum(norm(b - a) * self.fps > self.limits["fast"] for a, b in low) / len(low)

    def toe_speed(self):
        pairs = [(a, b) for foot in self.feet for a, b in itertools.pairwise(foot)]
        speeds = [norm(b - a) * self.fps for a, b in pairs if a[1] < self.limits["high"]]
        return sum(speeds) / len(speeds)

    def touching(self):
        floor = min(point[1] for foot in self.feet for point in foot)
        return [
            [
                norm(step) < self.limits["step"] or point[1] - floor < self.limits["low"]
                for point, step in zip(foot, self.steps(foot), strict=True)
            ]
            for foot in self.feet
        ]

    def contact(self):
        return sum(map(sum, self.touching())) / (2 * self.frames)

    def slide_mm(self):
        means = []
        for foot, touching in zip(self.feet, self.touching(), strict=True):
            own = [1000 * math.hypot(s[0], s[2]) for s, on in zip(self.steps(foot), touching, strict=True) if on]
            means.append(sum(own) / len(own))
        return sum(means) / 2

    def _changes(self, points, order):
        for _ in range(order):
            points = [b - a for a, b in itertools.pairwise(points)]
        sizes = [norm(joint) for frame in points for joint in frame]
        return 1000 * sum(sizes) / len(sizes)

    def jitter_mm(self):
        return self._changes(list(self.clip), 2) + self._changes([frame - frame[0] for frame in self.clip], 2)

    def dynamic_mm(self):
        return self._changes(list(self.clip), 1) + self._changes([frame - frame[0] for frame in self.clip], 1)

    def deep_penetration_mm(self):
        depths = [-1000 * p[1] for foot in self.feet for p in foot if p[1] < -self.limits["deep"]]
        return sum(depths) / len(depths) if depths else 0.0

    def bone_change(self):
        changes = []
        for joint, parent in enumerate(self.parents):
            if parent >= 0:
                lengths = [norm(frame[joint] - frame[parent]) for frame in self.clip]
                ordered = sorted(lengths)
                middle = (ordered[(self.frames - 1) // 2] + ordered[self.frames // 2]) / 2
                changes += [abs(length - middle) / middle for length in lengths]
        return 100 * sum(changes) / len(changes)

    def floating_share(self):
        touching, pace = self.touching(), [norm(step) for step in self.steps(self.root)]
        own = [self.steps([p - r for p, r in zip(foot, self.root, strict=True)]) for foot in self.feet]
        rate = [[norm(s) / (p + 1e-6) for s, p in zip(steps, pace, strict=True)] for steps in own]
        goes = [[norm(s) > 1.2e-4 for s in self.steps(foot)] for foot in self.feet]
        low, high = self.limits["rates"]
        count = 0.0
        for f in range(self.frames):
            on = [foot for foot in (0, 1) if touching[foot][f]]
            wrong = [goes[foot][f] and (rate[foot][f] < low or rate[foot][f] > high) for foot in on]
            count += pace[f] >= 1e-3 and bool(on) and all(wrong)
        for foot in (0, 1):
            for run in self._stretches([not on for on in touching[foot]]):
                if sum(pace[f] < 1e-3 for f in run) / len(run) <= 0.5:
                    count += sum(rate[foot][f] < low - 0.2 for f in run) / 2
        for run in self._stretches([not (a or b) for a, b in zip(*touching, strict=True)]):
            ways = [self.feet[0][f] - self.feet[0][run[0]] for f in run[1:]]
            units = [way / (norm(way) + 1e-6) for way in ways]
            angles = [math.degrees(math.acos(max(-1.0, min(1.0, float(u @ units[-1]))))) for u in units]
            count += len(run) if len(find_peaks(angles)[0]) > 2 else 0
        return count / self.frames

    @staticmethod
    def _stretches(chosen):
        found, run = [], []
        for frame, yes in enumerate([*chosen, False]):
            if yes:
                run.append(frame)
            else:
                found += [run] if len(run) >= 4 else []
                run = []
        return found


REFERENCED = [name for name in dir(ByLoops) if name in physics.MEASURES]


@SKELETONS
@pytest.mark.parametrize("name", REFERENCED)
def test_measure_equals_its_definition(skeleton, name):
    found, expected = [], []
    for seed in range(4):
        joints = shuffling(skeleton, seed)
        found.append(physics.MEASURES[name](joints, skeleton))
        expected.append(getattr(ByLoops(joints, skeleton), name)())
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert max(expected) > 0  # the motions exercise it


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("skating_kimodo", {"fast": 0.5}),
        ("skating_kimodo", {"high": 0.1}),
        ("toe_speed", {"high": 0.02}),
        ("contact", {"step": 0.02}),
        ("contact", {"low": 0.05}),
        ("slide_mm", {"low": 0.05}),
        ("deep_penetration_mm", {"deep": 0.015}),
        ("floating_share", {"rates": (0.9, 1.2)}),
    ],
)
def test_measure_has_the_published_threshold(name, wrong):
    joints = shuffling(HUMANML3D, 1)
    assert physics.MEASURES[name](joints, HUMANML3D) == pytest.approx(getattr(ByLoops(joints, HUMANML3D), name)())
    moved = getattr(ByLoops(joints, HUMANML3D, **wrong), name)()
    assert abs(physics.MEASURES[name](joints, HUMANML3D) - moved) > 1e-3 * abs(moved)


@SKELETONS
@pytest.mark.parametrize("name", physics.MEASURES)
def test_measure_needs_the_clip_cut_to_its_length(skeleton, name):
    """Padding changes every figure: a clip without a mask of its length is measured wrongly."""
    joints = shuffling(skeleton, 0)
    padding = np.repeat(joints[:1], 60, axis=0) + np.arange(1, 61)[:, None, None] * 0.04 * skeleton.units_per_metre
    padding[:, :, 1] = np.linspace(-0.3, 0.3, 60)[:, None] * skeleton.units_per_metre
    measure = physics.MEASURES[name]
    if name == "skating":  # the padding's toes cross the floor too fast for the window of the mean
        padding[:, :, 1] = 0
    padded = np.concatenate([joints, padding])
    assert measure(padded[: len(joints)], skeleton) == measure(joints, skeleton)
    assert measure(padded, skeleton) != pytest.approx(measure(joints, skeleton), rel=1e-3)


@SKELETONS
def test_measures_of_a_stiff_body_are_known(skeleton):
    """A body that glides at 1 m/s with flat feet, 10 mm too deep: every figure can be worked out by hand."""
    lengths = np.full(len(skeleton) - 1, 0.3 * skeleton.units_per_metre)
    joints = moving(skeleton, lengths, speed=1.0)
    toes = list(skeleton.toes)
    joints[..., 1] -= joints[..., 1].min()
    joints[:, toes, 1] = -0.01 * skeleton.units_per_metre
    found = {name: measure(joints, skeleton) for name, measure in physics.MEASURES.items()}
    step = 1000 / skeleton.fps
    assert found["skating_kimodo"] == 1
    assert found["toe_speed"] == pytest.approx(1)
    assert (found["contact"], found["floating_share"]) == (1, 1)  # the toes rest relative to the root: dragged along
    assert found["slide_mm"] == pytest.approx(step)
    assert found["dynamic_mm"] == pytest.approx(step)
    assert found["jitter_mm"] == pytest.approx(0, abs=1e-9)
    assert found["deep_penetration_mm"] == pytest.approx(10)
    assert found["penetration_mm"] == pytest.approx(10)
    assert found["floating_mm"] == 0
    assert found["bone_change"] == pytest.approx(0, abs=1e-9)


def test_bone_change_is_the_mean_deviation_in_per_cent():
    joints = np.zeros((4, 22, 3))
    joints[:, :, 1] = np.arange(22)
    stretched = joints.copy()
    stretched[::2] *= 1.2  # half the frames 20 % longer: the median lies between, 1.1
    assert physics.bone_change(joints, HUMANML3D) == 0
    assert physics.bone_change(stretched, HUMANML3D) == pytest.approx(100 * 0.1 / 1.1)
    assert physics.bone_change(stretched / 37, HUMANML3D) == pytest.approx(100 * 0.1 / 1.1)


def test_mean_magnitudes_are_per_second():
    time = np.arange(40)[:, None, None] / HUMANML3D.fps
    falling = np.zeros((40, 22, 3)) + np.array([0.0, 4.9, 0.0]) * time**2
    rising = np.zeros((40, 22, 3)) + np.array([0.0, 0.0, 2.0]) * time**3
    assert physics.mean_magnitudes([falling], HUMANML3D)["mean_acceleration"] == pytest.approx(9.8)
    assert physics.mean_magnitudes([rising], HUMANML3D)["mean_jerk"] == pytest.approx(12.0)
    with pytest.raises(ValueError, match="at least 4 frames"):
        physics.mean_magnitudes([falling[:3]], HUMANML3D)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("LeftToeBase", "RightToeBase"),
        ("mixamorig:LeftToeBase", "mixamorig:RightToeBase"),
        ("Toes_L", "Toes_R"),
        ("lToe", "rToe"),
        ("toe.l", "toe.r"),
        ("ToeL", "ToeR"),
        ("left_ankle", "right_ankle"),
        ("ball_l", "ball_r"),
    ],
)
def test_named_body_finds_toes_by_their_names(left, right):
    names = ("Hips", "leftLeg", "rightLeg", "LeftAnkle", right, left)
    body = NamedBody(names, (-1, 0, 0, 1, 2, 3), fps=30)
    assert body.toes == (names.index("LeftAnkle") if left == "left_ankle" else 5, 4)


def test_named_body_measures_any_skeleton_like_the_standard_one():
    """The same motion, its joints in another order and in centimetres, has the same figures."""
    joints, order = shuffling(HUMANML3D, 3), [0, *range(21, 0, -1)]
    order = [0, 3, 6, 9, 12, 15, 14, 17, 19, 21, 13, 16, 18, 20, 2, 5, 8, 11, 1, 4, 7, 10]
    names = tuple(HUMANML3D.joints[j] for j in order)
    parents = tuple(order.index(HUMANML3D.parents[j]) if j else -1 for j in order)
    body = NamedBody(names, parents, fps=HUMANML3D.fps, units_per_metre=100)
    for measure in physics.MEASURES.values():
        assert measure(100 * joints[:, order], body) == pytest.approx(measure(joints, HUMANML3D))


def test_named_body_refuses_what_it_cannot_measure():
    with pytest.raises(ValueError, match="No right toe"):
        NamedBody(("hips", "left_toe"), (-1, 0), fps=20)
    with pytest.raises(ValueError, match="one parent for each joint"):
        NamedBody(("hips", "left_toe", "right_toe"), (-1, 2, 0), fps=20)
