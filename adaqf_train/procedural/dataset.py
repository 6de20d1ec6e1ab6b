"""The procedural data set: which actions with which attributes, in which split.

Few actions with many attribute values each, so that a pool of clips holds many minimal pairs: captions that differ in
left/right, slowly/quickly, once/twice/three times, forward/backward or first/then only.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from adaqf_train.procedural import arms, gait, whole_body
from adaqf_train.procedural.captions import describe
from adaqf_train.procedural.measure import measure
from adaqf_train.procedural.score import FPS, Score, Segment, Style

SHORTEST, LONGEST = 44, 120  # frames
SPLITS = ("train", "val", "test")
FRACTIONS = (0.75, 0.08, 0.17)
LARGEST_HEADING = 145  # degrees from frame 0: the features' rotations are singular at 180
SPEED = (("slow", 0.36), ("normal", 0.28), ("fast", 0.36))
COUNT = ((1, 0.34), (2, 0.33), (3, 0.33))
SIDE = (("left", 0.5), ("right", 0.5))
SIDE_OR_BOTH = (("left", 0.42), ("right", 0.42), ("both", 0.16))
SEQUENCE_SPEED = (("slow", 0.1), ("normal", 0.6), ("fast", 0.3))  # slow ones would not fit in six seconds
SEQUENCE_COUNT = ((1, 0.6), (2, 0.4))

# Combinations that occur in the test split only, so that composition can be reported separately. About 5 % of clips.
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
class SyntheticClip:
    """A captioned motion and the facts it was made from.

    joints: (T, 22, 3) float32, metres, Y up, 20 frames per second; frame 0 stands over the origin facing +Z.
    actions: in order, JSON-serialisable; `start` and `end` are frames.
    """

    name: str
    joints: np.ndarray
    captions: tuple[str, ...]
    actions: tuple[dict, ...]
    split: str


def _pick(rng: np.random.Generator, options: Sequence[tuple]):
    """One of (value, probability) pairs."""
    values, weights = zip(*options, strict=True)
    return values[int(rng.choice(len(values), p=np.array(weights) / sum(weights)))]


Maker = Callable[[Style, np.random.Generator, bool], Segment]


def _speed(rng: np.random.Generator, short: bool) -> str:
    return _pick(rng, SEQUENCE_SPEED if short else SPEED)


def _count(rng: np.random.Generator, short: bool) -> int:
    return _pick(rng, SEQUENCE_COUNT if short else COUNT)


def _walk(style: Style, rng: np.random.Generator, short: bool) -> Segment:
    direction, speed = _pick(rng, (("forward", 0.5), ("backward", 0.5))), _speed(rng, short)
    seconds = float(rng.uniform(1.9, 2.4) if short else rng.uniform(2.4, 4.0))
    return gait.locomotion(style, rng, "walk", direction, speed, seconds)


def _bent_walk(style: Style, rng: np.random.Generator, short: bool) -> Segment:
    path, side, speed = str(rng.choice(("curve", "corner"))), _pick(rng, SIDE), _speed(rng, short)
    angle = 90 if path == "curve" else int(rng.choice((45, 90, 135)))
    seconds = float(rng.uniform(2.9, 4.2))
    return gait.locomotion(style, rng, "walk", "forward", speed, seconds, path=path, side=side, angle_deg=angle)


def _run(style: Style, rng: np.random.Generator, short: bool) -> Segment:
    seconds, speed = float(rng.uniform(2.4, 3.4)), _speed(rng, short)
    if rng.random() < 0.5:
        return gait.locomotion(style, rng, "run", "forward", speed, seconds)
    side = _pick(rng, SIDE)
    return gait.locomotion(style, rng, "run", "forward", speed, seconds, path="curve", side=side, angle_deg=90)


def _sidestep(style: Style, rng: np.random.Generator, short: bool) -> Segment:
    seconds = float(rng.uniform(1.3, 2.0) if short else rng.uniform(2.2, 4.0))
    return gait.locomotion(style, rng, "walk", _pick(rng, SIDE), _speed(rng, short), seconds)


def _turn(style: Style, rng: np.random.Generator, short: bool) -> Segment:
    return gait.turn(style, rng, _pick(rng, SIDE), int(rng.choice((45, 90, 135))), _speed(rng, short))


def _raise_arm(style: Style, rng: np.random.Generator, short: bool) -> Segment:
    height, direction = str(rng.choice(("shoulder", "overhead"))), str(rng.choice(("forward", "side")))
    side = _pick(rng, SIDE_OR_BOTH)
    return arms.raise_arm(style, rng, side, height, direction, _speed(rng, short), _count(rng, short))


def _hold_arm(style: Style, rng: np.random.Generator, short: bool) -> Segment:
    action, side = str(rng.choice(("lift_arm", "lower_arm"))), _pick(rng, SIDE_OR_BOTH)
    height, direction = str(rng.choice(("shoulder", "overhead"))), str(rng.choice(("forward", "side")))
    return arms.hold_arm(style, rng, action, side, height, direction, _speed(rng, short))


def _wave(style: Style, rng: np.random.Generator, short: bool) -> Segment:
    return arms.wave(style, rng, _pick(rng, SIDE_OR_BOTH), _speed(rng, short), _count(rng, short))


def _punch(style: Style, rng: np.random.Generator, short: bool) -> Segment:
    return arms.punch(style, rng, _pick(rng, SIDE), _speed(rng, short), _count(rng, short))


def _bow(style: Style, rng: np.random.Generator, short: bool) -> Segment:
    return whole_body.bow(style, rng, str(rng.choice(("slight", "deep"))), _speed(rng, short), _count(rng, short))


def _crouch(style: Style, rng: np.random.Generator, short: bool) -> Segment:
    return whole_body.crouch(style, rng, str(rng.choice(("slight", "deep"))), _speed(rng, short), _count(rng, short))


def _jump(style: Style, rng: np.random.Generator, short: bool) -> Segment:
    direction, amplitude = str(rng.choice(("up", "forward"))), str(rng.choice(("low", "high")))
    return whole_body.jump(style, rng, direction, amplitude, _count(rng, short))


def _kick(style: Style, rng: np.random.Generator, short: bool) -> Segment:
    amplitude = str(rng.choice(("low", "high")))
    return whole_body.kick(style, rng, _pick(rng, SIDE), amplitude, _speed(rng, short), _count(rng, short))


def _sit(style: Style, rng: np.random.Generator, short: bool) -> Segment:
    return whole_body.sit(style, rng, str(rng.choice(("sit", "stand_up", "sit_stand"))), _speed(rng, short))


def _one_leg(style: Style, rng: np.random.Generator, short: bool) -> Segment:
    return whole_body.one_leg(style, rng, _pick(rng, SIDE), _speed(rng, short))


def _idle(style: Style, rng: np.random.Generator, short: bool) -> Segment:
    return whole_body.idle(style, rng)


# Share of each family: 35 % locomotion, 35 % arms, 15 % whole body, 15 % sequences.
SINGLE: tuple[tuple[Maker, float], ...] = (
    *((_walk, 0.11), (_bent_walk, 0.07), (_run, 0.06), (_sidestep, 0.06), (_turn, 0.06)),
    *((_raise_arm, 0.12), (_hold_arm, 0.05), (_wave, 0.10), (_punch, 0.09)),
    *((_bow, 0.03), (_crouch, 0.02), (_jump, 0.03), (_kick, 0.03), (_sit, 0.025), (_one_leg, 0.015), (_idle, 0.01)),
)
SEQUENCE_SHARE = 0.15
THREE_SHARE = 0.12  # of sequences
IN_SEQUENCES: tuple[tuple[Maker, float], ...] = (
    *((_walk, 0.18), (_sidestep, 0.08), (_turn, 0.16), (_raise_arm, 0.14), (_wave, 0.12), (_punch, 0.08)),
    *((_bow, 0.07), (_jump, 0.06), (_kick, 0.06), (_crouch, 0.05)),
)


def _heading_of(segment: Segment) -> float:
    facts = segment.facts
    return {"left": 1, "right": -1}[facts["side"]] * facts["angle_deg"] if "angle_deg" in facts else 0.0


def _same(first: dict, second: dict) -> bool:
    """Whether two actions in a row read as one: the same, with neither side nor direction to tell them apart."""
    return all(first.get(key) == second.get(key) for key in ("action", "side", "direction"))


def _fits(segments: list[Segment]) -> bool:
    headings = np.cumsum([_heading_of(segment) for segment in segments])
    seconds = sum(segment.duration for segment in segments) + 0.35 + 0.1 * len(segments)
    repeated = any(_same(a.facts, b.facts) for a, b in itertools.pairwise(segments))
    return seconds * FPS <= LONGEST - 1 and np.abs(headings).max() <= LARGEST_HEADING and not repeated


def _draw(style: Style, rng: np.random.Generator) -> list[Segment]:
    """The segments of one clip; what does not fit in six seconds is drawn again."""
    length = 1
    if rng.random() < SEQUENCE_SHARE:
        length = 3 if rng.random() < THREE_SHARE else 2
    while True:
        if length == 1:
            segments = [_pick(rng, SINGLE)(style, rng, False)]
        else:
            segments = [_pick(rng, IN_SEQUENCES)(style, rng, True) for _ in range(length)]
        if _fits(segments):
            return segments


def _perform(segments: list[Segment], style: Style, rng: np.random.Generator) -> tuple[np.ndarray, tuple[dict, ...]]:
    """Joints (T, 22, 3) and the facts, with frames and measurements."""
    gaps = rng.uniform(-0.06, 0.08, len(segments) - 1)
    busy = sum(segment.duration for segment in segments) + gaps.sum()
    lead, tail = rng.uniform(0.1, 0.4), rng.uniform(0.2, 0.55)
    spare = max(SHORTEST / FPS - busy, 0.0)
    lead += spare * rng.uniform(0.2, 0.5)
    frames = int(np.clip(np.ceil((lead + busy + tail + 0.6 * spare) * FPS), SHORTEST, LONGEST))
    lead = min(lead, frames / FPS - busy - 0.1)
    score, start, spans = Score(frames, style), lead, []
    for segment, gap in zip(segments, (*gaps, 0.0), strict=True):
        segment.write(score, start)
        spans.append((max(int(start * FPS), 0), min(int(np.ceil((start + segment.duration) * FPS)), frames - 1)))
        start += segment.duration + gap
    joints = score.perform()
    actions = tuple(
        {**segment.facts, "start": first, "end": last, **measure(joints, segment.facts, first, last)}
        for segment, (first, last) in zip(segments, spans, strict=True)
    )
    return joints, actions


def is_held_out(actions: Sequence[dict]) -> bool:
    """Whether a clip shows a combination that training must not see."""
    cell = any(all(facts.get(k) == v for k, v in held.items()) for facts in actions for held in HELD_OUT)
    orders = {(a["action"], b["action"]) for a, b in itertools.pairwise(actions)}
    return cell or bool(orders & set(HELD_OUT_ORDERS))


def _split(seed: int, index: int, held_out: bool, fractions: tuple[float, float, float]) -> str:
    """By a hash of the index. Held-out clips count towards the test fraction."""
    train, val, test = fractions
    if held_out and test > 0:
        return "test"
    digest = hashlib.blake2b(f"{seed}:{index}".encode(), digest_size=8).digest()
    place = int.from_bytes(digest, "big") / 2**64
    test = max(test - HELD_OUT_SHARE, 0.0)
    place *= train + val + test
    return "train" if place < train else "val" if place < train + val else "test"


def make(index: int, seed: int = 0, fractions: tuple[float, float, float] = FRACTIONS) -> SyntheticClip:
    """Clip `index` of the data set `seed`; it depends on nothing else."""
    rng = np.random.default_rng([seed, index])
    style = Style.draw(rng)
    joints, actions = _perform(_draw(style, rng), style, rng)
    held_out = is_held_out(actions)
    split = _split(seed, index, held_out, fractions)
    captions = describe(actions, rng)
    if held_out and split == "test":
        actions = ({**actions[0], "unseen_combination": True}, *actions[1:])
    family = actions[0]["action"] if len(actions) == 1 else "sequence"
    return SyntheticClip(f"{family}_{index:06d}", joints.astype(np.float32), captions, actions, split)


def generate(clips: int, seed: int = 0, fractions: tuple[float, float, float] = FRACTIONS) -> Iterator[SyntheticClip]:
    """`clips` captioned motions, one after another; the first n are the same whatever `clips` is."""
    for index in range(clips):
        yield make(index, seed, fractions)
