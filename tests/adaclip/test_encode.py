"""`encode`: any list of prompts to vectors, in the order given."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch

from adaclip import AdaCLIP, TextFeatures

MIXED = ["hi", *tiny.PROMPTS, "", "a person walks", "hi", "a person walks "]


def test_order_is_kept_with_duplicates_and_mixed_lengths(encoder: AdaCLIP) -> None:
    alone = torch.cat([encoder.encode([text]) for text in MIXED])
    for batch_size in (1, 2, 64):
        vectors = encoder.encode(MIXED, batch_size=batch_size)
        assert vectors.shape == (len(MIXED), encoder.projection_size)
        torch.testing.assert_close(vectors, alone, rtol=1e-5, atol=1e-5)
    assert torch.equal(vectors[0], vectors[7])
    assert not torch.allclose(alone, alone.flip(0), atol=1e-2)


def test_encode_equals_forward(encoder: AdaCLIP) -> None:
    with torch.no_grad():
        expected = encoder(*encoder.tokenize(MIXED))
    features = encoder.encode(MIXED, output="both", batch_size=3)
    assert torch.equal(features.mask, expected.mask)
    torch.testing.assert_close(features.pooled, expected.pooled, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(features.tokens, expected.tokens, rtol=1e-5, atol=1e-5)
    assert not features.tokens[~features.mask].any()


def test_a_single_string_is_a_batch_of_one(encoder: AdaCLIP) -> None:
    assert torch.equal(encoder.encode("a person walks"), encoder.encode(["a person walks"]))


def test_an_empty_list_gives_empty_features(encoder: AdaCLIP) -> None:
    assert encoder.encode([]).shape == (0, encoder.projection_size)
    assert encoder.encode([], normalize=True, convert_to_numpy=True).shape == (0, encoder.projection_size)
    pooled, tokens, mask = encoder.encode([], output="both")
    assert pooled.shape == (0, encoder.projection_size)
    assert tokens.shape == (0, 0, encoder.hidden_size)
    assert mask.shape == (0, 0)


def test_normalize_gives_unit_length(encoder: AdaCLIP) -> None:
    raw, unit = encoder.encode(tiny.PROMPTS), encoder.encode(tiny.PROMPTS, normalize=True)
    torch.testing.assert_close(unit.norm(dim=-1), torch.ones(len(unit)))
    torch.testing.assert_close(unit * raw.norm(dim=-1, keepdim=True), raw)
    assert ((raw.norm(dim=-1) - 1).abs() > 0.05).any()


def test_outputs(encoder: AdaCLIP) -> None:
    pooled = encoder.encode(tiny.PROMPTS)
    assert pooled.dtype == torch.float32
    assert pooled.device.type == "cpu"
    assert not pooled.requires_grad
    array = encoder.encode(tiny.PROMPTS, convert_to_numpy=True)
    assert isinstance(array, np.ndarray)
    np.testing.assert_array_equal(array, pooled.numpy())
    for output in ("tokens", "both"):
        features = encoder.encode(tiny.PROMPTS, output=output)
        assert isinstance(features, TextFeatures)
        assert torch.equal(features.pooled, pooled)
    with pytest.raises(ValueError, match="output"):
        encoder.encode(tiny.PROMPTS, output="mean")
    with pytest.raises(ValueError, match="batch_size"):
        encoder.encode(tiny.PROMPTS, batch_size=0)


@pytest.mark.parametrize("wrong", [None, 3, b"walks", [b"walks"], ["hi", None], ["hi", float("nan")], [["hi"]], {"hi"}])
def test_anything_but_strings_is_refused(encoder: AdaCLIP, wrong: object) -> None:
    with pytest.raises(TypeError, match=r"prompt|Prompt"):
        encoder.encode(wrong)


def test_encode_ignores_and_restores_training_mode(encoder: AdaCLIP) -> None:
    expected = encoder.encode(tiny.PROMPTS)
    encoder.train()
    assert torch.equal(encoder.encode(tiny.PROMPTS), expected)
    assert encoder.training
    encoder.eval()
    encoder.encode(tiny.PROMPTS)
    assert not encoder.training


def test_an_error_leaves_training_mode_as_it_was(encoder: AdaCLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    encoder.train()
    monkeypatch.setattr(encoder, "tokenize", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        encoder.encode(["a prompt nobody encoded before"])
    assert encoder.training
