"""Weight names: there and back is the identity, and what comes out runs as OpenAI's model with the same vectors."""

from __future__ import annotations

import pytest
import torch
from openai_reference import openai_package, save_base, tiny_tokenizer

from adaclip import AdaCLIPError
from adaclip.exports.openai_weights import to_hf, to_openai
from tests.helpers import FLOAT32, deviation


@pytest.fixture(scope="module")
def clip_model(tmp_path_factory):
    from transformers import CLIPModel

    return CLIPModel.from_pretrained(save_base(tmp_path_factory.mktemp("base") / "clip", vision=True)).eval()


@pytest.fixture(scope="module")
def text_model(tmp_path_factory):
    from transformers import CLIPTextModelWithProjection

    folder = save_base(tmp_path_factory.mktemp("base") / "text")
    return CLIPTextModelWithProjection.from_pretrained(folder).eval()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("which", ["clip_model", "text_model"])
def test_there_and_back_is_bit_exact(which, dtype, request):
    state = {name: value.to(dtype) for name, value in request.getfixturevalue(which).state_dict().items()}
    theirs = to_openai(state)
    assert same(to_hf(theirs), state)
    assert same(to_openai(to_hf(theirs)), theirs)
    assert all(value.is_contiguous() for value in (*theirs.values(), *to_hf(theirs).values()))
    changed = theirs | {"transformer.resblocks.1.attn.in_proj_bias": theirs["ln_final.bias"].repeat(3)}
    assert not same(to_hf(changed), state)


def test_conversion_shares_no_storage(text_model):
    state = text_model.state_dict()
    held = {value.data_ptr() for value in state.values()}
    theirs = to_openai(state)
    assert held.isdisjoint(value.data_ptr() for value in theirs.values())
    ours = to_hf(theirs)
    assert len({value.untyped_storage().data_ptr() for value in ours.values()}) == len(ours)


def test_openai_package_builds_both_towers_from_it(clip_model):
    clip = openai_package()
    state = to_openai(clip_model.state_dict())
    theirs = clip.model.build_model(dict(state)).float()
    theirs.load_state_dict(state)  # again in float32: build_model rounds to float16
    ids = tiny_tokenizer()(["a person walks", "a person runs slowly, twice"], padding="max_length", return_tensors="pt")
    image = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        ours = clip_model(input_ids=ids["input_ids"], pixel_values=image)
        text, eyes = theirs.encode_text(ids["input_ids"]), theirs.encode_image(image)
        theirs.transformer.resblocks[1].mlp.c_proj.bias[:9].add_(0.1)  # not all: a layer norm follows
        wrong = theirs.encode_text(ids["input_ids"])

    def unit(x: torch.Tensor) -> torch.Tensor:
        return x / x.norm(dim=-1, keepdim=True)

    assert deviation(unit(text), ours.text_embeds) < FLOAT32
    assert deviation(unit(eyes), ours.image_embeds) < FLOAT32
    assert (unit(wrong) - ours.text_embeds).abs().max() > 1e-3


def test_derived_entries_are_left_out(text_model):
    state = text_model.state_dict()
    old = state | {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    assert same(to_openai(old), to_openai(state))
    archive = to_openai(state) | {"context_length": torch.tensor(77), "vocab_size": torch.tensor(5)}
    assert same(to_hf(archive), state)


def test_incomplete_and_foreign_state_dicts_are_refused_by_name(text_model):
    state = text_model.state_dict()
    name = "text_model.encoder.layers.0.self_attn.k_proj.bias"
    with pytest.raises(AdaCLIPError, match=name.replace(".", r"\.")):
        to_openai({k: v for k, v in state.items() if k != name})
    with pytest.raises(AdaCLIPError, match="lora_A"):
        to_openai(state | {"text_model.encoder.layers.0.mlp.fc1.lora_A.weight": torch.zeros(1)})
    with pytest.raises(AdaCLIPError, match="1 tensors are not OpenAI's"):
        to_hf(to_openai(state) | {"surprise": torch.zeros(1)})
    with pytest.raises(AdaCLIPError, match="ResNet"):
        to_hf(to_openai(state) | {"visual.layer1.0.conv1.weight": torch.zeros(1)})
