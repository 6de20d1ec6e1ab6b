"""What holds for the encoder's weights, gradients, pooling and masks."""

from __future__ import annotations

from pathlib import Path

import openai_reference
import pytest
import tiny
import torch
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from adaclip import AdaCLIP, LoRASettings, hub
from tests.helpers import FLOAT32, deviation


def reference(model: CLIPTextModelWithProjection, encoder: AdaCLIP, texts: list[str]) -> torch.Tensor:
    """Pooled vectors as plain transformers computes them, (B, P)."""
    ids, mask = encoder.tokenize(texts)
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask.long()).text_embeds


def test_a_fresh_adapter_equals_its_base_exactly(fresh: AdaCLIP, base: Path) -> None:
    plain = CLIPTextModelWithProjection.from_pretrained(base).eval()
    expected = reference(plain, fresh, tiny.PROMPTS)
    assert torch.equal(fresh(*fresh.tokenize(tiny.PROMPTS)).pooled, expected)
    tiny.perturb(fresh)
    assert not torch.allclose(fresh(*fresh.tokenize(tiny.PROMPTS)).pooled, expected, atol=1e-3)


def test_the_papers_adapter_has_as_many_parameters_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.device("meta"):  # ViT-B/32's text tower is CLIPTextConfig's default
        tower = CLIPTextModelWithProjection(CLIPTextConfig())
    monkeypatch.setattr(hub, "load_base", lambda *_, **__: (tower, tiny.tokenizer()))
    encoder = AdaCLIP.from_base(device="meta")
    assert sum(p.numel() for p in encoder.adapter_parameters()) == 1_572_864
    assert sum(p.numel() for p in encoder.parameters()) == 1_572_864 + 63_428_096
    assert len(list(encoder.adapter_parameters())) == 120


def test_only_the_adapter_learns(fresh: AdaCLIP) -> None:
    learning = {name for name, p in fresh.named_parameters() if p.requires_grad}
    assert learning == {name for name, _ in fresh.named_parameters() if "lora_" in name}
    assert {id(p) for p in fresh.adapter_parameters()} == {id(p) for p in fresh.parameters() if p.requires_grad}
    tiny.perturb(fresh)  # B = 0 would keep A's gradient at zero
    features = fresh(*fresh.tokenize(tiny.PROMPTS))
    (features.pooled.square().sum() + features.tokens.square().sum()).backward()
    with_gradient = {name for name, p in fresh.named_parameters() if p.grad is not None and p.grad.any()}
    assert with_gradient == learning


@pytest.mark.parametrize("modules", [("q_proj",), ("fc1", "fc2"), ("q_proj", "k_proj", "v_proj", "out_proj")])
def test_lora_sits_where_it_was_asked_to(base: Path, modules: tuple[str, ...]) -> None:
    encoder = AdaCLIP.from_base(base, modules=modules)
    adapted = {name.split(".lora_")[0].split(".")[-1] for name, _ in encoder.named_parameters() if ".lora_" in name}
    assert adapted == set(modules)


@pytest.mark.parametrize(
    "wrong", [{"rank": 0}, {"alpha": 0}, {"dropout": 1.0}, {"modules": ()}, {"modules": ("to_q",)}]
)
def test_impossible_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"LoRA"):
        LoRASettings(**wrong)


def test_merged_equals_adapted_and_not_base(encoder: AdaCLIP, base: Path) -> None:
    adapted = encoder.encode(tiny.PROMPTS)
    before = {name: p.clone() for name, p in encoder.named_parameters()}
    merged = encoder.merged()
    assert type(merged) is CLIPTextModelWithProjection
    assert not any("lora_" in name for name, _ in merged.named_parameters())
    assert deviation(reference(merged, encoder, tiny.PROMPTS), adapted) < FLOAT32
    plain = CLIPTextModelWithProjection.from_pretrained(base).eval()
    assert not torch.allclose(reference(plain, encoder, tiny.PROMPTS), adapted, atol=1e-2)
    assert all(torch.equal(p, before[name]) for name, p in encoder.named_parameters())


def test_merging_does_not_tie_the_copy_to_the_encoder(encoder: AdaCLIP) -> None:
    adapted = encoder.encode(tiny.PROMPTS)
    with torch.no_grad():
        for parameter in encoder.merged().parameters():
            parameter.zero_()
    assert torch.equal(encoder.encode(tiny.PROMPTS), adapted)


def test_padding_never_leaks(encoder: AdaCLIP) -> None:
    together = encoder(*encoder.tokenize(tiny.PROMPTS))
    for row, text in enumerate(tiny.PROMPTS):
        alone = encoder(*encoder.tokenize([text]))
        length = alone.mask.sum()
        assert together.mask[row].sum() == length == alone.mask.shape[1]
        assert deviation(together.pooled[row], alone.pooled[0]) < FLOAT32
        assert deviation(together.tokens[row, :length], alone.tokens[0]) < FLOAT32
    assert not together.tokens[~together.mask].any()
    assert together.tokens[together.mask].all()
    # The control: what the transformer computes at padding is not zero, it is the mask that hides it.
    ids, mask = encoder.tokenize(tiny.PROMPTS)
    assert encoder.merged()(input_ids=ids).last_hidden_state[~mask].all()


def test_what_stands_at_padding_does_not_matter(encoder: AdaCLIP) -> None:
    ids, mask = encoder.tokenize(tiny.PROMPTS)
    expected = encoder(ids, mask)
    garbage = torch.where(mask, ids, 7)
    for part, same in zip(encoder(garbage, mask), expected, strict=True):
        assert torch.equal(part, same)
    assert not torch.allclose(encoder(torch.where(ids == ids[0, 1], 7, ids), mask).pooled, expected.pooled, atol=1e-3)


def test_the_mask_can_be_left_out(encoder: AdaCLIP) -> None:
    ids, mask = encoder.tokenize(tiny.PROMPTS)
    without, with_mask = encoder(ids), encoder(ids, mask)
    assert torch.equal(without.mask, mask)
    assert torch.equal(without.pooled, with_mask.pooled)
    assert torch.equal(encoder(ids, mask.long()).pooled, with_mask.pooled)
    with pytest.raises(ValueError, match="end token"):
        encoder(ids[:, :-1].clamp(max=encoder.eos_token_id - 1))


def test_pooling_reads_the_end_token_whatever_the_config_calls_it(tmp_path: Path) -> None:
    pooled, transformers_pooled = {}, {}
    for name, claimed in {"own": None, "openai": 2, "wrong": 7}.items():
        folder = tiny.save_base(tmp_path / name, **({} if claimed is None else {"eos_token_id": claimed}))
        encoder = tiny.perturb(AdaCLIP.from_base(folder, rank=4, alpha=8).eval())
        pooled[name] = encoder.encode(tiny.PROMPTS)
        transformers_pooled[name] = reference(encoder.merged(), encoder, tiny.PROMPTS)
    assert torch.equal(pooled["own"], pooled["openai"])
    assert torch.equal(pooled["own"], pooled["wrong"])
    assert deviation(transformers_pooled["openai"], pooled["own"]) < FLOAT32
    assert not torch.allclose(transformers_pooled["wrong"], pooled["own"], atol=1e-2)  # pooled at position 0


def test_lora_dropout_is_active_in_training_only(base: Path) -> None:
    encoder = tiny.perturb(AdaCLIP.from_base(base, rank=4, alpha=8, dropout=0.5))
    batch = encoder.tokenize(tiny.PROMPTS)
    encoder.train()
    assert not torch.equal(encoder(*batch).pooled, encoder(*batch).pooled)
    encoder.eval()
    assert torch.equal(encoder(*batch).pooled, encoder(*batch).pooled)


def test_an_end_token_inside_a_prompt_ends_it_as_for_openai(encoder: AdaCLIP) -> None:
    """OpenAI's CLIP pools at the first end token; its tokenizer, like ours, reads one written out in a prompt."""
    pooled = encoder.encode(["hi <|endoftext|> a person walks", "hi", "a person walks"])
    assert deviation(pooled[0], pooled[1]) < FLOAT32
    assert not torch.allclose(pooled[0], pooled[2], atol=1e-2)


def test_no_prompts_are_no_features(encoder: AdaCLIP) -> None:
    features = encoder(*encoder.tokenize([]))
    assert features.pooled.shape == (0, encoder.projection_size)
    assert features.tokens.shape == (0, 0, encoder.hidden_size)


def test_forward_computes_no_padding(encoder: AdaCLIP) -> None:
    seen: list[int] = []
    encoder.text_model.register_forward_pre_hook(
        lambda _, __, inputs: seen.append(inputs["input_ids"].shape[1]), with_kwargs=True
    )
    ids, mask = encoder.tokenize(tiny.PROMPTS)
    longest = ids.shape[1]
    wide = torch.nn.functional.pad(ids, (0, 77 - longest), value=encoder.eos_token_id)
    features = encoder(wide, torch.nn.functional.pad(mask, (0, 77 - longest)))
    assert seen == [longest]
    assert features.tokens.shape == (len(ids), 77, encoder.hidden_size)  # the caller's shape all the same
    short = encoder(ids, mask)
    assert torch.equal(features.pooled, short.pooled)
    assert torch.equal(features.tokens[:, :longest], short.tokens)
    assert not features.tokens[:, longest:].any()


def test_half_precision_can_be_asked_for(adapter: Path, encoder: AdaCLIP) -> None:
    half = AdaCLIP.from_pretrained(adapter, dtype=torch.bfloat16)
    assert {p.dtype for p in half.merged().parameters()} == {torch.bfloat16}
    vectors, expected = half.encode(tiny.PROMPTS), encoder.encode(tiny.PROMPTS)
    assert vectors.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(vectors, expected).min() > 0.99
    assert not torch.equal(vectors, expected)


def test_loading_prints_no_table_of_the_tensors_that_are_left_over(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Bases such as OpenAI's have a vision tower, whose tensors a text encoder leaves over."""
    folder = openai_reference.save_base(tmp_path / "base", vision=True)
    encoder = AdaCLIP.from_base(str(folder), rank=2, alpha=2)
    encoder.save_pretrained(tmp_path / "adapter")
    AdaCLIP.from_pretrained(tmp_path / "adapter")
    printed = "".join(capfd.readouterr())
    assert "vision_model" not in printed
    assert "UNEXPECTED" not in printed
    assert "[transformers]" not in printed
