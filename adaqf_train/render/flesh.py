"""The body that pages, pictures and exported files show: a skeleton wrapped in convex parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from adaqf_train.motion.skeleton import Skeleton

LEG = 0.82  # metres, thigh + shank of HumanML3D's target skeleton: all radii below are for this body
# Metres, of the flesh around a limb's joint.
RADII = {"hip": 0.078, "knee": 0.052, "ankle": 0.038, "midfoot": 0.034, "foot": 0.030, "toe": 0.024}
RADII |= {"shoulder": 0.052, "elbow": 0.039, "wrist": 0.029}


def body(skeleton: Skeleton) -> dict[str, Any]:
    """Describe the body around a skeleton: parts, each the convex hull of a few balls.

    `parts` are {tone: "body", "left" or "right", balls}; `feet`: [ankle, toe, side], left first; `hips`: left, right. A
    ball is `{of: [[joint, weight], ...], ahead, radius}`. Its centre is the weighted sum of joints, moved by `ahead`
    metres to where the body faces. Weights add up to 1; a weight above 1 places the ball beyond a bone's end, as for
    hands, heels and the skull. A part's first and last ball are its axis. Metres are for a body with legs of LEG.
    """
    names = [name.partition("_") for name in skeleton.joints]  # ("left", "_", "knee"); the spine has no side
    (spine,) = [chain for chain in skeleton.chains if not any(names[joint][2] for joint in chain)]
    root, _, waist, *_, neck, head = spine
    hips = skeleton.left_hip, skeleton.right_hip
    shoulders = skeleton.left_shoulder, skeleton.right_shoulder

    def ball(of: int | Mapping[int, float], radius: float, ahead: float = 0.0) -> dict[str, Any]:
        weights = of if isinstance(of, Mapping) else {of: 1.0}
        return {"of": [[joint, weight] for joint, weight in weights.items()], "radius": radius, "ahead": ahead}

    def beyond(base: int, tip: int, share: float) -> dict[int, float]:
        return {tip: 1 + share, base: -share}

    skull = ball({head: 1.3, neck: -0.16, root: -0.14}, 0.1, ahead=0.01)
    jaw = ball({head: 1.08, neck: -0.04, root: -0.04}, 0.068, ahead=0.045)
    chest = ball({waist: 0.55, neck: 0.45}, 0.115, ahead=0.015)
    nape = {neck: 0.88, waist: 0.12}  # between the shoulders, which hang far below the joint of the neck
    trunk = [
        [ball(nape, 0.06), ball(head, 0.05)],
        [jaw, skull],
        [ball(nape, 0.06), *(ball(joint, 0.053) for joint in shoulders), chest, ball(waist, 0.105)],
        [ball(waist, 0.105), *(ball(joint, 0.088) for joint in hips), ball(root, 0.1)],
    ]
    parts = [{"tone": "body", "balls": balls} for balls in trunk]
    for joint, parent in enumerate(skeleton.parents):  # a limb: a bone between two fleshy joints
        side, _, part = names[joint]
        if part in RADII and names[parent][2] in RADII:
            parts.append({"tone": side, "balls": [ball(parent, RADII[names[parent][2]]), ball(joint, RADII[part])]})
    feet = []
    for chain in skeleton.chains:
        side, _, part = names[chain[-1]]
        if part == "wrist":
            elbow, wrist = chain[-2:]
            palm, tips = ball(beyond(elbow, wrist, 0.24), 0.04), ball(beyond(elbow, wrist, 0.48), 0.026)
            parts.append({"tone": side, "balls": [ball(wrist, 0.03), palm, tips]})
        elif names[chain[1]][2] == "hip":
            knee, ankle, toe = chain[2], chain[3], chain[-1]
            heel = ball({ankle: 1.44, knee: -0.14, toe: -0.3}, 0.034)
            parts.append({"tone": side, "balls": [heel, ball(ankle, 0.036), ball(beyond(ankle, toe, 0.25), 0.026)]})
            feet.append([ankle, toe, side])
    return {"parts": parts, "feet": sorted(feet, key=lambda foot: foot[2]), "hips": hips}


def relative_size(joints: np.ndarray, skeleton: Skeleton) -> float:
    """Median leg length of a motion (T, J, 3), metres, relative to LEG."""
    knee, ankle = skeleton.leg
    chain = [skeleton.parents[knee], knee, ankle]
    return float(np.median(np.linalg.norm(np.diff(joints[:, chain], axis=1), axis=-1).sum(axis=1))) / LEG


def placed_balls(
    part: Mapping[str, Any], pose: np.ndarray, size: float, forward: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Centres (B, 3) and radii (B,) in metres of a part's balls in a pose (J, 3) that faces `forward` (3,)."""
    centres = [
        sum(weight * pose[joint] for joint, weight in ball["of"]) + size * ball["ahead"] * forward
        for ball in part["balls"]
    ]
    return np.array(centres), size * np.array([ball["radius"] for ball in part["balls"]])


def hull(centres: np.ndarray, radii: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, D) of the convex hull of balls, one for each unit direction (N, D), and the balls they lie on.

    The outermost point in a direction d lies on the ball with the largest c·d + r, at c + r d, where the normal is d.
    """
    outermost = (directions @ centres.T + radii).argmax(axis=1)
    return centres[outermost] + radii[outermost, None] * directions, outermost
