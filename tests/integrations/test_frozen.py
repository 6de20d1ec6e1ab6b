"""The frozen encoder for other people's training loops: OpenAI's interface, AdaCLIP's vectors, no weights in sight."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from adaclip_integrations.frozen import CACHE, FrozenEncoder, kept_tokens
from torch import nn

from adaclip import AdaCLIP, openai_clip
from tests.adaclip.openai_reference import adapted, save_base
from tests.helpers import FLOAT32, deviation

PROMPTS = ["a person walks", "a person jumps twice, then waves slowly", "", "!!! walks!"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return adapted(save_base(tmp_path_factory.mktemp("frozen") / "base"))


@pytest.fixture
def frozen(encoder):
    return FrozenEncoder(encoder)


def test_vectors_are_adaclips_from_ids_and_from_prompts(encoder, frozen):
    expected = encoder.encode(PROMPTS, output="both")
    ids = frozen.tokenize(PROMPTS)
    assert torch.equal(ids, openai_clip.tokenize(PROMPTS, tokenizer=encoder.tokenizer))
    for found in (frozen.encode_text(ids), frozen.encode_text(PROMPTS), frozen(ids.long())):
        assert deviation(found, expected.pooled) < FLOAT32
        assert not found.requires_grad
    states = frozen.hidden_states(ids)
    length = expected.tokens.shape[1]
    assert states.shape == (4, 77, 64)
    assert deviation(states[:, :length] * expected.mask[..., None], expected.tokens) < FLOAT32
    assert not states[:, length:].any()
    assert (frozen.encode_text(ids) - AdaCLIP.from_base(encoder.base).encode(PROMPTS)).abs().max() > 1e-3
    assert frozen.encode_text([]).shape == (0, 48)


def test_the_parts_that_other_code_reaches_into_compute_the_same(frozen):
    ids = frozen.tokenize(PROMPTS)
    x = frozen.token_embedding(ids).type(frozen.dtype) + frozen.positional_embedding
    x = frozen.ln_final(frozen.transformer(x.permute(1, 0, 2)).permute(1, 0, 2))
    pooled = x[torch.arange(len(ids)), ids.argmax(-1)] @ frozen.text_projection
    assert deviation(pooled, frozen.encode_text(ids)) < FLOAT32
    with pytest.raises(NotImplementedError, match="vision"):
        frozen.encode_image(None)
    with pytest.raises(AttributeError, match="visual"):
        _ = frozen.visual


def test_torch_sees_no_weights_and_copies_are_the_same_object(frozen):
    model = nn.Sequential(nn.Linear(2, 2), frozen)
    _ = frozen.text_projection  # made on demand, and not seen either
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias"]
    assert list(model.state_dict()) == ["0.weight", "0.bias"]
    assert copy.deepcopy(model)[1] is frozen
    before = frozen.encode_text(PROMPTS)
    model.train().half().double()
    frozen.cache.clear()
    assert torch.equal(frozen.encode_text(PROMPTS), before)
    model.to("meta")
    assert frozen.device.type == "meta"


def test_the_adapter_that_learns_on_is_not_followed(encoder, tmp_path):
    learning = AdaCLIP.from_base(encoder.base)
    frozen = FrozenEncoder(learning)
    before = frozen.encode_text(PROMPTS)
    with torch.no_grad():
        for parameter in learning.adapter_parameters():
            parameter.add_(0.3)
    frozen.cache.clear()
    assert torch.equal(frozen.encode_text(PROMPTS), before)
    assert (learning.encode(PROMPTS) - before).abs().max() > 1e-3


def test_long_prompts_raise_or_are_cut_and_said(frozen, monkeypatch):
    long = "a person walks slowly " * 40
    with pytest.raises(RuntimeError, match="context length 77"):
        frozen.tokenize(long)
    with pytest.warns(UserWarning, match=r"cut at 77 tokens: 1 of these 2 lose \d+ words \(the first: '.*'\)\.$"):
        ids = frozen.tokenize([long, PROMPTS[0]], truncate=True)
    assert torch.equal(ids, openai_clip.tokenize([long, PROMPTS[0]], truncate=True, tokenizer=frozen.tokenizer))
    with pytest.warns(UserWarning, match=r"cut at 10 tokens.*ADACLIP_TOKENS=77"):
        assert frozen.tokenize(long, 10, truncate=True).shape == (1, 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frozen.tokenize([long, long], truncate=True)
        frozen.tokenize(PROMPTS)
    monkeypatch.setenv("ADACLIP_TOKENS", "77")
    assert kept_tokens(22) == 77
    assert frozen.tokenize(PROMPTS[0], 22).shape == (1, 77)


def test_the_caches_size_is_the_environments(encoder, monkeypatch):
    monkeypatch.setenv(CACHE, "0")
    frozen = FrozenEncoder(encoder)
    frozen.encode_text(PROMPTS)
    assert len(frozen.cache) == 0
    monkeypatch.setenv(CACHE, "1")
    frozen = FrozenEncoder(encoder)
    frozen.encode_text(PROMPTS)
    assert len(frozen.cache) == len(PROMPTS)
