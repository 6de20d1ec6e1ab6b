"""What legs and trunk do in place: kicking, jumping, bowing, crouching, sitting, standing on one leg."""

from __future__ import annotations

import itertools
from collections.abc import Collection

import numpy as np

from adaqf_train.evaluation.attributes import signals
from adaqf_train.evaluation.attributes.event import FLIGHT, Event, flights, near, timed
from adaqf_train.evaluation.attributes.signals import FPS, SIDES, J, Pulse

KICK = (0.3, 0.42)  # metres the toe is ahead of the pelvis: set down, kicked out
KICK_HEIGHT = 0.12  # metres the toe is above the floor in a kick, which a long stride's is not
BOW = (9.0, 16.0)  # degrees of lean: upright, bowed
CROUCH = (0.05, 0.11)  # metres the pelvis is sunk: standing, crouched
SEAT = (0.12, 0.25)  # metres, of sitting
FOOT_UP = (0.06, 0.15)  # metres an ankle is above the other: standing on both legs, on one
STRIDING = 0.4  # metres per second above which a body walks


def kicks(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    """An event a kick: a foot goes forward above the floor."""
    found = []
    for side in SIDES:
        reach = signals.ahead(joints, f"{side}_foot", "pelvis")
        height = joints[:, J[f"{side}_foot"], 1] - np.percentile(joints[:, [J["left_foot"], J["right_foot"]], 1], 10)
        for start, end in signals.pulses(reach, *KICK):
            if height[start : end + 1].max() > KICK_HEIGHT:
                found.append(Event("kick", start, end, side=side, count=1, seconds=_time_up(height, start)))
    return found


def jumps(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    """An event a flight of both feet, on the spot or forward."""
    found = []
    for start, end in flights(joints):
        around = (max(start - 4, 0), min(end + 6, len(joints) - 1))
        way = joints[around[1], 0] - joints[around[0], 0]
        forward = float(way @ signals.axes(joints)[0][start])
        found.append(Event("jump", start, end, direction="forward" if forward > 0.2 else "up", count=1))
    return found


def bows(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    """An event a bow: the trunk leans forward and the pelvis stays up."""
    curve, sunk = signals.lean(joints), signals.sunk(joints)
    curve = curve - np.percentile(curve, 10)
    found = _apart_from_jumps(joints, kinds, curve, BOW)
    if "crouch" in kinds:  # whose trunk leans too
        found = [(start, end) for start, end in found if sunk[start : end + 1].max() <= CROUCH[1]]
    return _dips("bow", curve, found)


def crouches(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    """An event a crouch: the pelvis sinks where the body stands."""
    curve = signals.sunk(joints)
    pace = np.hypot(*signals.velocity(joints).T)  # a long stride sinks the pelvis too
    found = _apart_from_jumps(joints, kinds, curve, CROUCH)
    return _dips("crouch", curve, [p for p in found if np.median(pace[p[0] : p[1] + 1]) < STRIDING])


def seats(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    """An event a stretch of sitting, timed by its way down and up."""
    curve = signals.sunk(joints)
    return [timed("seat", curve, pulse) for pulse in signals.pulses(curve, *SEAT)]


def one_leg(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    """The longest stretch of standing on one leg; its side is that of the foot that is up."""
    found = []
    for side, other in (SIDES, SIDES[::-1]):
        curve = joints[:, J[f"{side}_ankle"], 1] - joints[:, J[f"{other}_ankle"], 1]
        found += [timed("one_leg", curve, pulse, side=side) for pulse in signals.pulses(curve, *FOOT_UP)]
    longest = max(found, key=lambda event: event.end - event.start, default=None)
    return [longest] if longest else []


def _time_up(height: np.ndarray, at: int) -> float:
    """Seconds that a foot which is up at frame `at` is off the floor."""
    return next(((b - a) / FPS for a, b in signals.runs(height > FLIGHT[0]) if a <= at < b), 0.0)


def _apart_from_jumps(
    joints: np.ndarray, kinds: Collection[str], curve: np.ndarray, levels: tuple[float, float]
) -> list[Pulse]:
    """The pulses of a curve; if jumps are looked for, cut at their valleys, without those that peak beside a flight."""
    found = signals.pulses(curve, *levels)
    if "jump" not in kinds:
        return found
    cuts = signals.turning_points(curve, levels[1] - levels[0])
    valleys = [b for a, b, c in zip(cuts, cuts[1:], cuts[2:], strict=False) if curve[b] < min(curve[a], curve[c])]
    pieces = []
    for start, end in found:
        edges = [start, *(at for at in valleys if start < at < end), end]
        pieces += itertools.pairwise(edges)
    peaks = [start + int(np.argmax(curve[start : end + 1])) for start, end in pieces]
    jumps = flights(joints)
    return [piece for piece, peak in zip(pieces, peaks, strict=True) if not near((peak, peak), jumps)]


def _dips(kind: str, curve: np.ndarray, pulses: list[Pulse]) -> list[Event]:
    """One event a dip; a dip counts when it reaches half of the deepest."""
    deepest = max((curve[start : end + 1].max() for start, end in pulses), default=0.0)
    return [timed(kind, curve, p) for p in pulses if curve[p[0] : p[1] + 1].max() > 0.5 * deepest]
