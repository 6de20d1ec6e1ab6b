"""Flipped captions: one dynamic word differs, and the sentence stays a sentence."""

from __future__ import annotations

import re

import pytest

from adaqf_train.data.wording import flip_dynamic_word, flips
from adaqf_train.procedural import generate


@pytest.mark.parametrize(
    ("caption", "flipped"),
    [
        ("a person raises the left arm", "a person raises the right arm"),
        ("Left foot first", "Right foot first"),
        ("someone slowly bows", "someone quickly bows"),
        ("someone rapidly bows", "someone slowly bows"),
        ("a person walks at a slow pace", "a person walks at a fast pace"),
        ("a person makes a quick turn", "a person makes a slow turn"),
        ("a person walks forward", "a person walks backward"),
        ("a person spins clockwise", "a person spins counterclockwise"),
        ("a person spins anti-clockwise", "a person spins clockwise"),
        ("a person bows before waving", "a person bows after waving"),
    ],
)
def test_flip_dynamic_word_flips_a_word(caption, flipped):
    assert flips(caption) == [flipped]
    assert flip_dynamic_word(caption) == flipped


def test_flips_of_counts_have_the_right_plural():
    assert flips("a person bows once") == ["a person bows three times", "a person bows twice"]
    assert flips("a person gives a single quick wave")[1:] == [
        "a person gives two quick wave".replace("wave", "waves"),
        "a person gives a single slow wave",
    ]
    assert "a person throws one punch" in flips("a person throws two punches")
    assert "a person throws three punches" in flips("a person throws two punches")


@pytest.mark.parametrize(
    "caption",
    [
        "a person is left alone",
        "the person walks right away",
        "a person looks exhausted after hard work",
        "a person raises an arm forward to shoulder height",
        "a person sits down",
        "a person raises one arm and waves",
    ],
)
def test_flip_dynamic_word_needs_a_dynamic_word(caption):
    assert flips(caption) == []
    assert flip_dynamic_word(caption) is None


def test_flips_of_procedural_captions_differ_in_one_place_and_are_repeatable():
    flipped = 0
    for clip in generate(60, seed=4):
        for caption in clip.captions:
            other = flip_dynamic_word(caption)
            assert other == flip_dynamic_word(caption)
            if other is None:
                assert not re.search(r"\b(left|right|slowly|quickly|twice|three times)\b", caption), caption
                continue
            flipped += 1
            words, others = caption.split(), other.split()
            first = next(i for i, (a, b) in enumerate(zip(words, others, strict=False)) if a != b)
            last = next(i for i, (a, b) in enumerate(zip(words[::-1], others[::-1], strict=False)) if a != b)
            assert max(len(words), len(others)) - first - last <= 5, (caption, other)
            assert len(set(flips(caption))) == len(flips(caption))
    assert flipped > 150
