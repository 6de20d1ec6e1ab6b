"""Minimal pairs: they distinguish an evaluator that reads the flipped word from one that does not."""

from __future__ import annotations

import numpy as np
import pytest

from adaqf_train.evaluation.report import void_reason
from adaqf_train.evaluation.scores import minimal_pair_accuracy

CAPTIONS = ["raises the left arm", "raises the right arm", "sits down", "turns to the left"]
MOTIONS = [np.full((4, 1), side) for side in (1.0, -1.0, 0.0, 1.0)]


class Reader:
    """Embeds a text by the side it names, a motion by its value."""

    def __init__(self, sign: float = 1.0) -> None:
        self.sign = sign

    def embed_texts(self, texts):
        return np.array([[self.sign * (("left" in text) - ("right" in text)), 1.0] for text in texts])

    def embed_motions(self, motions):
        return np.array([[motion.mean(), 1.0] for motion in motions])


def test_minimal_pairs_distinguish_a_reader_from_its_opposite():
    assert minimal_pair_accuracy(Reader(), MOTIONS, CAPTIONS) == 1.0
    assert minimal_pair_accuracy(Reader(-1.0), MOTIONS, CAPTIONS) == 0.0
    swapped = [MOTIONS[1], MOTIONS[0], *MOTIONS[2:]]
    assert minimal_pair_accuracy(Reader(), swapped, CAPTIONS) == pytest.approx(1 / 3)


def test_minimal_pairs_count_ties_as_wrong():
    assert minimal_pair_accuracy(Reader(0.0), MOTIONS, CAPTIONS) == 0.0


def test_minimal_pairs_omit_captions_without_a_word_to_flip():
    assert minimal_pair_accuracy(Reader(), MOTIONS[2:3], CAPTIONS[2:3]) is None


def test_minimal_pairs_refuse_unequal_numbers_and_broken_embeddings():
    with pytest.raises(ValueError, match="one caption a motion"):
        minimal_pair_accuracy(Reader(), MOTIONS, CAPTIONS[:2])
    with pytest.raises(ValueError, match="NaN"):
        minimal_pair_accuracy(Reader(np.nan), MOTIONS, CAPTIONS)


def test_void_reason_of_an_evaluator_that_fails_on_real_motions():
    assert void_reason(0.93) is None
    assert "below 0.9" in void_reason(0.81)
    assert "no caption" in void_reason(None)
