"""A data set in the place of one that is not at hand: noise of the right shapes, with captions that say something."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adaqf_train.config import DataConfig, RunConfig
from adaqf_train.data.dataset import Item
from adaqf_train.motion.skeleton import HUMANML3D, KIT, Skeleton
from adaqf_train.procedural import generate
from adaqf_train.procedural.dataset import FRACTIONS

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
    """What `StepBatches` asks of a data set: clips of given lengths with given captions, in turn."""

    folder, split = Path("stand-in"), "train"

    def __init__(
        self, config: DataConfig, features: int, lengths: Sequence[int], captions: Sequence[Sequence[str]]
    ) -> None:
        """features: their width; lengths: frames of each clip; captions: of clips, taken in turn."""
        self.config, self.features = config, features
        noise = np.random.default_rng(0).standard_normal((max(lengths), features), dtype=np.float32)
        self.items = [
            Item(f"{i}", noise[:length], tuple(captions[i % len(captions)]), "") for i, length in enumerate(lengths)
        ]

    def __len__(self) -> int:
        return len(self.items)

    def normalise(self, vectors: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        return np.divide(vectors, 1.0, out=out)

    def captions(self) -> list[str]:
        return [caption for item in self.items for caption in item.captions]


def stand_in(config: RunConfig, seed: int = 0) -> tuple[StandIn, int, str]:
    """A data set like the recipe's, how many samples an evaluation of it has, and what its lengths rest on."""
    clips, rng = list(generate(PROCEDURAL, seed)), np.random.default_rng(seed)
    captions = [clip.captions for clip in clips]
    if (known := KNOWN.get(config.recipe)) is not None:
        lengths = _lengths(config.data, known.seconds * known.skeleton.fps, rng)
        source = f"no data given; {known.source}, and procedural captions"
        return StandIn(config.data, known.skeleton.features, lengths, captions), known.test, source
    lengths = rng.choice([len(clip.joints) - 1 for clip in clips], ITEMS)
    test = round(FRACTIONS[2] * config.synthetic.clips)
    return StandIn(config.data, HUMANML3D.features, lengths, captions), test, "no data given; those of the demo"


def _lengths(config: DataConfig, mean: float, rng: np.random.Generator) -> np.ndarray:
    """Frames of ITEMS clips with that mean: some as long as allowed, as where clips were cut, the others uniform."""
    shortest, longest = config.min_frames, config.max_frames - 1
    middle = (shortest + longest) / 2
    share = np.clip((mean - middle) / (longest - middle), 0, 1)
    uniform = rng.integers(shortest, longest + 1, ITEMS)
    return np.where(rng.random(ITEMS) < share, longest, uniform)
