"""Examine a body over a whole clip: which axis points up, left and right, unit of length, start, jumps, floor, speed.

Every threshold has a margin to real motions: 2,832 captures of Bandai Namco, HumanML3D's own samples and procedural
clips give no fault. Lengths are relative to the legs, so that the unit of the joints does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from adaqf_train.motion import tempo
from adaqf_train.motion.features import slices_of_width
from adaqf_train.motion.skeleton import HUMANML3D, Skeleton, landmarks, skeleton_of_width
from adaqf_train.motion.start import frames_before_motion, unit_vectors

Up = Literal["x", "y", "z", "-x", "-y", "-z"]
UPS: tuple[Up, ...] = get_args(Up)
Kind = Literal["finite", "collapsed", "up", "mirrored", "unit", "start", "jump", "floating", "speed"]

LEG = 0.8158  # metres, thigh and shank of the standard skeleton
LEGS = (0.6, 1.15)  # metres; the plausible range of thigh plus shank
UNITS = {"millimetres": 0.001, "centimetres": 0.01, "inches": 0.0254, "KIT-ML's units": 1 / 640}
RATE = 20.0  # frames per second, about which speeds are measured
UPRIGHT = 0.5  # cosine; trunk, legs or whole body of every real clip reach 0.9 in the median
ALONG = 0.6  # cosine to another axis from which a body lies along it
BACKWARDS = -0.2  # cosine of toes and hips × trunk; real clips are above 0.3
JUMP = 0.2  # metres in 50 ms, mean over the joints, beyond the motion around it; real clips stay below 0.05
OFF_FLOOR = 0.06  # metres; median height of the lowest joint above its lowest place; real clips stay below 0.052
LONGEST_FRAME = 0.5  # seconds; a longer frame time is in another unit
SHORTEST_FRAME = 1e-3


@dataclass(frozen=True)
class Fault:
    """Something about a clip that is wrong (error) or most likely unintended (warning)."""

    kind: Kind
    level: Literal["error", "warning"]
    what: str  # such as "the body lies along +z"
    remedy: str  # a sentence that names an option or a factor
    value: str | float | None = None  # axis that points up, factor to metres, frames to skip, frame of a jump

    def __str__(self) -> str:
        return f"{self.what}. {self.remedy}"


def turned(joints: np.ndarray, up: Up) -> np.ndarray:
    """Rotate positions (..., 3) so that the axis `up` of the source becomes +Y."""
    x, y, z = (joints[..., axis] for axis in range(3))
    parts = {"x": (-y, x, z), "-x": (y, -x, z), "y": (x, y, z), "-y": (x, -y, -z), "z": (x, z, -y), "-z": (x, -z, y)}
    return np.stack(parts[up], axis=-1)


def leg_length(joints: np.ndarray, skeleton: Skeleton = HUMANML3D) -> float:
    """Median length of thigh plus shank over clip and sides, in the joints' unit. joints: (T, J, 3)."""
    return float(np.median(_legs(joints, skeleton)))


def _legs(joints: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Thigh plus shank (T, 2) of the left and right leg."""
    at = landmarks(skeleton)
    thighs = np.linalg.norm(joints[:, at.hips] - joints[:, at.knees], axis=-1)
    return thighs + np.linalg.norm(joints[:, at.knees] - joints[:, at.ankles], axis=-1)


def _legs_change(joints: np.ndarray, skeleton: Skeleton) -> bool:
    """Whether the length of the legs doubles within a clip, which noise does not explain."""
    shortest, longest = np.percentile(_legs(joints, skeleton), [5, 95])
    return bool(longest > 2 * shortest)


def upwards(joints: np.ndarray, skeleton: Skeleton = HUMANML3D) -> tuple[Up, np.ndarray]:
    """The axis along which the body extends from feet to head, and the median directions (3, 3) that decide.

    joints: (T, J, 3). The directions are those of the whole body, of the trunk and of the legs.
    """
    at = landmarks(skeleton)
    feet, hips = joints[:, at.ankles].mean(axis=1), joints[:, at.hips].mean(axis=1)
    ways = (joints[:, at.head] - feet, joints[:, at.neck] - joints[:, at.root], hips - feet)
    directions = np.stack([np.median(unit_vectors(way), axis=0) for way in ways])
    axis = int(np.abs(directions[0]).argmax())
    return UPS[axis + 3 * bool(directions[0, axis] < 0)], directions


def handedness(joints: np.ndarray, skeleton: Skeleton = HUMANML3D) -> float:
    """Median cosine of the feet and of hips × trunk, at right angles to the trunk: about 1, or -1 if mirrored.

    joints: (T, J, 3) in any axes. The knees, which bend forwards, decide with the feet.
    """
    at = landmarks(skeleton)
    trunk = unit_vectors(joints[:, at.neck] - joints[:, at.root])
    across = unit_vectors(joints[:, at.hips[0]] - joints[:, at.hips[1]])
    ahead = unit_vectors(np.cross(across, trunk))
    hips, knees, ankles, toes = (joints[:, pair] for pair in (at.hips, at.knees, at.ankles, at.toes))
    leg = unit_vectors(hips - ankles)
    feet = toes - ankles
    feet = feet - (feet * leg).sum(-1, keepdims=True) * leg
    bend = knees - ankles
    bend = bend - (bend * leg).sum(-1, keepdims=True) * leg
    return float(np.median((unit_vectors((feet + bend).mean(axis=1)) * ahead).sum(axis=-1)))


def examine(
    joints: np.ndarray,
    fps: float | None = None,
    skeleton: Skeleton = HUMANML3D,
    *,
    up: Up | None = None,
    skip: int | None = None,
    any_unit: bool = False,
) -> list[Fault]:
    """Examine a clip.

    Args:
        joints: Positions (T, J, 3), Y up, in the skeleton's unit; J = 22 or 21.
        fps: Frames per second; None: the skeleton's.
        skeleton: The standard skeleton of the joints.
        up: The axis that the user stated; given, the direction of the body is not questioned.
        skip: Frames that the user skipped at the start; 0: the start is not questioned; more: a rest pose that still
            follows is a warning.
        any_unit: Whether the length of the legs is free, as for bodies that take the standard skeleton's size.

    Returns:
        Errors first: a clip that is not finite, collapsed, lying, mirrored, in another unit, or that starts with a rest
        pose; then warnings: jumps, feet off the floor, implausible speed. Empty for a sound clip.
    """
    joints = np.asarray(joints, dtype=np.float64)
    if not np.isfinite(joints).all():
        frame = int(np.argwhere(~np.isfinite(joints))[0][0])
        return [Fault("finite", "error", f"NaN or infinite at frame {frame}", "Repair or remove it.", frame)]
    leg = leg_length(joints, skeleton) if len(joints) else 0.0
    if not leg > 0:
        what = "hips, knees and ankles coincide" if len(joints) else "no frames"
        return [Fault("collapsed", "error", what, "Create the file again.")]
    if _legs_change(joints, skeleton):
        what = "legs change their length from frame to frame: these are no joints, or not in this order"
        return [Fault("collapsed", "error", what, "Transpose the array, or create it again.")]
    joints = joints * (LEG / leg)
    rate = fps or skeleton.fps
    every = max(1, round(rate / RATE))  # speeds are measured at about RATE
    faults = [
        None if up is not None else _check_up(joints, skeleton),
        _check_sides(joints, skeleton),
        None if any_unit else check_leg(leg, skeleton),
        None if skip == 0 else _check_start(joints, rate, skeleton, skip or 0),
        _check_jumps(joints[::every], rate / every, every),
        _check_floor(joints),
        _check_speed(joints[::every], rate / every, skeleton),
    ]
    found = [fault for fault in faults if fault is not None]
    if any(fault.kind == "up" for fault in found):  # the floor lies elsewhere
        found = [fault for fault in found if fault.kind != "floating"]
    return found


def check_leg(leg: float, skeleton: Skeleton = HUMANML3D) -> Fault | None:
    """The fault of legs whose length, in the skeleton's unit, no person has; its value is the factor to correct it."""
    per_metre = skeleton.units_per_metre
    if LEGS[0] <= leg / per_metre <= LEGS[1]:
        return None
    fitting = {unit: scale for unit, scale in UNITS.items() if LEGS[0] <= leg * scale <= LEGS[1]}
    fitting |= {"metres": 1.0} if LEGS[0] <= leg <= LEGS[1] else {}
    unit = min(fitting, key=lambda unit: abs(leg * fitting[unit] - LEG), default=None)
    factor = float(f"{(fitting[unit] if unit else LEG / leg) * per_metre:.3g}")
    target = "metres" if per_metre == 1 else f"{skeleton.name}'s {per_metre:g} units per metre"
    guess = f"the joints are in {unit}" if unit else f"people's are {LEGS[0]:g} to {LEGS[1]:g} m long"
    what = f"legs of {leg:.3g} {'m' if per_metre == 1 else 'units'}: {guess}"
    return Fault("unit", "error", what, f"Multiply the joints by {factor:g}, which gives {target}.", factor)


def check_frame_time(seconds: float) -> str | None:
    """What is wrong with a frame time in a file, with the option that corrects it; None if it is plausible."""
    if SHORTEST_FRAME <= seconds <= LONGEST_FRAME:
        return None
    rates = {"milliseconds": 1000 / seconds, "frames per second": seconds} if seconds > LONGEST_FRAME else {}
    guesses = [f"--fps {rate:.4g} if it is {unit}" for unit, rate in rates.items() if 5 <= rate <= 1000]
    # 25 to 40 are plausible as both; the more usual rates come first.
    remedy = f"Give {' or '.join(guesses)}" if guesses else "Give the frame rate with --fps"
    return f"a frame time of {seconds:g} s. {remedy}."


def looks_normalised(features: np.ndarray) -> bool:
    """Whether features (T, 263 | 251) are z-normalised: rotations without unit length, odd contact labels or height."""
    if not len(features) or not np.isfinite(features).all():
        return False
    where, skeleton = slices_of_width(features.shape[-1]), skeleton_of_width(features.shape[-1])
    lengths = np.linalg.norm(features[:, where.rotations].reshape(len(features), -1, 3), axis=-1)
    contacts = features[:, where.contacts]
    odd = np.median(np.minimum(np.abs(contacts), np.abs(contacts - 1))) > 0.1
    low = np.median(features[:, where.root_height]) < 0.15 * skeleton.units_per_metre
    return bool((odd or low) and np.median(np.abs(lengths - 1)) > 0.3 and np.median(lengths) > 0.02)


NORMALISED = "these features are normalised"
UNDO = "Undo Mean.npy and Std.npy first: features * Std + Mean."


def _check_up(joints: np.ndarray, skeleton: Skeleton) -> Fault | None:
    axis, directions = upwards(joints, skeleton)
    if axis == "y" or directions[:, 1].max() > UPRIGHT or np.abs(directions[0]).max() < ALONG:
        return None
    signed = axis if axis.startswith("-") else f"+{axis}"
    what = "the body is upside down" if axis == "-y" else f"the body lies: it extends along {signed}"
    otherwise = "stands on its hands" if axis == "-y" else "lies down"
    remedy = f"Give --up {axis} if that axis points up, or --up y if the person {otherwise}."
    return Fault("up", "error", what, remedy, axis)


def _check_sides(joints: np.ndarray, skeleton: Skeleton) -> Fault | None:
    if handedness(joints, skeleton) > BACKWARDS:
        return None
    remedy = "Exchange left and right in the order or map of the joints, or negate one axis."
    return Fault("mirrored", "error", "left and right are exchanged: knees and toes bend backwards", remedy)


def _check_start(joints: np.ndarray, fps: float, skeleton: Skeleton, skipped: int) -> Fault | None:
    """A rest pose that the body leaves at once, or over some frames, before it moves calmly."""
    more = frames_before_motion(joints, fps, skeleton)
    if not more:
        return None
    skip = skipped + more
    frames, them = ("the first frame", "it") if skip == 1 else (f"the first {skip} frames", "them")
    what = f"the body jumps in {frames}, as from a rest pose to the motion"
    remedy = f"Give --skip {skip} to skip {frames}, or --skip 0 to keep {them}."
    return Fault("start", "warning" if skipped else "error", what, remedy, skip)


def _check_jumps(joints: np.ndarray, fps: float, every: int) -> Fault | None:
    if len(joints) < 4:
        return None
    steps = np.diff(joints, axis=0)
    beyond = np.linalg.norm(steps[1:-1] - (steps[:-2] + steps[2:]) / 2, axis=-1).mean(axis=-1) * (fps / RATE)
    if beyond.max() <= JUMP:
        return None
    frame = (int(beyond.argmax()) + 2) * every
    what = f"the body jumps by {beyond.max():.1f} m at frame {frame}"
    return Fault("jump", "warning", what, "Cut the clip there, or repair it.", frame)


def _check_floor(joints: np.ndarray) -> Fault | None:
    lowest = joints[..., 1].min(axis=-1)
    height = float(np.median(lowest) - lowest.min())
    if height <= OFF_FLOOR:
        return None
    what = f"the feet are {100 * height:.0f} cm above the floor in most frames"
    remedy = f"The lowest point of the clip, at frame {int(lowest.argmin())}, sets the floor: cut or repair it."
    return Fault("floating", "warning", what, remedy, height)


def _check_speed(joints: np.ndarray, fps: float, skeleton: Skeleton) -> Fault | None:
    if len(joints) < 10:
        return None
    at = landmarks(skeleton)
    found = tempo.measure(joints[:, [*at.hands, *at.ankles]] - joints[:, [at.root]], fps)
    if found.plausible:
        return None
    than = "slower" if found.slow else "faster"
    what = f"hands and feet move far {than} than people's ({found.speed:.1f} m/s, {found.acceleration:.0f} m/s²)"
    return Fault("speed", "warning", what, "Check the frame rate; --fps gives another.", found.frequency)
