"""The motion representation written out frame by frame: what `adaqf_train.motion.features` is tested against.

One quaternion, one bone, one frame at a time, in the order of the official pipeline (Guo et al. 2022) with its quirks;
nothing is shared with the package but the skeletons' tables. Slow on purpose: read it beside the vectorised one, and
time that one against it (`benchmarks/motion.py`). The keyword arguments of `encode` break one rule each, for
controls.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import gaussian_filter1d

from adaqf_train.motion.skeleton import Skeleton, skeleton_of, skeleton_of_width

UP, AHEAD, IDENTITY = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0, 0.0])


def encode(
    joints: np.ndarray, *, swapped_hips: bool = True, threshold: float | None = None, smooth: bool = True
) -> np.ndarray:
    """Joint positions (T, J, 3) -> features (T-1, 263 | 251), the whole pipeline.

    swapped_hips: the official sign of the hip line in the forward direction. threshold: squared displacement of a
    foot in contact; None: the skeleton's. smooth: the Gaussian along the forward directions.
    """
    skeleton = skeleton_of(joints.shape[1])
    joints = canonicalise(np.asarray(joints, dtype=np.float64), skeleton)
    heading = headings(joints, skeleton, swapped_hips=swapped_hips, smooth=smooth)
    limit = skeleton.contact_threshold if threshold is None else threshold
    return np.stack([row(joints, heading, t, skeleton, limit) for t in range(len(joints) - 1)])


def row(joints: np.ndarray, heading: list[np.ndarray], t: int, skeleton: Skeleton, threshold: float) -> np.ndarray:
    """The features of frame t: where the body is, and how it gets to frame t + 1."""
    now, later = joints[t], joints[t + 1]
    turn = multiply(heading[t + 1], inverse(heading[t]))
    step = rotate(heading[t + 1], later[0] - now[0])  # in the frame it leads to
    values = [math.asin(min(1.0, max(-1.0, turn[2]))), step[0], step[2], now[0][1]]
    ground = np.array([now[0][0], 0.0, now[0][2]])
    for joint in range(1, len(skeleton)):
        values.extend(rotate(heading[t], now[joint] - ground))
    rotations = joint_rotations(now, heading[t], skeleton)
    for joint in range(1, len(skeleton)):
        values.extend(rotate(rotations[joint], np.array([1.0, 0.0, 0.0])))  # column 0 of its matrix
        values.extend(rotate(rotations[joint], np.array([0.0, 1.0, 0.0])))  # column 1
    for joint in range(len(skeleton)):
        values.extend(rotate(heading[t], later[joint] - now[joint]))
    for foot in (*skeleton.left_foot, *skeleton.right_foot):
        moved = later[foot] - now[foot]
        values.append(float(moved @ moved < threshold))
    return np.array(values)


def decode(features: np.ndarray) -> np.ndarray:
    """Features (N, 263 | 251) -> joint positions (N, J, 3)."""
    features = np.asarray(features, dtype=np.float64)
    skeleton = skeleton_of_width(features.shape[1])
    angle, x, z = 0.0, 0.0, 0.0
    frames = []
    for t, values in enumerate(features):
        if t:
            angle += features[t - 1, 0]
        back = np.array([math.cos(angle), 0.0, -math.sin(angle), 0.0])  # the inverse of the rotation to +Z
        if t:
            step = rotate(back, np.array([features[t - 1, 1], 0.0, features[t - 1, 2]]))
            x, z = x + step[0], z + step[2]
        pose = [np.array([x, values[3], z])]
        for joint in range(1, len(skeleton)):
            local = values[4 + 3 * (joint - 1) : 4 + 3 * joint]
            pose.append(rotate(back, local) + np.array([x, 0.0, z]))
        frames.append(np.stack(pose))
    return np.stack(frames)


def canonicalise(joints: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Standard bones (of 22 joints), lowest point at 0, frame 0 over the origin and facing +Z. (T, J, 3) -> same."""
    frames = [frame.copy() for frame in joints]
    if skeleton.bone_lengths is not None:
        frames = uniform_skeleton(frames, skeleton)
    floor = min(float(point[1]) for frame in frames for point in frame)
    start = frames[0][0] * [1.0, 0.0, 1.0] + [0.0, floor, 0.0]
    frames = [frame - start for frame in frames]
    first = frames[0]
    hips = first[skeleton.right_hip] - first[skeleton.left_hip]  # here the right way round
    shoulders = first[skeleton.right_shoulder] - first[skeleton.left_shoulder]
    turn = between(unit(cross(UP, unit(hips + shoulders))), AHEAD)
    return np.stack([np.stack([rotate(turn, point) for point in frame]) for frame in frames])


def uniform_skeleton(frames: list[np.ndarray], skeleton: Skeleton) -> list[np.ndarray]:
    """Solves every frame's rotations and applies them to the standard bones; the root's path scales with the legs."""
    lengths = (0.0, *skeleton.bone_lengths)
    thigh, shank = skeleton.leg
    source = sum(float(np.linalg.norm(frames[0][j] - frames[0][skeleton.parents[j]])) for j in (thigh, shank))
    scale = (lengths[thigh] + lengths[shank]) / source
    result = []
    for frame in frames:
        local = joint_rotations(frame, IDENTITY, skeleton)
        pose = [frame[0] * scale, *[np.zeros(3)] * (len(skeleton) - 1)]
        for chain in skeleton.chains:
            rotation = IDENTITY
            for k in range(1, len(chain)):
                rotation = multiply(rotation, local[chain[k]])
                bone = lengths[chain[k]] * np.array(skeleton.rest_directions[chain[k]], dtype=np.float64)
                pose[chain[k]] = pose[chain[k - 1]] + rotate(rotation, bone)
        result.append(np.stack(pose))
    return result


def headings(joints: np.ndarray, skeleton: Skeleton, *, swapped_hips: bool, smooth: bool) -> list[np.ndarray]:
    """Rotation of each frame that turns the body to face +Z; frame 0's is the identity by decree."""
    ahead = []
    for frame in joints:
        hips = frame[skeleton.left_hip] - frame[skeleton.right_hip]
        shoulders = frame[skeleton.right_shoulder] - frame[skeleton.left_shoulder]
        ahead.append(cross(UP, unit((hips if swapped_hips else -hips) + shoulders)))
    if smooth:
        ahead = list(gaussian_filter1d(np.stack(ahead), 20, axis=0, mode="nearest"))
    rotations = [between(unit(direction), AHEAD) for direction in ahead]
    rotations[0] = IDENTITY
    return rotations


def joint_rotations(frame: np.ndarray, root: np.ndarray, skeleton: Skeleton) -> dict[int, np.ndarray]:
    """Rotation of each joint relative to the one before it in its chain; each chain starts from the root's."""
    found = {0: root}
    for chain in skeleton.chains:
        before = root
        for k in range(1, len(chain)):
            rest = np.array(skeleton.rest_directions[chain[k]], dtype=np.float64)
            own = between(rest, unit(frame[chain[k]] - frame[chain[k - 1]]))
            found[chain[k]] = multiply(inverse(before), own)
            before = multiply(before, found[chain[k]])
    return found


def unit(v: np.ndarray) -> np.ndarray:
    return v / math.sqrt(v @ v)


def between(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Shortest rotation from unit vector u to unit vector v."""
    return unit(np.array([1.0 + u @ v, *cross(u, v)]))


def multiply(q: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Hamilton product, (w, x, y, z)."""
    a, b, c, d = q
    e, f, g, h = r
    return np.array(
        [
            a * e - b * f - c * g - d * h,
            a * f + b * e + c * h - d * g,
            a * g - b * h + c * e + d * f,
            a * h + b * g - c * f + d * e,
        ]
    )


def inverse(q: np.ndarray) -> np.ndarray:
    return q * [1.0, -1.0, -1.0, -1.0]


def rotate(q: np.ndarray, v: np.ndarray) -> np.ndarray:
    w, axis = q[0], q[1:]
    across = cross(axis, v)
    return v + 2.0 * (w * across + cross(axis, across))


def cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """numpy.cross, without what that spends on three numbers."""
    return np.array([u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]])
