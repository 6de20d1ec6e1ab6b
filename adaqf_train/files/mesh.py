"""The simple body of an exported skeleton: the parts of `render.flesh` as skinned surfaces."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from adaqf_train.motion.skeleton import Skeleton
from adaqf_train.render.flesh import body, hull, placed_balls, relative_size

SUBDIVISIONS = 2  # of an icosahedron: 162 vertices a part look round at any size, and keep a file near 150 kB


@dataclass(frozen=True)
class Surface:
    """Triangles of one tone; each vertex is bound to one joint."""

    tone: str  # "body", "left" or "right"
    points: np.ndarray  # (V, 3) metres, in the T-pose
    normals: np.ndarray  # (V, 3) unit
    joints: np.ndarray  # (V,) the joint whose rotation moves the vertex
    triangles: np.ndarray  # (F, 3) vertex indices, anticlockwise from outside


def surfaces(skeleton: Skeleton, pose: np.ndarray) -> list[Surface]:
    """Build the body around a T-pose (J, 3), metres, that faces +Z: one surface for each tone.

    A part is the convex hull of balls. The directions of a sphere give the hull's points, its triangles join them.
    """
    directions, triangles = sphere(SUBDIVISIONS)
    size = relative_size(pose[None], skeleton)
    pieces: dict[str, list[tuple[np.ndarray, ...]]] = {}
    for part in body(skeleton)["parts"]:
        centres, radii = placed_balls(part, pose, size, np.array((0.0, 0.0, 1.0)))
        points, balls = hull(centres, radii, directions)
        bound = np.array(_bones(part["balls"], part["tone"], skeleton))[balls]
        pieces.setdefault(part["tone"], []).append((points, directions, bound))
    result = []
    for tone, parts in pieces.items():
        points, normals, joints = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        faces = np.concatenate([triangles + len(directions) * part for part in range(len(parts))])
        result.append(Surface(tone, points, normals, joints, faces))
    return result


def _bones(balls: list[dict], tone: str, skeleton: Skeleton) -> list[int]:
    """The joint whose rotation moves each ball of a part.

    A limb is rigid: it rotates with the joint where it begins. A ball of the trunk rotates with the parent of its
    joint, so that a raised arm does not twist the chest.
    """
    nearest = [max(ball["of"], key=lambda share: share[1])[0] for ball in balls]
    if tone == "body":
        return [max(skeleton.parents[joint], 0) for joint in nearest]
    return [min(nearest)] * len(balls)  # joints are numbered from the root outward


@lru_cache
def sphere(subdivisions: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (V, 3) and triangles (F, 3), anticlockwise from outside, of a subdivided icosahedron."""
    golden = (1 + 5**0.5) / 2
    corners = [(a, b * golden, 0) for a in (-1, 1) for b in (-1, 1)]
    points = [point[-shift:] + point[:-shift] for shift in range(3) for point in corners]
    points = [np.array(point) / np.linalg.norm(point) for point in points]
    edge = min(float(np.linalg.norm(points[0] - other)) for other in points[1:])
    triangles = []
    for a, b, c in itertools.combinations(range(12), 3):
        if all(np.linalg.norm(points[p] - points[q]) < 1.1 * edge for p, q in ((a, b), (b, c), (a, c))):
            outside = np.linalg.det([points[a], points[b], points[c]]) > 0
            triangles.append((a, b, c) if outside else (a, c, b))
    middles: dict[frozenset[int], int] = {}

    def middle(a: int, b: int) -> int:
        if frozenset((a, b)) not in middles:
            middles[frozenset((a, b))] = len(points)
            points.append((points[a] + points[b]) / np.linalg.norm(points[a] + points[b]))
        return middles[frozenset((a, b))]

    for _ in range(subdivisions):
        split = []
        for a, b, c in triangles:
            ab, bc, ca = middle(a, b), middle(b, c), middle(c, a)
            split += [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
        triangles = split
    return np.array(points), np.array(triangles)
