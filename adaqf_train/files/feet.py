"""Hold feet that touch the floor in place, by inverse kinematics of the legs.

A toe touches the floor while it is near it and slow. During a contact the toe stays at its median position; before and
after, its correction fades. The foot moves as a whole with its toe, and the knee is placed by the lengths of thigh and
shank, in the plane in which it bent before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adaqf_train.motion.skeleton import Skeleton

HEIGHT = 0.05  # metres above the clip's lowest toe; as in the measure of skating
SPEED = 0.8  # metres per second, along the floor; the toe of a leg that swings is faster
RISE = 0.2  # metres per second, up or down
SHORTEST = 0.15  # seconds, of a contact
FURTHEST = 0.25  # metres from the median position; a toe that slides further is meant to
FADE = 0.2  # seconds
REACH = 0.999  # of the leg's length


@dataclass(frozen=True)
class Contacts:
    """What holding the feet changes."""

    count: int  # contacts
    before: float  # metres per second, mean speed of the toes along the floor during contacts
    after: float
    largest: float  # metres, the largest correction of a toe

    def __str__(self) -> str:
        if not self.count:
            return "no foot touches the floor long enough to be held"
        before, after = 100 * self.before, 100 * self.after
        return (
            f"{self.count} contacts of feet held: toes slide at {after:.1f} cm/s instead of {before:.1f} cm/s; the "
            f"largest correction is {100 * self.largest:.1f} cm"
        )


def hold_feet(joints: np.ndarray, skeleton: Skeleton, fps: float) -> tuple[np.ndarray, Contacts]:
    """Hold the feet of a motion (T, J, 3), metres, Y up, while they touch the floor; bones keep their lengths."""
    joints = np.array(joints, dtype=np.float64)
    toes = [skeleton.left_foot[1], skeleton.right_foot[1]]
    floor = joints[:, toes, 1].min()
    spans = {toe: _contacts(joints[:, toe], floor, fps) for toe in toes}
    before = _sliding(joints, spans, fps)
    largest = 0.0
    for hip, toe in zip((skeleton.left_hip, skeleton.right_hip), toes, strict=True):
        correction = _correction(joints[:, toe], spans[toe], fps)
        largest = max(largest, float(np.linalg.norm(correction, axis=-1).max()))
        leg = next(chain[chain.index(hip) :] for chain in skeleton.chains if hip in chain)
        _move_foot(joints, leg, correction)
    count = sum(map(len, spans.values()))
    return joints, Contacts(count, before, _sliding(joints, spans, fps), largest)


def _contacts(toe: np.ndarray, floor: float, fps: float) -> list[slice]:
    """Spans of frames in which a toe (T, 3) touches the floor."""
    if len(toe) < 2:
        return []
    velocity = np.abs(np.gradient(toe, axis=0)) * fps
    down = (toe[:, 1] < floor + HEIGHT) & (velocity[:, 1] < RISE) & (np.hypot(*velocity[:, [0, 2]].T) < SPEED)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], down, [0]]).astype(int)))
    spans = [slice(start, stop) for start, stop in edges.reshape(-1, 2) if stop - start >= max(2, SHORTEST * fps)]
    return [span for span in spans if np.ptp(toe[span], axis=0).max() < 2 * FURTHEST]


def _sliding(joints: np.ndarray, spans: dict[int, list[slice]], fps: float) -> float:
    steps = [np.diff(joints[span][:, toe][:, [0, 2]], axis=0) for toe, found in spans.items() for span in found]
    return float(np.linalg.norm(np.concatenate(steps), axis=-1).mean() * fps) if steps else 0.0


def _correction(toe: np.ndarray, spans: list[slice], fps: float) -> np.ndarray:
    """How far the toe (T, 3) must move in each frame."""
    shift = np.zeros_like(toe)
    ends = [0, *(edge for span in spans for edge in (span.start, span.stop)), len(toe)]
    gaps = np.diff(ends)[::2]  # frames without contact before the first, between, and after the last
    fade = max(1, round(FADE * fps))
    for number, span in enumerate(spans):
        held = np.median(toe[span], axis=0) - toe[span]
        shift[span] += held
        for frames, edge, step in ((gaps[number], span.start, -1), (gaps[number + 1], span.stop - 1, 1)):
            away = np.arange(1, min(fade, frames) + 1)
            share = away / (len(away) + 1)
            weight = 1 - share**2 * (3 - 2 * share)
            shift[edge + step * away] += weight[:, None] * held[0 if step < 0 else -1]
    return shift


def _move_foot(joints: np.ndarray, leg: tuple[int, ...], shift: np.ndarray) -> None:
    """Move the joints of a foot by shifts (T, 3), as far as the leg reaches, and place the knee."""
    hip, knee, ankle, *_, toe = leg
    upper, lower = joints[:, knee] - joints[:, hip], joints[:, ankle] - joints[:, knee]
    thigh, shank = (np.linalg.norm(bone, axis=-1, keepdims=True) for bone in (upper, lower))
    moved = (shift != 0).any(axis=-1, keepdims=True)
    old, new = upper + lower, upper + lower + shift
    length = np.linalg.norm(new, axis=-1, keepdims=True)
    reach = np.clip(length, np.abs(thigh - shank), np.maximum(REACH * (thigh + shank), _norm(old))) + 1e-9
    along = new / np.maximum(length, 1e-9)
    # Where the leg was straight, its knee bends to the front.
    forward = joints[:, toe] - joints[:, ankle]
    bend = upper - old * ((upper * old).sum(-1, keepdims=True) / np.maximum(_norm(old) ** 2, 1e-9)) + 1e-3 * forward
    bend = bend - along * (bend * along).sum(-1, keepdims=True)
    bend = bend / np.maximum(_norm(bend), 1e-9)
    share = (thigh**2 - shank**2 + reach**2) / (2 * reach)
    height = np.sqrt(np.maximum(thigh**2 - share**2, 0))
    foot = along * reach - old
    joints[:, knee] = np.where(moved, joints[:, hip] + share * along + height * bend, joints[:, knee])
    for joint in leg[2:]:
        joints[:, joint] += np.where(moved, foot, 0)


def _norm(vector: np.ndarray) -> np.ndarray:
    return np.linalg.norm(vector, axis=-1, keepdims=True)
