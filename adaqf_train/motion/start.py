"""Find a rest pose at the start of a clip: one that the body leaves at once, or that fades into the motion."""

from __future__ import annotations

import numpy as np

from adaqf_train.motion.skeleton import HUMANML3D, Skeleton, landmarks

START = (10, 0.5)  # frames, and seconds from a T-pose or an A-pose, in which a rest pose at the start is looked for
MOVED = 0.08  # metres, mean over the joints, from a rest pose to the motion
CALMER = (3.0, 1.9)  # ratios of the mean and of the least step towards the motion to the largest that follows
CALMER_T = (1.6, 1.3)  # likewise from a T-pose or an A-pose
STEADY = 6  # frames after the start that are compared
LEAVING = 1.25  # m/s, mean over the joints, from a rest pose; real starts stay below 0.8, procedural ones below 1.1
LEAVING_T = 0.4  # m/s, likewise from a T-pose or an A-pose
FADING = 0.12  # m/s, mean over the joints, of a slow fade from a rest pose, which begins suddenly
STILL = 0.01  # m/s, likewise of a rest pose that is held
STRAIGHT = 0.5  # change of the moves from frame to frame within a fade, relative to their size
SYMMETRIC = 0.04  # metres between a rest pose and its mirror image


def frames_before_motion(joints: np.ndarray, fps: float, skeleton: Skeleton = HUMANML3D) -> int:
    """The number of frames of a rest pose, and of the way from it to the motion, at the start; 0 without one.

    joints: (T, J, 3), scaled to legs of LEG metres.
    """
    if len(joints) < 5:
        return 0
    most = max(START[0], round(START[1] * fps))
    relative = joints[: most + STEADY + 1] - joints[: most + STEADY + 1, :1]
    moves = np.diff(relative, axis=0)
    steps = np.linalg.norm(moves, axis=-1).mean(axis=-1)
    at_rest = _is_rest_pose(joints[0], skeleton)
    if at_rest and (faded := _faded(moves, steps, fps)):
        return faded
    quickest, calmer = (LEAVING_T, CALMER_T) if at_rest else (LEAVING, CALMER)
    for skip in range(min(most if at_rest else START[0], len(steps) - 3), 0, -1):
        after = steps[skip : skip + STEADY].max()
        moving = steps[:skip] > calmer[1] * after  # still frames of a held rest pose may come first
        first = int(moving.argmax())
        leaving = steps[first:skip]
        far = leaving.sum() > MOVED and leaving.mean() > max(calmer[0] * after, quickest / fps)
        if moving[first:].all() and far:
            return skip
    return 0


def _faded(moves: np.ndarray, steps: np.ndarray, fps: float) -> int:
    """The number of frames of a slow fade from a rest pose: it begins at full speed, and ends with a bend of the path.

    moves: (T, J, 3) from frame to frame. steps: (T,) their mean lengths.
    """
    first = int((steps > FADING / fps).argmax())
    if not steps[first] > FADING / fps or steps[:first].max(initial=0) > STILL / fps:
        return 0
    bends = np.linalg.norm(np.diff(moves[first:], axis=0), axis=-1).mean(axis=-1) / steps[first:-1]
    if not len(bends) or bends[:2].max(initial=0) > STRAIGHT:
        return 0
    end = first + 1 + int((bends > STRAIGHT).argmax())
    return end if bends.max() > STRAIGHT and steps[first:end].sum() > MOVED else 0


def _is_rest_pose(pose: np.ndarray, skeleton: Skeleton) -> bool:
    """Whether a pose (J, 3) is a T-pose or an A-pose: symmetric, with straight arms away from the body."""
    at = landmarks(skeleton)
    shoulders = (skeleton.left_shoulder, skeleton.right_shoulder)
    across = unit_vectors(pose[at.hips[0]] - pose[at.hips[1]] + pose[shoulders[0]] - pose[shoulders[1]])
    relative = pose - pose[at.root]
    image = (relative - 2 * (relative @ across)[:, None] * across)[list(skeleton.mirrored)]
    if np.linalg.norm(image - relative, axis=-1).max() > SYMMETRIC:
        return False
    arms = [next(c for c in skeleton.chains if shoulder in c) for shoulder in shoulders]
    for arm, shoulder, side in zip(arms, shoulders, (1, -1), strict=True):
        elbow, hand = arm[arm.index(shoulder) + 1], arm[-1]
        upper, whole = unit_vectors(pose[elbow] - pose[shoulder]), unit_vectors(pose[hand] - pose[shoulder])
        if upper @ whole < 0.98 or side * (whole @ across) < 0.5:
            return False
    return True


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """Unit vectors (..., 3); zero where a vector has no length."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
