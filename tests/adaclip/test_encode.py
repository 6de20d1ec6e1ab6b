"""`encode`: any list of prompts to vectors, in the order given."""

from __future__ import annotations

import contextlib
import copy
import random
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from adaclip import AdaCLIP, TextFeatures
from adaclip.encoding import sub_batches
from adaclip.inference import ENTRY_BYTES
from adaclip.text import token_ids
from tests.helpers import FLOAT32, deviation

MIXED = ["hi", *tiny.PROMPTS, "", "a person walks", "hi", "a person walks "]


def test_order_is_kept_with_duplicates_and_mixed_lengths(encoder: AdaCLIP) -> None:
    alone = torch.cat([encoder.encode([text]) for text in MIXED])
    for batch_size in (1, 2, 64):
        vectors = encoder.encode(MIXED, batch_size=batch_size)
        assert vectors.shape == (len(MIXED), encoder.projection_size)
        assert deviation(vectors, alone) < FLOAT32
    assert torch.equal(vectors[0], vectors[7])
    assert not torch.allclose(alone, alone.flip(0), atol=1e-2)


def test_encode_equals_forward(encoder: AdaCLIP) -> None:
    with torch.no_grad():
        expected = encoder(*encoder.tokenize(MIXED))
    features = encoder.encode(MIXED, output="both", batch_size=3)
    assert torch.equal(features.mask, expected.mask)
    assert deviation(features.pooled, expected.pooled) < FLOAT32
    assert deviation(features.tokens, expected.tokens) < FLOAT32
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


def test_encode_leaves_training_mode_alone_and_its_dropout_out(base: Path) -> None:
    encoder = tiny.perturb(AdaCLIP.from_base(base, rank=4, alpha=8, dropout=0.5).eval())
    expected = encoder.encode(tiny.PROMPTS)
    encoder.train()
    encoder.cache.clear()
    assert torch.equal(encoder.encode(tiny.PROMPTS), expected)
    assert encoder.training


LONG = "a person walks slowly. then he turns left and waves. then he sits down, and then he gets up and runs away again"


def test_a_long_prompt_warns_naming_the_words_lost(encoder: AdaCLIP) -> None:
    with pytest.warns(
        UserWarning, match=r"1 of 2 prompts exceed 77 tokens; of 'a person walks.*does not see '.*again'"
    ):
        cut = encoder.encode(["hi", LONG])
    with pytest.warns(UserWarning, match="exceed"):
        assert torch.equal(encoder.encode([LONG + " and again"])[0], cut[1])  # what is cut off has no influence
    with pytest.raises(ValueError, match=r"does not see '.*again'"):
        encoder.encode(["hi", LONG], long="error")
    with pytest.raises(ValueError, match="long must be"):
        encoder.encode(["hi"], long="cut")


def test_a_long_prompt_in_chunks_is_seen_to_its_end(encoder: AdaCLIP) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pooled = encoder.encode(["hi", LONG, LONG + " and again"], long="chunk")
        features = encoder.encode(["hi", LONG], long="chunk", output="both")
    assert torch.equal(features.pooled, pooled[:2])
    assert not torch.allclose(pooled[1], pooled[2], atol=1e-3)
    pieces = token_ids(encoder.tokenizer, [LONG], "chunk")[0]
    assert len(pieces) > 1
    assert features.mask[1].sum() == sum(map(len, pieces)) > 77
    assert torch.equal(pooled[0], encoder.encode("hi")[0])  # a prompt that fits is not changed by the policy


def test_repeated_prompts_are_encoded_once(encoder: AdaCLIP) -> None:
    model, _ = encoder._weights.get(encoder.text_model, "default")
    seen: list[int] = []
    model.register_forward_pre_hook(lambda _, __, inputs: seen.append(len(inputs["input_ids"])), with_kwargs=True)
    first = encoder.encode(["hi", "HI ", "a person walks", "hi"])
    assert sum(seen) == 2
    assert torch.equal(encoder.encode(["a person walks", "hi"]), first[[2, 0]])
    assert sum(seen) == 2  # remembered
    encoder.encode(["hi", "hi"], output="tokens")
    assert sum(seen) == 3  # the tokens were not asked for before
    encoder.cache.clear()
    encoder.encode(["hi"])
    assert sum(seen) == 4


def test_the_cache_is_bounded(encoder: AdaCLIP) -> None:
    encoder.cache.max_bytes = 10 * (ENTRY_BYTES + encoder.projection_size * 4)
    encoder.encode([f"prompt {i}" for i in range(30)])
    assert len(encoder.cache) == 10
    assert encoder.cache.nbytes == encoder.cache.max_bytes
    encoder.cache.max_bytes = 0
    encoder.encode(["hi"])
    assert len(encoder.cache) == 0


def step(encoder: AdaCLIP, **options: object) -> None:
    """One optimiser step on the adapter."""
    optimizer = torch.optim.AdamW(encoder.adapter_parameters(), lr=0.1, **options)
    encoder(*encoder.tokenize(tiny.PROMPTS)).pooled.sum().backward()
    optimizer.step()


EDITS = ["in place", "through .data", "sign", "load_state_dict", "assign", "optimizer", "fused", "loop", "replaced"]
EDITS += ["base", "scale", "parameter", "average", "deleted and added"]


@pytest.mark.parametrize("edit", EDITS)
def test_encode_follows_an_edited_weight(encoder: AdaCLIP, adapter: Path, edit: str) -> None:
    before = encoder.encode(tiny.PROMPTS)
    weight = next(p for name, p in encoder.named_parameters() if "q_proj.lora_A" in name)
    if edit == "in place":
        with torch.no_grad():
            weight.mul_(2)
    elif edit == "through .data":
        weight.data.mul_(2)  # as averages of weights are often copied; raises no version counter
    elif edit == "sign":
        weight.data.neg_()  # as long as before
    elif edit == "load_state_dict":
        encoder.load_state_dict({name: 2 * value for name, value in encoder.state_dict().items()})
    elif edit == "optimizer":
        step(encoder, foreach=True)
    elif edit == "fused":
        step(encoder, fused=True)
    elif edit == "loop":
        step(encoder, foreach=False)
    elif edit == "assign":
        encoder.load_state_dict({name: 2 * value for name, value in encoder.state_dict().items()}, assign=True)
    elif edit == "scale":
        for module in encoder.modules():
            if "default" in getattr(module, "scaling", ()):
                module.scaling["default"] *= 2
    elif edit == "parameter":
        layer = encoder.text_model.get_submodule("base_model.model.text_model.encoder.layers.0.self_attn.q_proj")
        layer.lora_A["default"].weight = torch.nn.Parameter(2 * weight.detach())
    elif edit == "average":  # as moving averages are copied into a model
        torch._foreach_copy_(
            [p.data for p in encoder.adapter_parameters()], [p * 2 for p in encoder.adapter_parameters()]
        )
    elif edit == "deleted and added":
        encoder.load_adapter(adapter, "other")
        encoder.set_adapter("other")
        encoder.text_model.delete_adapter("default")
        tiny.perturb(encoder, seed=5)
        encoder.load_adapter(encoder.save_pretrained(adapter.parent / "second"), "default")
        encoder.set_adapter("default")
    elif edit == "replaced":
        weight.data = 2 * weight.data
    elif edit == "base":
        with torch.no_grad():
            next(p for name, p in encoder.named_parameters() if "k_proj.base_layer.weight" in name).mul_(2)
    after = encoder.encode(tiny.PROMPTS)
    assert not torch.allclose(after, before, atol=1e-3)
    with torch.no_grad():
        forward = encoder.eval()(*encoder.tokenize(tiny.PROMPTS)).pooled
    assert deviation(after, forward) < FLOAT32


def test_encode_follows_every_training_step(encoder: AdaCLIP) -> None:
    optimizer = torch.optim.SGD(encoder.adapter_parameters(), lr=0.1)
    vectors = []
    for _ in range(3):
        optimizer.zero_grad()
        encoder(*encoder.tokenize(tiny.PROMPTS)).pooled.sum().backward()
        optimizer.step()
        vectors.append(encoder.encode(tiny.PROMPTS))
        torch.testing.assert_close(vectors[-1], encoder(*encoder.tokenize(tiny.PROMPTS)).pooled, rtol=1e-5, atol=1e-5)
    assert not torch.equal(vectors[0], vectors[1])
    assert not torch.equal(vectors[1], vectors[2])


def test_encode_follows_the_choice_of_adapters(encoder: AdaCLIP, adapter: Path) -> None:
    own = encoder.encode(tiny.PROMPTS)
    encoder.load_adapter(adapter, "other")
    encoder.set_adapter("other")
    tiny.perturb(encoder, seed=7)
    other = encoder.encode(tiny.PROMPTS)
    encoder.mix_adapters({"default": 0.5, "other": 0.5}, "mix")
    mix = encoder.encode(tiny.PROMPTS, adapter="mix")
    with encoder.disable_adapter():
        base = encoder.encode(tiny.PROMPTS)
    assert torch.equal(encoder.encode(tiny.PROMPTS, adapter="default"), own)
    assert torch.equal(encoder.encode(tiny.PROMPTS), other)
    encoder.text_model.delete_adapter("mix")
    encoder.text_model.add_weighted_adapter(["default", "other"], [1.0, 2.0], "mix", combination_type="cat")
    remixed = encoder.encode(tiny.PROMPTS, adapter="mix")
    found = (own, other, mix, base, remixed)
    assert all(not torch.allclose(a, b, atol=1e-3) for i, a in enumerate(found) for b in found[:i])


def test_encode_keeps_what_is_valid(encoder: AdaCLIP, adapter: Path) -> None:
    encoder.encode(tiny.PROMPTS)
    kept = encoder._weights.get(encoder.text_model, "default")
    encoder.load_adapter(adapter, "other")  # which changes nothing about the first
    assert encoder._weights.get(encoder.text_model, "default") == kept
    encoder.train()
    encoder(*encoder.tokenize(tiny.PROMPTS))
    assert encoder._weights.get(encoder.text_model, "default") == kept


def test_an_edit_of_the_base_that_cannot_be_seen_is_forgotten_on_request(encoder: AdaCLIP) -> None:
    before = encoder.encode(tiny.PROMPTS)
    next(p for name, p in encoder.named_parameters() if "k_proj.base_layer.weight" in name).data.mul_(2)
    encoder.forget()
    assert not torch.allclose(encoder.encode(tiny.PROMPTS), before, atol=1e-3)


def test_autocast_and_inference_mode_change_nothing_and_leave_nothing(encoder: AdaCLIP, adapter: Path) -> None:
    expected = encoder.encode(tiny.PROMPTS)
    for surroundings in (torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode()):
        with surroundings:
            inside = AdaCLIP.from_pretrained(adapter)
            assert deviation(inside.encode(tiny.PROMPTS), expected) < FLOAT32
            merged = inside.merged()
        assert torch.equal(inside.encode(tiny.PROMPTS), expected)
        ids, _ = encoder.tokenize(tiny.PROMPTS)
        with torch.no_grad():
            assert deviation(merged(input_ids=ids).text_embeds, expected) < FLOAT32


def test_another_default_device_is_ignored(encoder: AdaCLIP) -> None:
    expected = encoder.encode(tiny.PROMPTS, output="both")
    encoder.cache.clear()
    with torch.device("meta"):
        features = encoder.encode(tiny.PROMPTS, output="both")
        assert encoder.encode([], output="both").mask.device.type == "cpu"
        assert encoder.encode(["walks " * 100], long="chunk").isfinite().all()
    assert all(torch.equal(a, b) for a, b in zip(features, expected, strict=True))


def test_threads_may_share_an_encoder(encoder: AdaCLIP) -> None:
    texts = [f"{prompt} {i}" for prompt in tiny.PROMPTS for i in range(10)]
    expected = encoder.encode(texts)
    encoder.forget()
    encoder.cache.max_bytes = 5 * ENTRY_BYTES  # so that entries come and go
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda start: encoder.encode(texts[start:], batch_size=3), range(20)))
    for start, vectors in enumerate(found):
        assert deviation(vectors, expected[start:]) < FLOAT32


@pytest.mark.parametrize("size", [0, -1, 2.0, "8", None])
def test_a_batch_size_that_is_none_is_refused(encoder: AdaCLIP, size: object) -> None:
    with pytest.raises(ValueError, match="batch_size must be an integer"):
        encoder.encode(["hi"], batch_size=size)


def test_copies_and_half_precision_keep_their_own_weights(encoder: AdaCLIP) -> None:
    expected = encoder.encode(tiny.PROMPTS)
    twin = copy.deepcopy(encoder)
    tiny.perturb(twin, seed=3)
    assert not torch.allclose(twin.encode(tiny.PROMPTS), expected, atol=1e-2)
    assert torch.equal(encoder.encode(tiny.PROMPTS), expected)
    half = copy.deepcopy(encoder).to(torch.bfloat16).encode(tiny.PROMPTS)
    assert half.dtype == torch.float32
    assert not torch.equal(half, expected)
    assert torch.nn.functional.cosine_similarity(half, expected).min() > 0.99


def test_only_what_the_adapter_touches_is_copied(encoder: AdaCLIP) -> None:
    model, _ = encoder._weights.get(encoder.text_model, "default")
    own = {p.data_ptr() for p in encoder.parameters()}
    copied = {name for name, p in model.named_parameters() if p.data_ptr() not in own}
    assert copied == {
        f"text_model.encoder.layers.{i}.{module}.{kind}"
        for i in range(2)
        for module in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.fc1", "mlp.fc2")
        for kind in ("weight", "bias")
    }


@pytest.mark.parametrize("output", ["pooled", "both"])
def test_encode_takes_one_padded_pass_per_batch_on_an_accelerator(
    encoder: AdaCLIP, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    texts = [f"{prompt} {i}" for prompt in [*tiny.PROMPTS, "walks " * 72] for i in range(8)]
    expected = encoder.encode(texts, output=output)
    encoder.cache.clear()
    monkeypatch.setattr("adaclip.encoding.is_accelerator", lambda device: True)
    model, _ = encoder._weights.get(encoder.text_model, "default")
    shapes: list[tuple[int, ...]] = []
    model.register_forward_pre_hook(lambda _, __, x: shapes.append(tuple(x["input_ids"].shape)), with_kwargs=True)
    found = encoder.encode(texts, output=output, batch_size=16)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.float(), b.float(), rtol=1e-5, atol=1e-5)
    assert [rows for rows, _ in shapes] == [16, 16, 8]
    assert {length for _, length in shapes} <= {16, 32, 48, 64, 77}
    assert len(encoder.encode(texts, batch_size=16)) == len(texts)
    assert len(shapes) == 3  # cached


def test_encode_leaves_results_on_the_device_on_request(encoder: AdaCLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    for output in ("pooled", "both"):
        found = encoder.encode(tiny.PROMPTS, output=output, convert_to_tensor=True, normalize=True)
        expected = encoder.encode(tiny.PROMPTS, output=output, normalize=True)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # which meta does not have
    meta = copy.deepcopy(encoder).to("meta")  # a device whose results cannot be copied to the CPU
    assert meta.encode(["hi"], convert_to_tensor=True).device.type == "meta"
    features = meta.encode(["hi", "a person walks"], output="both", convert_to_tensor=True)
    assert {part.device.type for part in features} == {"meta"}
    assert meta.encode([], output="both", convert_to_tensor=True).tokens.device.type == "meta"
    with pytest.raises(ValueError, match="convert_to_numpy"):
        encoder.encode(["hi"], convert_to_numpy=True, convert_to_tensor=True)
    with pytest.raises(ValueError, match="convert_to_numpy"):
        encoder.encode(["hi"], convert_to_numpy=True, output="both")


def test_little_padding_is_computed(encoder: AdaCLIP) -> None:
    model, _ = encoder._weights.get(encoder.text_model, "default")
    computed: list[int] = []
    model.register_forward_pre_hook(
        lambda _, __, inputs: computed.append(inputs["input_ids"].numel()), with_kwargs=True
    )
    draw = random.Random(0)
    texts = [" ".join(draw.choices(["walks", "the", "to", "a"], k=draw.randint(2, 20))) for _ in range(64)]
    real = sum(len(ids) for (ids,) in {tuple(map(tuple, p)) for p in token_ids(encoder.tokenizer, texts)})
    encoder.encode(texts)
    assert real <= sum(computed) < 1.2 * real  # padded to 77 it would be more than five times as many


def test_sub_batches_cover_every_prompt_within_the_budget() -> None:
    lengths = torch.randint(2, 78, (500,), generator=torch.Generator().manual_seed(0)).tolist()
    groups = sub_batches(lengths, rows=16, tokens=512)
    assert sorted(i for group in groups for i in group) == list(range(500))
    assert all(len(group) <= 16 and len(group) * max(lengths[i] for i in group) <= 512 for group in groups)
    assert [lengths[i] for group in groups for i in group] == sorted(lengths, reverse=True)
    assert sub_batches([77, 77], rows=64, tokens=10) == [[0], [1]]
    assert sub_batches([], rows=64, tokens=10) == []


def test_random_strings_give_finite_vectors(encoder: AdaCLIP) -> None:
    draw = random.Random(0)
    alphabet = "ab c\n\t.,;<>|&#'\"%\\0\x00\x07\x7f\u200b\u202e’é日本🏃👩‍🦽\ud800\uffff"
    texts = ["".join(draw.choices(alphabet, k=draw.randrange(25))) for _ in range(200)]
    vectors = encoder.encode(texts, long="chunk")
    assert vectors.shape == (200, encoder.projection_size)
    assert vectors.isfinite().all()
