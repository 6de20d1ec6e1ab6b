"""The procedural data set: its actions, their attributes, and the splits.

It has few actions with many attribute values each, so a pool of clips holds many minimal pairs: captions that differ
only in left/right, slowly/quickly, once/twice/three times, forward/backward or first/then.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from adaqf_train.procedural import arms, gait, whole_body
from adaqf_train.procedural.body import JOINT, SIGN
from adaqf_train.procedural.captions import describe
from adaqf_train.procedural.timeline import FPS, Segment, Style, Timeline

SHORTEST, LONGEST = 44, 120  # frames
FRACTIONS = (0.75, 0.08, 0.17)  # of train, val and test
LARGEST_HEADING = 145  # degrees from frame 0: the features' rotations are singular at 180
SPEED = (("slow", 0.36), ("normal", 0.28), ("fast", 0.36))
COUNT = ((1, 0.34), (2, 0.33), (3, 0.33))
SIDE = (("left", 0.5), ("right", 0.5))
DIRECTION = (("forward", 0.5), ("backward", 0.5))
SIDE_OR_BOTH = (("left", 0.42), ("right", 0.42), ("both", 0.16))
ANGLE = (45, 90, 135)
# Replacements in sequences, into whose six seconds slow actions would not fit.
SHORTER = {SPEED: (("slow", 0.1), ("normal", 0.6), ("fast", 0.3)), COUNT: ((1, 0.6), (2, 0.4))}

# Combinations that occur in the test split only, about 5 % of clips: composition is reported separately.
HELD_OUT: tuple[dict, ...] = (
    {"action": "walk", "path": "corner", "side": "right", "angle_deg": 45},
    {"action": "wave", "side": "right", "count": 3, "speed": "fast"},
    {"action": "raise_arm", "side": "left", "count": 3, "speed": "fast"},
    {"action": "punch", "side": "left", "count": 3, "speed": "slow"},
    {"action": "punch", "side": "right", "count": 2, "speed": "fast"},
    {"action": "sidestep", "direction": "left", "speed": "slow"},
    {"action": "turn", "side": "right", "angle_deg": 135, "speed": "fast"},
    {"action": "run", "path": "curve", "side": "left", "speed": "fast"},
    {"action": "kick", "side": "right", "count": 2, "speed": "slow"},
    {"action": "bow", "amplitude": "deep", "count": 2},
)
HELD_OUT_ORDERS = (("walk", "bow"), ("turn", "jump"), ("wave", "crouch"), ("kick", "raise_arm"))
HELD_OUT_SHARE = 0.05  # of all clips; the rest of the test split is drawn by hash


@dataclass(frozen=True)
class ProceduralClip:
    """A captioned motion and the facts it was made from."""

    name: str
    joints: np.ndarray
    """(T, 22, 3) float32, metres, Y up, 20 frames per second; frame 0 stands over the origin and faces +Z."""
    captions: tuple[str, ...]
    actions: tuple[dict, ...]
    """Facts of each action in order, JSON-serialisable; `start` and `end` are frames."""
    split: str


def _pick(rng: np.random.Generator, options: Sequence):
    """One of the options, which are all equally likely, or (value, probability) pairs."""
    if not isinstance(options[0], tuple):
        return rng.choice(options).item()
    values, weights = zip(*options, strict=True)
    return values[int(rng.choice(len(values), p=np.array(weights) / sum(weights)))]


@dataclass(frozen=True)
class _Draw:
    """Draw one action; those in a sequence are shorter."""

    style: Style
    rng: np.random.Generator
    in_sequence: bool

    def pick(self, options: Sequence):
        return _pick(self.rng, SHORTER.get(options, options) if self.in_sequence else options)

    def seconds(self, bounds: tuple[float, float]) -> float:
        return float(self.rng.uniform(*bounds))

    def steps(self, **attributes: object) -> Segment:
        return gait.locomotion(self.style, self.rng, **attributes)

    def action(self, kind: str) -> Segment:
        """An action of a kind, with attributes that are drawn in the order of the table."""
        if kind in STEPPING:
            return STEPPING[kind](self)
        make, attributes = ACTIONS[kind]
        return make(self.style, self.rng, **{name: self.pick(options) for name, options in attributes.items()})


def _bent_walk(draw: _Draw) -> Segment:
    path, side, speed = draw.pick(("curve", "corner")), draw.pick(SIDE), draw.pick(SPEED)
    bend = {"path": path, "side": side, "angle_deg": 90 if path == "curve" else draw.pick(ANGLE)}
    return draw.steps(action="walk", direction="forward", speed=speed, seconds=draw.seconds((2.9, 4.2)), **bend)


def _run(draw: _Draw) -> Segment:
    seconds, speed = draw.seconds((2.4, 3.4)), draw.pick(SPEED)
    bend = {} if draw.rng.random() < 0.5 else {"path": "curve", "side": draw.pick(SIDE), "angle_deg": 90}
    return draw.steps(action="run", direction="forward", speed=speed, seconds=seconds, **bend)


def _walk(draw: _Draw) -> Segment:
    drawn = {"direction": draw.pick(DIRECTION), "speed": draw.pick(SPEED)}
    return draw.steps(action="walk", **drawn, seconds=draw.seconds((1.9, 2.4) if draw.in_sequence else (2.4, 4.0)))


def _sidestep(draw: _Draw) -> Segment:
    seconds = draw.seconds((1.3, 2.0) if draw.in_sequence else (2.2, 4.0))
    return draw.steps(action="walk", direction=draw.pick(SIDE), speed=draw.pick(SPEED), seconds=seconds)


# The order of the draws determines the data set: another order changes every clip.
STEPPING = {"walk": _walk, "bent_walk": _bent_walk, "run": _run, "sidestep": _sidestep}
REPEATED = {"speed": SPEED, "count": COUNT}
RAISED = {"height": ("shoulder", "overhead"), "direction": ("forward", "side")}
ACTIONS: dict[str, tuple[Callable[..., Segment], dict[str, Sequence]]] = {
    "turn": (gait.turn, {"side": SIDE, "angle_deg": ANGLE, "speed": SPEED}),
    "raise_arm": (arms.raise_arm, RAISED | {"side": SIDE_OR_BOTH} | REPEATED),
    "hold_arm": (
        arms.hold_arm,
        {"action": ("lift_arm", "lower_arm"), "side": SIDE_OR_BOTH} | RAISED | {"speed": SPEED},
    ),
    "wave": (arms.wave, {"side": SIDE_OR_BOTH} | REPEATED),
    "punch": (arms.punch, {"side": SIDE} | REPEATED),
    "bow": (whole_body.bow, {"amplitude": ("slight", "deep")} | REPEATED),
    "crouch": (whole_body.crouch, {"amplitude": ("slight", "deep")} | REPEATED),
    "jump": (whole_body.jump, {"direction": ("up", "forward"), "amplitude": ("low", "high"), "count": COUNT}),
    "kick": (whole_body.kick, {"amplitude": ("low", "high"), "side": SIDE} | REPEATED),
    "sit": (whole_body.sit, {"action": ("sit", "stand_up", "sit_stand"), "speed": SPEED}),
    "one_leg": (whole_body.one_leg, {"side": SIDE, "speed": SPEED}),
    "idle": (whole_body.idle, {}),
}
# Shares of single actions: 36 % locomotion, 36 % arms, 16 % whole body.
SINGLE = (
    *(("walk", 0.11), ("bent_walk", 0.07), ("run", 0.06), ("sidestep", 0.06), ("turn", 0.06)),
    *(("raise_arm", 0.12), ("hold_arm", 0.05), ("wave", 0.10), ("punch", 0.09)),
    *(("bow", 0.03), ("crouch", 0.02), ("jump", 0.03), ("kick", 0.03), ("sit", 0.025), ("one_leg", 0.015)),
    ("idle", 0.01),
)
SEQUENCE_SHARE = 0.15
THREE_SHARE = 0.12  # of sequences
IN_SEQUENCES = (
    *(("walk", 0.18), ("sidestep", 0.08), ("turn", 0.16), ("raise_arm", 0.14), ("wave", 0.12), ("punch", 0.08)),
    *(("bow", 0.07), ("jump", 0.06), ("kick", 0.06), ("crouch", 0.05)),
)


def _fits(segments: list[Segment]) -> bool:
    """Whether segments fit in the longest clip, turn little enough, and no two successive ones read as one."""
    facts = [segment.facts for segment in segments]
    headings = np.cumsum([SIGN[f["side"]] * f["angle_deg"] if "angle_deg" in f else 0.0 for f in facts])
    seconds = sum(segment.duration for segment in segments) + 0.35 + 0.1 * len(segments)
    looks = [tuple(map(f.get, ("action", "side", "direction"))) for f in facts]
    repeated = any(a == b for a, b in itertools.pairwise(looks))
    return seconds * FPS <= LONGEST - 1 and np.abs(headings).max() <= LARGEST_HEADING and not repeated


def _draw(style: Style, rng: np.random.Generator) -> list[Segment]:
    """The segments of one clip, drawn until they fit in six seconds."""
    length = 1
    if rng.random() < SEQUENCE_SHARE:
        length = 3 if rng.random() < THREE_SHARE else 2
    while True:
        table, draw = (SINGLE if length == 1 else IN_SEQUENCES), _Draw(style, rng, in_sequence=length > 1)
        segments = [draw.action(_pick(rng, table)) for _ in range(length)]
        if _fits(segments):
            return segments


def _perform(segments: list[Segment], style: Style, rng: np.random.Generator) -> tuple[np.ndarray, tuple[dict, ...]]:
    """Joints (T, 22, 3) of the segments, and their facts with frames and measurements."""
    gaps = rng.uniform(-0.06, 0.08, len(segments) - 1)
    busy = sum(segment.duration for segment in segments) + gaps.sum()
    lead, tail = rng.uniform(0.1, 0.4), rng.uniform(0.2, 0.55)
    spare = max(SHORTEST / FPS - busy, 0.0)
    lead += spare * rng.uniform(0.2, 0.5)
    frames = int(np.clip(np.ceil((lead + busy + tail + 0.6 * spare) * FPS), SHORTEST, LONGEST))
    lead = min(lead, frames / FPS - busy - 0.1)
    timeline, start, spans = Timeline(frames, style), lead, []
    for segment, gap in zip(segments, (*gaps, 0.0), strict=True):
        segment.write(timeline, start)
        spans.append((max(int(start * FPS), 0), min(int(np.ceil((start + segment.duration) * FPS)), frames - 1)))
        start += segment.duration + gap
    joints = timeline.to_joints()
    actions = tuple(
        {**segment.facts, "start": first, "end": last, **measure(joints, segment.facts, first, last)}
        for segment, (first, last) in zip(segments, spans, strict=True)
    )
    return joints, actions


def measure(joints: np.ndarray, facts: dict, start: int, end: int) -> dict[str, float]:
    """Measure the speed, displacement and turn of an action between two frames of joints (T, 22, 3).

    speed_mps is the median over the middle half, without start and stop.
    """
    action, found = facts["action"], {}
    root = joints[:, 0][:, (0, 2)]
    if action in ("walk", "run", "sidestep"):
        quarter = (end - start) // 4
        pace = np.linalg.norm(np.diff(root[start + quarter : end - quarter + 1], axis=0), axis=-1) * FPS
        found["speed_mps"] = round(float(np.median(pace)), 3)
    if action in ("walk", "run", "sidestep", "jump"):
        found["distance_m"] = round(float(np.linalg.norm(root[end] - root[start])), 3)
    if "angle_deg" in facts:
        across = joints[:, JOINT["left_hip"]] - joints[:, JOINT["right_hip"]]
        yaw = np.degrees(np.unwrap(np.arctan2(-across[:, 2], across[:, 0])))
        found["turned_deg"] = round(float(yaw[end] - yaw[start]), 1)
    if action in ("bow", "crouch", "sit", "stand_up", "sit_stand", "jump"):
        height = joints[start : end + 1, JOINT["head"], 1]
        found["head_range_m"] = round(float(height.max() - height.min()), 3)
    return found


def is_held_out(actions: Sequence[dict]) -> bool:
    """Whether a clip shows a combination that is reserved for the test split."""
    cell = any(all(facts.get(k) == v for k, v in held.items()) for facts in actions for held in HELD_OUT)
    orders = {(a["action"], b["action"]) for a, b in itertools.pairwise(actions)}
    return cell or bool(orders & set(HELD_OUT_ORDERS))


def _split(seed: int, index: int) -> str:
    """The split of a clip that is not held out, by a hash of its index; held-out clips are part of the test share."""
    train, val, test = FRACTIONS
    digest = hashlib.blake2b(f"{seed}:{index}".encode(), digest_size=8).digest()
    place = int.from_bytes(digest, "big") / 2**64 * (train + val + (test - HELD_OUT_SHARE))
    return "train" if place < train else "val" if place < train + val else "test"


def makes_held_out(index: int, seed: int = 0) -> bool:
    """Whether `make` gives a clip of a held-out combination, without making its motion."""
    rng = np.random.default_rng([seed, index])
    return is_held_out([segment.facts for segment in _draw(Style.draw(rng), rng)])


def make(index: int, seed: int = 0) -> ProceduralClip:
    """Make one clip, which depends on the index and the seed only."""
    rng = np.random.default_rng([seed, index])
    style = Style.draw(rng)
    joints, actions = _perform(_draw(style, rng), style, rng)
    held_out = is_held_out(actions)
    captions = describe(actions, rng)
    if held_out:
        actions = ({**actions[0], "unseen_combination": True}, *actions[1:])
    family = actions[0]["action"] if len(actions) == 1 else "sequence"
    split = "test" if held_out else _split(seed, index)
    return ProceduralClip(f"{family}_{index:06d}", joints.astype(np.float32), captions, actions, split)


def generate(clips: int, seed: int = 0) -> Iterator[ProceduralClip]:
    """Generate captioned motions one by one; a larger number of clips appends clips and keeps the first ones."""
    for index in range(clips):
        yield make(index, seed)
