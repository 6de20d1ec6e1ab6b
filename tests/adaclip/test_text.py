"""From prompts to token ids."""

from __future__ import annotations

import warnings

import pytest
import tiny
import torch

from adaclip.text import clean, tokenize

WORDS = tiny.tokenizer()


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("  a \t person\n\nwalks ", "a person walks"),
        ("he &amp;amp; she", "he & she"),
        ("he&#39;s waving", "he's waving"),
        ("â€œhiâ€\x9d", '"hi"'),
        ("he’s waving", "he's waving"),
        ("\u3000", ""),
        ("", ""),
    ],
)
def test_prompts_are_cleaned_as_openai_does(raw: str, cleaned: str) -> None:
    assert clean(raw) == cleaned


def test_ids_start_and_end_with_the_special_tokens() -> None:
    ids, mask = tokenize(WORDS, tiny.PROMPTS)
    assert ids.shape == mask.shape
    assert ids.dtype == torch.long
    assert mask.dtype == torch.bool
    assert (ids[:, 0] == WORDS.bos_token_id).all()
    last = mask.sum(dim=1) - 1
    assert (ids[torch.arange(len(ids)), last] == WORDS.eos_token_id).all()
    assert mask.any(dim=0).all()  # padded to the longest, no further
    assert (mask.long().diff(dim=1) <= 0).all()  # real tokens first, padding on the right


def test_case_and_white_space_do_not_matter_but_words_do() -> None:
    ids, _ = tokenize(WORDS, ["A person  WALKS", "a person walks", "a person waves"])
    assert torch.equal(ids[0], ids[1])
    assert not torch.equal(ids[1], ids[2])


def test_an_over_long_prompt_warns_and_keeps_its_end_token() -> None:
    with pytest.warns(UserWarning, match="1 of 2 prompts exceed 77 tokens"):
        ids, mask = tokenize(WORDS, ["xyz " * 40, "hi"])
    assert ids.shape == (2, 77)
    assert mask[0].all()
    assert ids[0, -1] == WORDS.eos_token_id
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenize(WORDS, ["xyz " * 25])  # 75 tokens between start and end: exactly fits


@pytest.mark.parametrize(
    ("wrong", "named"), [("hi", "str"), (b"hi", "bytes"), (None, "NoneType"), (["hi", 3], "Prompt 1 is int")]
)
def test_wrong_types_are_named(wrong: object, named: str) -> None:
    with pytest.raises(TypeError, match=named):
        tokenize(WORDS, wrong)
