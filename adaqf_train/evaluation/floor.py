"""What the figures of a perfect model would be: yardsticks beside the ground truth.

The ground truth's FID compares crops of the same clips, so no model can reach it. A disjoint half of the real motions
can be no closer to the other half than a perfect model. A denoiser's x̂0 of real motions at the last timestep is the
best that sampling from that denoiser can end in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from adaqf_train.config import EvaluationConfig
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.evaluation import protocol
from adaqf_train.evaluation.embedder import Judges
from adaqf_train.evaluation.metrics import FEWEST_ROWS
from adaqf_train.evaluation.scores import score

# (real motions (T_i, D), captions, seed) -> x̂0 (T_i, D) of each, de-normalised
Denoise = Callable[[Sequence[np.ndarray], Sequence[str], tuple[int, ...]], Sequence[np.ndarray]]

_HALVES_SEED = 3  # after seed and replication


def disjoint_halves(keys: Sequence[str], rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """Split items at random into two halves of equal size that share no clip.

    keys: of the items; "NAME#…" are parts of the clip NAME, and "MNAME" is its mirrored copy. Items that would make the
    halves unequal are left out.
    """
    names = [key.partition("#")[0] for key in keys]
    known, groups = set(names), {}
    for row, name in enumerate(names):
        original = name[1:] if name.startswith("M") and name[1:] in known else name
        groups.setdefault(original, []).append(row)
    halves: tuple[list[int], list[int]] = [], []
    members = list(groups.values())
    for number in rng.permutation(len(members)):
        min(halves, key=len).extend(members[number])
    size = min(map(len, halves))
    return tuple([half[i] for i in rng.permutation(len(half))[:size]] for half in halves)


def evaluate_floor(
    dataset: MotionDataset, judges: Judges, config: EvaluationConfig, *, progress: Path | None = None
) -> protocol.Row:
    """Score one half of the real motions against the other half, as `protocol.evaluate` scores a model.

    Each replication draws other halves. Their FID is higher than that of the whole split, whose size is twice theirs:
    compare FID∞ and KID, which do not depend on the size. The row is empty if the items are parts of so few clips that
    some replication's halves are too small for FID∞. DataError if the split is too small.
    """
    protocol.check_samples(dataset)
    keys = [item.key for item in dataset.items]

    def generator(replication: int) -> np.random.Generator:
        return np.random.default_rng([config.seed, replication, _HALVES_SEED])

    sizes = [len(disjoint_halves(keys, generator(number))[0]) for number in range(config.replications)]
    if min(sizes) < FEWEST_ROWS:
        return {}

    def replicate(replication: int) -> dict[str, float]:
        rng = generator(replication)
        reference, scored = (protocol.captioned(dataset, half, rng) for half in disjoint_halves(keys, rng))
        return score(scored, reference.motions, dataset, judges, config, replication)

    return protocol.replicated(replicate, config.replications, progress)


def evaluate_denoised(
    denoise: Denoise,
    dataset: MotionDataset,
    judges: Judges,
    config: EvaluationConfig,
    *,
    sets: protocol.RealSets | None = None,
    progress: Path | None = None,
) -> protocol.Row:
    """Score what a denoiser makes of the real motions at the last timestep (`MDMGenerator.denoised`).

    The reference is the ground truth's: that of `sets`, or other crops of the same clips.
    """
    protocol.check_samples(dataset)

    def replicate(replication: int) -> dict[str, float]:
        real = protocol.draw(dataset, config, replication)
        clean = denoise(real.motions, real.captions, (config.seed, replication))
        others = protocol.draw(dataset, config, protocol.REFERENCE_REPLICATIONS + replication, whole=True).motions
        reference = others if sets is None else sets.reference
        return score(replace(real, motions=clean), reference, dataset, judges, config, replication, real=others)

    return protocol.replicated(replicate, config.replications, progress)
