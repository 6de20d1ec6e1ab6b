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
from adaqf_train.procedural.captions import describe
from adaqf_train.procedural.measure import measure
from adaqf_train.procedural.timeline import FPS, Segment, Style, Timeline

SHORTEST, LONGEST = 44, 120  # frames
SPLITS = ("train", "val", "test")
FRACTIONS = (0.75, 0.08, 0.17)
LARGEST_HEADING = 145  # degrees from frame 0: the features' rotations are singular at 180
SPEED = (("slow", 0.36), ("normal", 0.28), ("fast", 0.36))
COUNT = ((1, 0.34), (2, 0.33), (3, 0.33))
SIDE = (("left", 0.5), ("right", 0.5))
DIRECTION = (("forward", 0.5), ("backward", 0.5))
SIDE_OR_BOTH = (("left", 0.42), ("right", 0.42), ("both", 0.16))
SEQUENCE_SPEED = (("slow", 0.1), ("normal", 0.6), ("fast", 0.3))  # slow actions would not fit in six seconds
SEQUENCE_COUNT = ((1, 0.6), (2, 0.4))

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


def _pick(rng: np.random.Generator, options: Sequence[tuple]):
    """One of (value, probability) pairs."""
    values, weights = zip(*options, strict=True)
    return values[int(rng.choice(len(values), p=np.array(weights) / sum(weights)))]


@dataclass(frozen=True)
class _Draw:
    """Draw the attributes of one action; those of actions in a sequence are shorter."""

    style: Style
    rng: np.random.Generator
    in_sequence: bool

    def either(self, *options: str) -> str:
        return str(self.rng.choice(options))

    def seconds(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def side(self) -> str:
        return _pick(self.rng, SIDE)

    def sides(self) -> str:
        return _pick(self.rng, SIDE_OR_BOTH)

    def angle(self) -> int:
        return int(self.rng.choice((45, 90, 135)))

    def speed(self) -> str:
        return _pick(self.rng, SEQUENCE_SPEED if self.in_sequence else SPEED)

    def count(self) -> int:
        return _pick(self.rng, SEQUENCE_COUNT if self.in_sequence else COUNT)

    def make(self, action: Callable[..., Segment], *attributes: object, **bend: object) -> Segment:
        return action(self.style, self.rng, *attributes, **bend)


def _walk(draw: _Draw) -> Segment:
    direction, speed = _pick(draw.rng, DIRECTION), draw.speed()
    seconds = draw.seconds(1.9, 2.4) if draw.in_sequence else draw.seconds(2.4, 4.0)
    return draw.make(gait.locomotion, "walk", direction, speed, seconds)


def _bent_walk(draw: _Draw) -> Segment:
    path, side, speed = draw.either("curve", "corner"), draw.side(), draw.speed()
    angle = 90 if path == "curve" else draw.angle()
    seconds = draw.seconds(2.9, 4.2)
    return draw.make(gait.locomotion, "walk", "forward", speed, seconds, path=path, side=side, angle_deg=angle)


def _run(draw: _Draw) -> Segment:
    seconds, speed = draw.seconds(2.4, 3.4), draw.speed()
    bend = {} if draw.rng.random() < 0.5 else {"path": "curve", "side": draw.side(), "angle_deg": 90}
    return draw.make(gait.locomotion, "run", "forward", speed, seconds, **bend)


def _sidestep(draw: _Draw) -> Segment:
    seconds = draw.seconds(1.3, 2.0) if draw.in_sequence else draw.seconds(2.2, 4.0)
    return draw.make(gait.locomotion, "walk", draw.side(), draw.speed(), seconds)


def _raise_arm(draw: _Draw) -> Segment:
    height, direction = draw.either("shoulder", "overhead"), draw.either("forward", "side")
    return draw.make(arms.raise_arm, draw.sides(), height, direction, draw.speed(), draw.count())


def _hold_arm(draw: _Draw) -> Segment:
    action, side = draw.either("lift_arm", "lower_arm"), draw.sides()
    height, direction = draw.either("shoulder", "overhead"), draw.either("forward", "side")
    return draw.make(arms.hold_arm, action, side, height, direction, draw.speed())


def _kick(draw: _Draw) -> Segment:
    amplitude = draw.either("low", "high")
    return draw.make(whole_body.kick, draw.side(), amplitude, draw.speed(), draw.count())


# The order of the draws determines the data set: another order changes every clip.
MAKERS: dict[str, Callable[[_Draw], Segment]] = {
    "walk": _walk,
    "bent_walk": _bent_walk,
    "run": _run,
    "sidestep": _sidestep,
    "turn": lambda draw: draw.make(gait.turn, draw.side(), draw.angle(), draw.speed()),
    "raise_arm": _raise_arm,
    "hold_arm": _hold_arm,
    "wave": lambda draw: draw.make(arms.wave, draw.sides(), draw.speed(), draw.count()),
    "punch": lambda draw: draw.make(arms.punch, draw.side(), draw.speed(), draw.count()),
    "bow": lambda draw: draw.make(whole_body.bow, draw.either("slight", "deep"), draw.speed(), draw.count()),
    "crouch": lambda draw: draw.make(whole_body.crouch, draw.either("slight", "deep"), draw.speed(), draw.count()),
    "jump": lambda d: d.make(whole_body.jump, d.either("up", "forward"), d.either("low", "high"), d.count()),
    "kick": _kick,
    "sit": lambda draw: draw.make(whole_body.sit, draw.either("sit", "stand_up", "sit_stand"), draw.speed()),
    "one_leg": lambda draw: draw.make(whole_body.one_leg, draw.side(), draw.speed()),
    "idle": lambda draw: draw.make(whole_body.idle),
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


def _heading_of(segment: Segment) -> float:
    facts = segment.facts
    return {"left": 1, "right": -1}[facts["side"]] * facts["angle_deg"] if "angle_deg" in facts else 0.0


def _same(first: dict, second: dict) -> bool:
    """Whether two successive actions read as one: same action, side and direction."""
    return all(first.get(key) == second.get(key) for key in ("action", "side", "direction"))


def _fits(segments: list[Segment]) -> bool:
    headings = np.cumsum([_heading_of(segment) for segment in segments])
    seconds = sum(segment.duration for segment in segments) + 0.35 + 0.1 * len(segments)
    repeated = any(_same(a.facts, b.facts) for a, b in itertools.pairwise(segments))
    return seconds * FPS <= LONGEST - 1 and np.abs(headings).max() <= LARGEST_HEADING and not repeated


def _draw(style: Style, rng: np.random.Generator) -> list[Segment]:
    """The segments of one clip, drawn until they fit in six seconds."""
    length = 1
    if rng.random() < SEQUENCE_SHARE:
        length = 3 if rng.random() < THREE_SHARE else 2
    while True:
        table, draw = (SINGLE if length == 1 else IN_SEQUENCES), _Draw(style, rng, in_sequence=length > 1)
        segments = [MAKERS[_pick(rng, table)](draw) for _ in range(length)]
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


def is_held_out(actions: Sequence[dict]) -> bool:
    """Whether a clip shows a combination that is reserved for the test split."""
    cell = any(all(facts.get(k) == v for k, v in held.items()) for facts in actions for held in HELD_OUT)
    orders = {(a["action"], b["action"]) for a, b in itertools.pairwise(actions)}
    return cell or bool(orders & set(HELD_OUT_ORDERS))


def _split(seed: int, index: int, held_out: bool, fractions: tuple[float, float, float]) -> str:
    """The split of a clip by a hash of its index; held-out clips count towards the test fraction."""
    train, val, test = fractions
    if held_out and test > 0:
        return "test"
    digest = hashlib.blake2b(f"{seed}:{index}".encode(), digest_size=8).digest()
    place = int.from_bytes(digest, "big") / 2**64
    test = max(test - HELD_OUT_SHARE, 0.0)
    place *= train + val + test
    return "train" if place < train else "val" if place < train + val else "test"


def make(index: int, seed: int = 0, fractions: tuple[float, float, float] = FRACTIONS) -> ProceduralClip:
    """Make one clip, which depends on the index, the seed and the fractions of the splits only."""
    rng = np.random.default_rng([seed, index])
    style = Style.draw(rng)
    joints, actions = _perform(_draw(style, rng), style, rng)
    held_out = is_held_out(actions)
    split = _split(seed, index, held_out, fractions)
    captions = describe(actions, rng)
    if held_out and split == "test":
        actions = ({**actions[0], "unseen_combination": True}, *actions[1:])
    family = actions[0]["action"] if len(actions) == 1 else "sequence"
    return ProceduralClip(f"{family}_{index:06d}", joints.astype(np.float32), captions, actions, split)


def generate(clips: int, seed: int = 0, fractions: tuple[float, float, float] = FRACTIONS) -> Iterator[ProceduralClip]:
    """Generate captioned motions one by one.

    Args:
        clips: Number of clips; a larger number appends clips and keeps the first ones.
        seed: Names the data set.
        fractions: Shares of train, val and test.

    Yields:
        The clips, in order of their index.
    """
    for index in range(clips):
        yield make(index, seed, fractions)
