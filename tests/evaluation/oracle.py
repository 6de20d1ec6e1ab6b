"""An evaluator and a model that know the right answers, for tests of the protocol and the report."""

from __future__ import annotations

import numpy as np

from adaqf_train import procedural as synthetic
from adaqf_train.config import EvaluationConfig
from tests.conftest import TINY_CLIPS

CONFIG = EvaluationConfig(split="val", replications=3, pool=8, multimodality_texts=None)


class Oracle:
    """An evaluator that knows which caption belongs to which clip: embeds both as the clip's mean features."""

    width, batch = 8, 128

    def __init__(self, dataset) -> None:
        self.of_caption = {c: self._embed(item.vectors) for item in dataset.items for c in item.captions}

    def embed_texts(self, texts):
        # A flipped caption is no clip's: it lies far from all of them.
        return np.stack([self.of_caption.get(text, np.full(8, 9.0)) for text in texts])

    def embed_motions(self, motions):
        return np.stack([self._embed(motion) for motion in motions])

    @staticmethod
    def _embed(vectors):
        return vectors[:, 4:12].mean(axis=0).astype(np.float64)


def copying(dataset, config):
    """A perfect model: returns the real clip of each caption."""
    of_caption = {c: item.vectors for item in dataset.items for c in item.captions}
    return lambda captions, lengths, seed: [of_caption[c][:n] for c, n in zip(captions, lengths, strict=True)]


class WithUnseen:
    """The data set with what its clips show, its first item and every so-manieth after marked as unseen in training."""

    def __init__(self, dataset, every: int) -> None:
        self.dataset = dataset
        self.actions = {clip.name: clip.actions for clip in synthetic.generate(TINY_CLIPS, seed=5)}
        self.unseen = {item.key for item in dataset.items[::every]}

    def __getattr__(self, name):
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.dataset)

    def parameters(self, item):
        return [action | {"unseen_combination": item.key in self.unseen} for action in self.actions[item.key]]
