"""Physical measures of motion that need no network: sliding, trembling, contact with the floor, bone lengths.

Each measure takes the joints of one clip, (T, J, 3), cut to its length, Y up, in the body's units, with the floor at 0.
A clip that is padded to a common length has other figures. `MEASURES` lists those that tables show.

Sources: GMD (Karunratanakul et al. 2023, `data_loaders/humanml/utils/metrics.py` of guided-motion-diffusion); Kimodo
(NVIDIA 2026, `kimodo/metrics/foot_skate.py`); MBench (`motion_quality`), as Motius applies it to 22 joints
(`motius/evaluation`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

SKATING_SPEED = 0.5  # metres per second, along the floor
SKATING_HEIGHT = 0.05  # metres
SKATING_WINDOW = 5  # frames of the speed's moving mean
FLOATING_HEIGHT = 0.05  # metres; the lowest joint of a standing body is below this
KIMODO_SPEED = 0.2  # metres per second, in any direction
KIMODO_HEIGHT = 0.05  # metres
CONTACT_STEP = 0.01  # metres a frame
CONTACT_HEIGHT = 0.02  # metres above the clip's lowest toe
PENETRATION_DEPTH = 0.005  # metres below the floor
RATES, DRAGGED = (0.6, 1.75), 0.4  # of a toe's step relative to the root, over the root's
STILL_ROOT, STILL_TOE = 1e-3, 1.2e-4  # metres a frame
MILLIMETRES = 1000.0  # per metre

FEWEST_FRAMES = 4  # that a jerk, and MBench's measures, need


class Body(Protocol):
    """What the measures need of a skeleton (`skeleton.Skeleton`, or `NamedBody`); its root is joint 0."""

    @property
    def toes(self) -> tuple[int, int]:
        """Left and right toe."""

    @property
    def parents(self) -> tuple[int, ...]:
        """Parent of each joint, -1 for the root."""

    @property
    def fps(self) -> float:
        """Frames per second."""

    @property
    def units_per_metre(self) -> float:
        """Units of the joints in a metre."""


@dataclass(frozen=True)
class NamedBody:
    """A body of any skeleton, whose toes are found by the names of its joints.

    Attributes:
        joints: Names, the root's first.
        parents: Parent of each joint, -1 for the root.
        fps: Frames per second.
        units_per_metre: 1 for metres, 100 for centimetres.

    Raises:
        ValueError: Names and parents do not fit, or a side has no toe and no foot among the names.
    """

    joints: tuple[str, ...]
    parents: tuple[int, ...]
    fps: float
    units_per_metre: float = 1.0

    def __post_init__(self) -> None:
        if len(self.joints) != len(self.parents) or any(not -1 <= p < j for j, p in enumerate(self.parents)):
            raise ValueError("A body needs one parent for each joint, which stands before it; -1 for the root.")
        _ = self.toes

    @property
    def toes(self) -> tuple[int, int]:
        """Left and right toe: the first joint of a side named toe, else ball, else foot, else ankle."""
        return _toe(self.joints, "left"), _toe(self.joints, "right")


def skating(joints: np.ndarray, body: Body) -> float:
    """Share of frame pairs in which a foot slides on the floor (GMD).

    A toe slides where it is below 5 cm in both frames, and its horizontal speed and the 5-frame mean of that speed
    exceed 0.5 m/s.
    """
    toes = _toes(joints, body)
    speed = np.linalg.norm(np.diff(toes[..., [0, 2]], axis=0), axis=-1) * body.fps
    low = toes[..., 1] < SKATING_HEIGHT
    padded = np.pad(speed, ((SKATING_WINDOW // 2, SKATING_WINDOW // 2), (0, 0)))  # zeros beyond the ends, as upstream
    mean = np.lib.stride_tricks.sliding_window_view(padded, SKATING_WINDOW, axis=0).mean(axis=-1)
    sliding = (speed > SKATING_SPEED) & (mean > SKATING_SPEED) & low[1:] & low[:-1]
    return float(sliding.any(axis=1).mean())


def skating_kimodo(joints: np.ndarray, body: Body) -> float:
    """Share of toe pairs on the floor that move over 0.2 m/s in any direction (Kimodo's `foot_skate_ratio`).

    A pair is one toe in two frames in a row; it is on the floor if it is below 5 cm in both. 0 without such a pair.
    """
    speed, low = _toe_speed(joints, body)
    grounded = low[:-1] & low[1:]
    return _share(grounded & (speed > KIMODO_SPEED), grounded)


def toe_speed(joints: np.ndarray, body: Body) -> float:
    """Mean speed of toes below 5 cm, m/s, from their frame to the next (Kimodo's `foot_skate_from_height`).

    0 if no toe is that low.
    """
    speed, low = _toe_speed(joints, body)
    return _share(speed * low[:-1], low[:-1])


def contact(joints: np.ndarray, body: Body) -> np.ndarray:
    """Whether each toe touches the floor, (T, 2) (MBench).

    A toe touches where it moves less than 1 cm to the next frame, or is less than 2 cm above the clip's lowest toe.
    """
    toes = _toes(joints, body)
    still = np.linalg.norm(_steps(toes), axis=-1) < CONTACT_STEP
    return still | (toes[..., 1] - toes[..., 1].min() < CONTACT_HEIGHT)


def slide(joints: np.ndarray, body: Body) -> float:
    """Mean horizontal step of the toes in contact, mm a frame, averaged over both (MBench's sliding)."""
    touching = contact(joints, body)
    steps = np.linalg.norm(_steps(_toes(joints, body))[..., [0, 2]], axis=-1)
    return MILLIMETRES * float(np.mean([_share(steps[:, toe] * touching[:, toe], touching[:, toe]) for toe in (0, 1)]))


def jitter(joints: np.ndarray, body: Body) -> float:
    """Mean size of the second difference of joints, plus that of root-relative ones, mm a frame² (MBench)."""
    return MILLIMETRES * _differences(joints, body, 2)


def dynamic(joints: np.ndarray, body: Body) -> float:
    """Mean size of the steps of joints, plus those of root-relative ones, mm a frame (MBench's dynamic degree)."""
    return MILLIMETRES * _differences(joints, body, 1)


def deep_penetration(joints: np.ndarray, body: Body) -> float:
    """Mean depth of the toes that are more than 5 mm below the floor, mm (MBench); 0 if none is.

    Motius puts the floor at the clip's lowest toe, where nothing can be below it; here it is at height 0, as in MBench.
    """
    depth = -_toes(joints, body)[..., 1]
    return MILLIMETRES * _share(depth * (depth > PENETRATION_DEPTH), depth > PENETRATION_DEPTH)


def penetration(joints: np.ndarray, body: Body) -> float:
    """Mean depth of the lowest joint below the floor, metres, over all frames."""
    return float(np.maximum(-_lowest(joints, body), 0).mean())


def floating(joints: np.ndarray, body: Body) -> float:
    """Mean height of the lowest joint over 5 cm above the floor, metres, over all frames.

    Jumps float too: compare with the figure of the real motions.
    """
    return float(np.maximum(_lowest(joints, body) - FLOATING_HEIGHT, 0).mean())


def bone_change(joints: np.ndarray, body: Body) -> float:
    """Mean deviation of a bone's length from its median over the clip, per cent of that median; 0 for a rigid body."""
    children = [joint for joint, parent in enumerate(body.parents) if parent >= 0]
    lengths = np.linalg.norm(joints[:, children] - joints[:, [body.parents[joint] for joint in children]], axis=-1)
    middle = np.median(lengths, axis=0)
    real = middle > 1e-6 * middle.max()  # joints that coincide have no bone between them
    return 100.0 * float(np.mean(np.abs(lengths[:, real] / middle[real] - 1)))


def bone_lengths(joints: np.ndarray, body: Body) -> np.ndarray:
    """Median length of each bone over a clip: (T, J, 3) -> (J-1,), in the joints' own units."""
    return np.median(np.linalg.norm(joints[:, 1:] - joints[:, list(body.parents[1:])], axis=-1), axis=0)


def travelling_speed(joints: np.ndarray, body: Body) -> float:
    """Mean speed of the root along the floor, in metres per second. joints: (T, J, 3), T >= 2."""
    steps = np.linalg.norm(np.diff(joints[:, 0, [0, 2]], axis=0), axis=-1)
    return float(steps.mean()) / body.units_per_metre * body.fps


def acceleration_distance(real: Sequence[np.ndarray], generated: Sequence[np.ndarray], body: Body) -> dict[str, float]:
    """Wasserstein-1 distances of the magnitudes of joint accelerations (m/s²) and jerks (m/s³) of two sets of clips.

    Trembling, frozen and over-smoothed motions all increase the distance. Clips are joints (T_i, J, 3), cut to their
    length, in the body's units; ValueError if none has the four frames that a jerk needs.
    """
    from scipy.stats import wasserstein_distance  # takes half a second to import

    orders = {"acceleration": 2, "jerk": 3}
    return {
        name: float(wasserstein_distance(_magnitudes(real, n, body), _magnitudes(generated, n, body)))
        for name, n in orders.items()
    }


def mean_magnitudes(clips: Sequence[np.ndarray], body: Body) -> dict[str, float]:
    """Mean magnitudes of joint accelerations (m/s²) and jerks (m/s³), for clips without real ones to compare with."""
    orders = {"mean_acceleration": 2, "mean_jerk": 3}
    return {name: float(_magnitudes(clips, n, body).mean()) for name, n in orders.items()}


def floating_share(joints: np.ndarray, body: Body) -> float:
    """Frames in which the feet do not carry the body, over all frames (MBench's floating; may exceed 1).

    The rate of a toe is the length of its step relative to the root over that of the root's own step: 1 for a planted
    toe, 0 for one that is dragged along. The sum of three counts is divided by the number of frames:

    * frames with a root step of 1 mm or more in which all toes in contact, one or two, have a rate below 0.6 or above
      1.75 and move over 0.12 mm;
    * half of the toe-frames with a rate below 0.4, in stretches without contact of 4 frames or more; not in those
      whose root is still (under 1 mm) in more than half of the frames;
    * frames of stretches of 4 or more without any contact in which the direction of the left toe from its first
      place, as an angle to that of its last, has more than 2 peaks.
    """
    toes, touching = _toes(joints, body), contact(joints, body)
    root = joints[:, 0] / body.units_per_metre
    pace, rate = np.linalg.norm(_steps(root), axis=-1), np.linalg.norm(_steps(toes - root[:, None]), axis=-1)
    rate /= pace[:, None] + 1e-6
    wrong = ((rate < RATES[0]) | (rate > RATES[1])) & (np.linalg.norm(_steps(toes), axis=-1) > STILL_TOE)
    count = float(np.count_nonzero((pace >= STILL_ROOT) & touching.any(axis=1) & (wrong | ~touching).all(axis=1)))
    for toe in (0, 1):
        for run in _runs(~touching[:, toe]):
            if np.mean(pace[run] < STILL_ROOT) <= 0.5:
                count += np.count_nonzero(rate[run, toe] < DRAGGED) / 2
    return (count + sum(run.stop - run.start for run in _runs(~touching.any(axis=1)) if _swings(toes[run, 0]))) / len(
        toes
    )


# What tables show of each clip, by the name of the figure.
MEASURES: Mapping[str, Callable[[np.ndarray, Body], float]] = {
    "skating": skating,
    "skating_kimodo": skating_kimodo,
    "toe_speed": toe_speed,
    "contact": lambda joints, body: float(contact(joints, body).mean()),
    "slide_mm": slide,
    "jitter_mm": jitter,
    "dynamic_mm": dynamic,
    "penetration_mm": lambda joints, body: MILLIMETRES * penetration(joints, body),
    "deep_penetration_mm": deep_penetration,
    "floating_mm": lambda joints, body: MILLIMETRES * floating(joints, body),
    "floating_share": floating_share,
    "bone_change": bone_change,
}


def measure(clips: Sequence[np.ndarray], body: Body) -> dict[str, float]:
    """Compute the mean of each of `MEASURES` over clips (T_i >= `FEWEST_FRAMES`, J, 3), each cut to its length."""
    return {name: float(np.mean([of(clip, body) for clip in clips])) for name, of in MEASURES.items()}


def _toes(joints: np.ndarray, body: Body) -> np.ndarray:
    """Left and right toe (T, 2, 3), metres."""
    return joints[:, list(body.toes)] / body.units_per_metre


def _toe_speed(joints: np.ndarray, body: Body) -> tuple[np.ndarray, np.ndarray]:
    """Speed of each toe to the next frame (T-1, 2), m/s, and whether it is near the floor (T, 2)."""
    toes = _toes(joints, body)
    return np.linalg.norm(np.diff(toes, axis=0), axis=-1) * body.fps, toes[..., 1] < KIMODO_HEIGHT


def _steps(points: np.ndarray) -> np.ndarray:
    """Differences to the next frame; the last one is repeated, as in MBench, so that their number stays T."""
    steps = np.diff(points, axis=0)
    return np.concatenate([steps, steps[-1:]])


def _differences(joints: np.ndarray, body: Body, order: int) -> float:
    metres = joints / body.units_per_metre
    return float(
        sum(np.linalg.norm(np.diff(p, order, axis=0), axis=-1).mean() for p in (metres, metres - metres[:, :1]))
    )


def _magnitudes(clips: Sequence[np.ndarray], order: int, body: Body) -> np.ndarray:
    values = [np.linalg.norm(np.diff(c, order, axis=0), axis=-1).ravel() for c in clips if len(c) >= FEWEST_FRAMES]
    if not values:
        raise ValueError("Accelerations need clips of at least 4 frames.")
    return np.concatenate(values) * (body.fps**order / body.units_per_metre)


def _share(values: np.ndarray, chosen: np.ndarray) -> float:
    """Sum of values over the number of chosen entries; 0 if there are none."""
    return float(values.sum() / max(np.count_nonzero(chosen), 1))


def _runs(chosen: np.ndarray) -> list[slice]:
    """The stretches of 4 or more chosen frames in a row."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]])))
    return [slice(start, stop) for start, stop in edges.reshape(-1, 2).tolist() if stop - start >= FEWEST_FRAMES]


def _swings(toe: np.ndarray) -> bool:
    """Whether the way of a toe (T, 3) turns to and fro: the angle to its whole displacement has more than 2 peaks."""
    from scipy.signal import find_peaks  # takes half a second to import

    ways = toe[1:] - toe[0]
    ways /= np.linalg.norm(ways, axis=-1, keepdims=True) + 1e-6
    return len(find_peaks(np.arccos(np.clip(ways @ ways[-1], -1, 1)))[0]) > 2


def _toe(names: Sequence[str], side: str) -> int:
    """Index of a side's toe among the names of joints; ValueError if none is a toe, ball, foot or ankle."""
    letter = side[0].upper()  # LeftToe, toe_l, L_Toe, lToe, ToeL
    mark = re.compile(
        rf"(?i:{side})|(?<![a-zA-Z])(?i:{letter})(?![a-zA-Z])|^{letter.lower()}(?=[A-Z])|(?<=[a-z]){letter}$"
    )
    for part in ("toe", "ball", "foot", "ankle"):
        for joint, name in enumerate(names):
            if part in name.lower() and mark.search(name):
                return joint
    raise ValueError(f"No {side} toe, ball, foot or ankle among the joints: {', '.join(names)}.")


def _lowest(joints: np.ndarray, body: Body) -> np.ndarray:
    """Height (T,) of the lowest joint, metres."""
    return joints[..., 1].min(axis=-1) / body.units_per_metre
