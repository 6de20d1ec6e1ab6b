"""Actions of legs and trunk in place: kicking, jumping, bowing, crouching, sitting, standing on one leg."""

from __future__ import annotations

import itertools
from collections.abc import Collection

import numpy as np

from adaqf_train.evaluation.attributes import signals
from adaqf_train.evaluation.attributes.signals import FLIGHT, FPS, SIDES, Event, J, Pulse, flights, near, timed

KICK = (0.3, 0.42)  # metres the toe is in front of the pelvis: set down, kicked out
KICK_HEIGHT = 0.12  # metres the toe is above the floor in a kick, but not in a long stride
BOW = (9.0, 16.0)  # degrees of lean: upright, bowed
CROUCH = (0.05, 0.11)  # metres the pelvis is sunk: standing, crouched
SEAT = (0.12, 0.25)  # metres the pelvis is sunk: standing, seated
FOOT_UP = (0.06, 0.15)  # metres an ankle is above the other: standing on both legs, on one
STRIDING = 0.4  # metres per second, above which a body walks


def kicks(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    """Detect kicks: a foot goes forward above the floor."""
    found = []
    for side in SIDES:
        reach = signals.ahead(joints, f"{side}_foot", "pelvis")
        height = joints[:, J[f"{side}_foot"], 1] - np.percentile(joints[:, [J["left_foot"], J["right_foot"]], 1], 10)
        up = signals.runs(height > FLIGHT[0])
        for start, end in signals.pulses(reach, *KICK):
            if height[start : end + 1].max() > KICK_HEIGHT:
                seconds = next(((stop - first) / FPS for first, stop in up if first <= start < stop), 0.0)
                found.append(Event("kick", start, end, side=side, count=1, seconds=seconds))
    return found


def jumps(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    """Detect flights of both feet, upward or forward."""
    found = []
    for start, end in flights(joints):
        moved = joints[min(end + 6, len(joints) - 1), 0] - joints[max(start - 4, 0), 0]
        forward = float(moved @ signals.axes(joints)[0][start])
        found.append(Event("jump", start, end, direction="forward" if forward > 0.2 else "up", count=1))
    return found


def bows(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    """Detect bows: the trunk leans forward and the pelvis stays up."""
    curve, sunk = signals.lean(joints), signals.sunk(joints)
    curve = curve - np.percentile(curve, 10)
    found = _apart_from_jumps(joints, kinds, curve, BOW)
    if "crouch" in kinds:  # in a crouch, the trunk leans too
        found = [(start, end) for start, end in found if sunk[start : end + 1].max() <= CROUCH[1]]
    return _dips("bow", curve, found)


def crouches(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    """Detect crouches: the pelvis sinks while the body stands."""
    curve = signals.sunk(joints)
    pace = np.hypot(*signals.velocity(joints).T)  # a long stride sinks the pelvis too
    found = _apart_from_jumps(joints, kinds, curve, CROUCH)
    return _dips("crouch", curve, [p for p in found if np.median(pace[p[0] : p[1] + 1]) < STRIDING])


def seats(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    """Detect stretches of sitting, timed by sitting down and standing up."""
    curve = signals.sunk(joints)
    return [timed("seat", curve, pulse) for pulse in signals.pulses(curve, *SEAT)]


def one_leg(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    """Detect the longest stretch of standing on one leg; its side is that of the lifted foot."""
    found = []
    for side, other in (SIDES, SIDES[::-1]):
        curve = joints[:, J[f"{side}_ankle"], 1] - joints[:, J[f"{other}_ankle"], 1]
        found += [timed("one_leg", curve, pulse, side=side) for pulse in signals.pulses(curve, *FOOT_UP)]
    return [max(found, key=lambda event: event.end - event.start)] if found else []


def _apart_from_jumps(
    joints: np.ndarray, kinds: Collection[str], curve: np.ndarray, levels: tuple[float, float]
) -> list[Pulse]:
    """Pulses of a curve. If jumps are sought: cut at the curve's valleys, without those that peak beside a flight."""
    found = signals.pulses(curve, *levels)
    if "jump" not in kinds:
        return found
    turns, jumps = signals.turning_points(curve, levels[1] - levels[0]), flights(joints)
    valleys = [b for a, b, c in zip(turns, turns[1:], turns[2:], strict=False) if curve[b] < min(curve[a], curve[c])]
    kept = []
    for start, end in found:
        for piece in itertools.pairwise([start, *(at for at in valleys if start < at < end), end]):
            peak = piece[0] + int(np.argmax(curve[piece[0] : piece[1] + 1]))
            if not near((peak, peak), jumps):
                kept.append(piece)
    return kept


def _dips(kind: str, curve: np.ndarray, pulses: list[Pulse]) -> list[Event]:
    """An event for each dip that reaches half of the deepest."""
    depths = [curve[start : end + 1].max() for start, end in pulses]
    return [timed(kind, curve, p) for p, depth in zip(pulses, depths, strict=True) if depth > 0.5 * max(depths)]
