"""The simple body that an exported skeleton carries: the page's flesh as skinned surfaces."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from adaqf_train.motion.skeleton import Skeleton
from adaqf_train.render.flesh import LEG, body

SUBDIVISIONS = 2  # of an icosahedron: 162 vertices a part look round at any size, and keep a file near 150 kB


@dataclass(frozen=True)
class Surface:
    """Triangles of one tone, each vertex bound to one joint."""

    tone: str  # "body", "left" or "right"
    points: np.ndarray  # (V, 3) metres, in the T-pose
    normals: np.ndarray  # (V, 3) unit
    joints: np.ndarray  # (V,) the joint whose rotation moves the vertex
    triangles: np.ndarray  # (F, 3) vertex indices, anticlockwise from outside


def surfaces(skeleton: Skeleton, pose: np.ndarray) -> list[Surface]:
    """The body around a T-pose (J, 3), metres, that faces +Z: one surface for each tone.

    A part is the convex hull of balls. Its outermost point in a direction d lies on the ball with the largest
    c·d + r, at c + r d, where the normal is d: a sphere's directions give the hull's points, its triangles join them.
    """
    directions, triangles = sphere(SUBDIVISIONS)
    knee, ankle = skeleton.leg
    chain = [skeleton.parents[knee], knee, ankle]
    size = float(np.linalg.norm(np.diff(pose[chain], axis=0), axis=1).sum()) / LEG
    pieces: dict[str, list[tuple[np.ndarray, ...]]] = {}
    for part in body(skeleton)["parts"]:
        balls = part["balls"]
        ahead = size * np.array([(0, 0, ball["ahead"]) for ball in balls])
        centres = np.array([sum(w * pose[j] for j, w in ball["of"]) for ball in balls]) + ahead
        radii = size * np.array([ball["radius"] for ball in balls])
        outermost = (directions @ centres.T + radii).argmax(axis=1)
        points = centres[outermost] + radii[outermost, None] * directions
        bound = np.array(_bones(balls, part["tone"], skeleton))[outermost]
        pieces.setdefault(part["tone"], []).append((points, directions, bound))
    result = []
    for tone, parts in pieces.items():
        points, normals, joints = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        faces = np.concatenate([triangles + len(directions) * part for part in range(len(parts))])
        result.append(Surface(tone, points, normals, joints, faces))
    return result


def _bones(balls: list[dict], tone: str, skeleton: Skeleton) -> list[int]:
    """The joint that each ball of a part turns with.

    A limb is stiff: it turns with the joint it begins at. A ball of the trunk goes where its joint goes and turns with
    what carries it, the joint above: the chest must not be wrung by an arm.
    """
    nearest = [max(ball["of"], key=lambda share: share[1])[0] for ball in balls]
    if tone == "body":
        return [max(skeleton.parents[joint], 0) for joint in nearest]
    first = min(nearest, key=lambda joint: _depth(joint, skeleton))
    return [first] * len(balls)


def _depth(joint: int, skeleton: Skeleton) -> int:
    return 0 if joint == 0 else 1 + _depth(skeleton.parents[joint], skeleton)


@lru_cache
def sphere(subdivisions: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (V, 3) and triangles (F, 3), anticlockwise from outside, of a subdivided icosahedron."""
    golden = (1 + 5**0.5) / 2
    corners = [(a, b * golden, 0) for a in (-1, 1) for b in (-1, 1)]
    points = [point[-shift:] + point[:-shift] for shift in range(3) for point in corners]
    points = [np.array(point) / np.linalg.norm(point) for point in points]
    edge = min(float(np.linalg.norm(points[0] - other)) for other in points[1:])
    near = [[float(np.linalg.norm(p - q)) < 1.1 * edge and p is not q for q in points] for p in points]
    triangles = []
    for a in range(12):
        for b in range(a + 1, 12):
            for c in range(b + 1, 12):
                if near[a][b] and near[b][c] and near[a][c]:
                    outside = np.linalg.det([points[a], points[b], points[c]]) > 0
                    triangles.append((a, b, c) if outside else (a, c, b))
    for _ in range(subdivisions):
        middles: dict[tuple[int, int], int] = {}

        def middle(a: int, b: int, middles: dict[tuple[int, int], int] = middles) -> int:
            key = (min(a, b), max(a, b))
            if key not in middles:
                middles[key] = len(points)
                points.append((points[a] + points[b]) / np.linalg.norm(points[a] + points[b]))
            return middles[key]

        split = []
        for a, b, c in triangles:
            ab, bc, ca = middle(a, b), middle(b, c), middle(c, a)
            split += [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
        triangles = split
    return np.array(points), np.array(triangles)
