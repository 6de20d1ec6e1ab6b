"""`adaclip.openai_clip`: the surface of OpenAI's package, for code that reaches into the model too."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from openai_reference import adapted, save_base, tiny_tokenizer

from adaclip import AdaCLIPError, openai_clip
from adaclip.exports import openai_weights
from tests.helpers import FLOAT32, deviation

PROMPTS = ["a person walks", "a person jumps twice, then waves slowly with the left hand", ""]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("openai_clip")
    return adapted(save_base(root / "base")).save_pretrained(root / "adapter")


@pytest.fixture(scope="module")
def encoder(folder):
    from adaclip import AdaCLIP

    return AdaCLIP.from_pretrained(folder)


@pytest.fixture
def model(folder):
    return openai_clip.load(str(folder), device="cpu")[0]


def reach_in(model, text: torch.Tensor) -> torch.Tensor:
    """How MoMask and MDM encode when they take the encoder apart, 77 ids a prompt."""
    x = model.token_embedding(text).type(model.dtype)
    x = x + model.positional_embedding.type(model.dtype)
    x = model.transformer(x.permute(1, 0, 2)).permute(1, 0, 2)
    x = model.ln_final(x).type(model.dtype)
    return x[torch.arange(x.shape[0]), text.argmax(dim=-1)] @ model.text_projection


@torch.no_grad()
def test_vectors_are_adaclips(folder, encoder, model):
    ids = openai_clip.tokenize(PROMPTS)
    expected = encoder.encode(PROMPTS)
    assert deviation(model.encode_text(ids), expected) < FLOAT32
    assert deviation(reach_in(model, ids), expected) < FLOAT32
    assert deviation(reach_in(openai_clip.load(str(folder), device="cpu")[0], ids), expected) < FLOAT32
    from adaclip import AdaCLIP

    other = AdaCLIP.from_base(encoder.base).encode(PROMPTS)  # the base, without the adapter
    assert (model.encode_text(ids) - other).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("sizes", [{"num_attention_heads": 4}, {"hidden_act": "gelu"}, {"layer_norm_eps": 1e-2}])
def test_every_setting_of_the_base_counts(sizes, tmp_path):
    encoder = adapted(save_base(tmp_path / "base", **sizes))
    model = openai_clip.serve(encoder, "cpu")
    difference = openai_clip.tokenize(PROMPTS, tokenizer=encoder.tokenizer)
    assert deviation(model.encode_text(difference), encoder.encode(PROMPTS)) < FLOAT32
    plain = openai_clip.serve(adapted(save_base(tmp_path / "plain")), "cpu")
    plain.load_state_dict(model.state_dict())
    assert (plain.encode_text(difference) - encoder.encode(PROMPTS)).abs().max() > 1e-4


@torch.no_grad()
def test_padding_and_length_do_not_matter(model):
    short = openai_clip.tokenize(PROMPTS, context_length=40)
    padded = torch.cat([short, torch.zeros(3, 37, dtype=short.dtype)], dim=1)  # MDM: 22 ids, zero-padded to 77
    assert deviation(model.encode_text(short), model.encode_text(padded)) < FLOAT32
    assert deviation(reach_in(model, padded), model.encode_text(short)) < FLOAT32
    assert (model.encode_text(short) - model.encode_text(short.roll(1, 0))).abs().max() > 1e-3
    assert model.encode_text(short[:0]).shape == (0, 48)


@torch.no_grad()
def test_precisions(model):
    ids = openai_clip.tokenize(PROMPTS)
    exact = model.encode_text(ids)
    half = copy.deepcopy(model)
    openai_clip.model.convert_weights(half)  # where MDM and MoMask look for it
    assert half.dtype == torch.float16
    assert half.ln_final.weight.dtype == half.token_embedding.weight.dtype == torch.float32
    for low in (half, copy.deepcopy(model).half()):
        vectors = low.eval().encode_text(ids)
        assert vectors.dtype == torch.float16
        assert (vectors.float() - exact).abs().max() < 0.05 * exact.abs().max()
        assert torch.allclose(reach_in(low, ids), vectors, atol=1e-2)
        assert low.float().dtype == low.encode_text(ids).dtype == torch.float32


def test_weights_carry_openai_names(model, encoder):
    state = openai_weights.to_openai(encoder.merged().state_dict())
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert not any("lora" in name for name, _ in model.named_parameters())
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in encoder.merged().parameters())


def test_tokenize(folder):
    tokenizer = tiny_tokenizer()
    openai_clip.load(str(folder), device="cpu")
    one = openai_clip.tokenize("a person walks")
    assert (one.shape, one.dtype) == ((1, 77), torch.int32)
    ids = tokenizer("a person walks")["input_ids"]
    assert one[0, : len(ids)].tolist() == ids
    assert not one[0, len(ids) :].any()
    assert openai_clip.tokenize([]).shape == (0, 77)
    for batch in (tuple(PROMPTS), np.array(PROMPTS)):
        assert torch.equal(openai_clip.tokenize(batch), openai_clip.tokenize(PROMPTS))

    long = "walks " * 100
    with pytest.raises(RuntimeError, match=r"102 tokens.*22.*walks"):
        openai_clip.tokenize([long], context_length=22)
    cut = openai_clip.tokenize([long], context_length=22, truncate=True)
    assert cut.shape == (1, 22)
    assert cut[0, -1] == tokenizer.eos_token_id
    with pytest.raises(TypeError, match="Prompt 1 is int"):
        openai_clip.tokenize(["a", 3])


def test_what_there_is_not_is_said(folder, tmp_path):
    assert openai_clip.available_models() == []
    model, preprocess = openai_clip.load(str(folder), device="cpu", jit=True)
    assert not model.training
    for call in (preprocess, model.encode_image):
        with pytest.raises(NotImplementedError, match="no vision tower"):
            call(None)
    with pytest.raises(AdaCLIPError, match="nowhere"):
        openai_clip.load(str(tmp_path / "nowhere"))


def test_a_vocabulary_that_argmax_pooling_misreads_is_refused(encoder):
    wrong = copy.copy(encoder)
    wrong.eos_token_id = 5
    with pytest.raises(AdaCLIPError, match="highest"):
        openai_clip.serve(wrong, "cpu")
