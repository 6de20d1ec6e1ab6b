"""A data set in the place of one that is not at hand: noise of the right shapes, with captions that say something."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adaqf_train.config import DataConfig, RunConfig
from adaqf_train.data.dataset import Item
from adaqf_train.motion.skeleton import HUMANML3D, KIT, Skeleton
from adaqf_train.motion.synthetic import generate

ITEMS = 4096  # several buckets of batches
PROCEDURAL = 160  # clips whose captions, and for small recipes lengths, are taken


@dataclass(frozen=True)
class Known:
    """What the papers say about a data set."""

    skeleton: Skeleton
    seconds: float  # of a clip, on average
    test: int  # samples of an evaluation
    source: str


KNOWN = {
    "humanml3d": Known(HUMANML3D, 7.1, 4_640, "Guo et al. 2022: clips of 7.1 s on average"),
    "kit": Known(KIT, 10.3, 830, "Plappert et al. 2016: 3,911 clips, 11.23 hours"),
}


class StandIn:
    """What `StepBatches` asks of a data set."""

    def __init__(self, config: RunConfig, seed: int = 0) -> None:
        known = KNOWN.get(config.recipe)
        self.config: DataConfig = config.data
        self.folder, self.split = Path(config.recipe), "stand-in"
        clips = list(generate(PROCEDURAL, seed))
        rng = np.random.default_rng(seed)
        if known:
            skeleton, self.test = known.skeleton, known.test
            self.source = f"no data given; {known.source}, and procedural captions"
            lengths = _lengths(config.data, known.seconds * skeleton.fps, rng)
        else:
            skeleton, self.test = HUMANML3D, round(0.17 * config.synthetic.clips)
            self.source = "no data given; the procedural data set"
            lengths = rng.choice([len(clip.joints) - 1 for clip in clips], ITEMS)
        self.features = skeleton.features
        noise = rng.standard_normal((config.data.max_frames, self.features), dtype=np.float32)
        self.items = [
            Item(f"{i}", noise[:length], clips[i % PROCEDURAL].captions, "") for i, length in enumerate(lengths)
        ]

    def __len__(self) -> int:
        return len(self.items)

    def normalise(self, vectors: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        return np.divide(vectors, 1.0, out=out)

    def captions(self) -> list[str]:
        return [caption for item in self.items for caption in item.captions]


def _lengths(config: DataConfig, mean: float, rng: np.random.Generator) -> np.ndarray:
    """Frames of ITEMS clips with that mean: some as long as allowed, as where clips were cut, the others uniform."""
    shortest, longest = config.min_frames, config.max_frames - 1
    middle = (shortest + longest) / 2
    share = np.clip((mean - middle) / (longest - middle), 0, 1)
    uniform = rng.integers(shortest, longest + 1, ITEMS)
    return np.where(rng.random(ITEMS) < share, longest, uniform)
