"""Whether a motion that a judge scores higher is also better: a test of a feedback before training with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import cosine_similarity

from adaqf_train.data.batches import pad
from adaqf_train.judges.base import Evaluator
from adaqf_train.judges.contrastive import step_along
from adaqf_train.motion.features import decode
from adaqf_train.motion.skeleton import Skeleton

STEP = 0.138  # rms of a step on normalised features; real motions of one caption lie about 1.2 apart
LEAST_SHARE, MOST_JERK = 0.5, 1.3  # of a judge that is fit to give feedback


@dataclass(frozen=True)
class Pleased:
    """Mean cosines of motions and their captions by two judges, before and after a step that pleases the first."""

    judge: tuple[float, float]
    evaluator: tuple[float, float]
    jerk: tuple[float, float]  # mean magnitude, m/s³

    @property
    def share(self) -> float:
        """Rise of the evaluator's cosine over that of the judge's: 1 if both agree, 0 if the judge was exploited."""
        gained = self.judge[1] - self.judge[0]
        return (self.evaluator[1] - self.evaluator[0]) / gained if gained > 0 else float("nan")

    @property
    def jerk_ratio(self) -> float:
        """Jerk after the step over the jerk before it."""
        return self.jerk[1] / self.jerk[0]

    def lines(self) -> list[str]:
        """The figures and the verdict, for a reader."""
        names = {"feedback's judge, mean cosine": self.judge, "evaluator, mean cosine": self.evaluator}
        lines = [f"| {name} | {a:.3f} | {b:.3f} |" for name, (a, b) in names.items()]
        lines.append(f"| mean jerk, m/s³ | {self.jerk[0]:.1f} | {self.jerk[1]:.1f} |")
        verdict = "passes" if self.passes else "does not pass"
        return [
            "| | before | after a step that pleases the judge |",
            "|---|--:|--:|",
            *lines,
            "",
            f"The judge {verdict}: the evaluator gains {self.share:.2f} of what the judge gains (at least "
            f"{LEAST_SHARE:g}), and jerk grows by {self.jerk_ratio:.2f} (at most {MOST_JERK:g}).",
        ]

    @property
    def passes(self) -> bool:
        """Whether pleasing the judge pleases the evaluator by at least half as much, and shakes the body little."""
        return self.share >= LEAST_SHARE and self.jerk_ratio <= MOST_JERK


def probe(
    judge: Evaluator,
    evaluator: Evaluator,
    captions: Sequence[str],
    motions: Sequence[np.ndarray],
    skeleton: Skeleton,
    size: float = STEP,
) -> Pleased:
    """Take one step along the gradient of a judge's cosine between motions and captions, and let another judge look.

    Args:
        judge: The judge that gives feedback.
        evaluator: An independent one.
        captions: N captions.
        motions: Their motions, such as a baseline's: N arrays of de-normalised features (T_i, D).
        skeleton: Of the motions.
        size: Root mean square of the step on the judge's normalised features, the same for each clip.

    Returns:
        What both judges say before and after the step, and the jerk.
    """
    moved = [
        step for start in range(0, len(motions), judge.batch) for step in _moved(judge, captions, motions, start, size)
    ]
    cosines = [tuple(_cosine(each, captions, clips) for clips in (motions, moved)) for each in (judge, evaluator)]
    jerks = tuple(_jerk(clips, skeleton) for clips in (motions, moved))
    return Pleased(*cosines, jerks)


def _moved(
    judge: Evaluator, captions: Sequence[str], motions: Sequence[np.ndarray], start: int, size: float
) -> list[np.ndarray]:
    rows = slice(start, start + judge.batch)
    own, device = motions[rows], next(judge.towers.parameters()).device
    motion, mask = pad([(clip - judge.mean) / judge.std for clip in own])
    motion, mask = motion.to(device).requires_grad_(), mask.to(device)
    text = torch.from_numpy(judge.embed_texts(captions[rows])).float().to(device)
    (gradient,) = torch.autograd.grad(cosine_similarity(judge.towers.embed_motion(motion, mask), text).sum(), motion)
    found = (motion.detach() + step_along(gradient, mask, size)).cpu().numpy() * judge.std + judge.mean
    return [clip[: len(before)].astype(np.float32) for clip, before in zip(found, own, strict=True)]


def _cosine(judge: Evaluator, captions: Sequence[str], motions: Sequence[np.ndarray]) -> float:
    text, motion = judge.embed_texts(captions), judge.embed_motions(motions)
    return float(cosine_similarity(torch.from_numpy(text), torch.from_numpy(motion)).mean())


def _jerk(motions: Sequence[np.ndarray], skeleton: Skeleton) -> float:
    scale = skeleton.fps**3 / skeleton.units_per_metre
    sizes = [np.linalg.norm(np.diff(decode(clip), 3, axis=0), axis=-1).ravel() for clip in motions if len(clip) > 3]
    return float(np.concatenate(sizes).mean() * scale)
