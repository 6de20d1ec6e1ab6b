"""Every kind of LoRA adapter, wherever adapters meet: the vectors of plain peft on a fresh base, or an error."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import tiny
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import CLIPTextModelWithProjection

from adaclip import AdaCLIP, AdaCLIPError
from adaclip.inspection import compare
from tests.helpers import FLOAT32, deviation

ALL = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
PATTERN = r"(?!.*vision).*encoder\.layers\.\d+\.(?:self_attn\.[qkv]_proj|mlp\.fc[12])"
RIGHT: dict[str, dict[str, object]] = {
    "plain": {},
    "pattern": {"target_modules": PATTERN, "exclude_modules": r".*\.0\.mlp\.fc1"},
    "all-linear": {"target_modules": "all-linear"},
    "one layer": {"layers_to_transform": [1], "layers_pattern": "layers"},
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True},
    "pissa": {"init_lora_weights": "pissa"},
    "pissa rslora": {"init_lora_weights": "pissa", "use_rslora": True, "rank_pattern": {"fc1": 2}},
    "olora": {"init_lora_weights": "olora", "alpha_pattern": {"layers.1.mlp.fc2": 3}},
    "gaussian": {"init_lora_weights": "gaussian"},
    "lora_bias": {"lora_bias": True},
    "modules_to_save": {"modules_to_save": ["text_projection"]},
    "saved norm": {"modules_to_save": ["final_layer_norm", "layer_norm1"]},
    "rank and alpha patterns": {
        "rank_pattern": {"q_proj": 1, r".*layers\.1\.mlp\.fc1": 2},
        "alpha_pattern": {"v_proj": 16, "text_model.encoder.layers.0.self_attn.q_proj": 5},
    },
    "embedding": {"target_modules": ["token_embedding", "q_proj"]},
}
UNMIXABLE = ("dora", "lora_bias", "modules_to_save", "saved norm", "embedding")
REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "bias": ({"bias": "all"}, "bias is 'all'"),
    "biases of LoRA": ({"bias": "lora_only"}, "bias is 'lora_only'"),
    "random pissa": ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights is 'pissa_niter_4'"),
    "pissa of dora": ({"init_lora_weights": "pissa", "use_dora": True}, "together with DoRA"),
    "tokens": ({"trainable_token_indices": {"token_embedding": [3, 4]}}, "trainable_token_indices"),
    "alora": ({"alora_invocation_tokens": [3]}, "alora_invocation_tokens"),
}


def fresh_base(base: Path) -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection.from_pretrained(base).eval()


def made_by_peft(base: Path, folder: Path, settings: dict[str, object], seed: int = 1) -> Path:
    """An adapter that plain peft made, trained and saved."""
    torch.manual_seed(seed)
    settings = {"r": 3, "lora_alpha": 7, "target_modules": ALL} | settings
    model = get_peft_model(fresh_base(base), LoraConfig(**settings))
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(str(folder))
    return folder


@torch.no_grad()
def vectors(model: torch.nn.Module, encoder: AdaCLIP) -> Tensor:
    """Pooled vectors of plain transformers, one prompt after another."""
    rows = [encoder.tokenizer(text, return_tensors="pt")["input_ids"] for text in tiny.PROMPTS]
    return torch.cat([model(input_ids=row).text_embeds for row in rows])


@torch.no_grad()
def forward(encoder: AdaCLIP) -> Tensor:
    return encoder(*encoder.tokenize(tiny.PROMPTS)).pooled


@pytest.mark.parametrize("kind", RIGHT)
@pytest.mark.filterwarnings("ignore:Adapter .*LoRA tensor.*have invalid shape", "ignore:Using Rank-Stabilized LoRA")
def test_adapter_kinds_give_the_vectors_of_peft_everywhere(kind: str, base: Path, tmp_path: Path) -> None:
    folder = made_by_peft(base, tmp_path / "kind", RIGHT[kind])
    other = made_by_peft(base, tmp_path / "other", {"target_modules": ["q_proj", "fc1"]}, seed=2)
    alone, beside = AdaCLIP.from_pretrained(folder), AdaCLIP.from_pretrained(other)
    plain = vectors(fresh_base(base), alone)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft's about PiSSA and tied weights
        right = vectors(PeftModel.from_pretrained(fresh_base(base), folder).eval(), alone)
        others = vectors(PeftModel.from_pretrained(fresh_base(base), other).eval(), alone)
    assert deviation(right, plain) > 1e-2
    assert deviation(right, others) > 1e-2

    def same(found: Tensor, expected: Tensor) -> bool:
        return deviation(found, expected) < 10 * FLOAT32  # a decomposition and a product between the two

    encode = alone.encode
    assert same(encode(tiny.PROMPTS), right)
    assert same(forward(alone), right)
    assert same(encode(tiny.PROMPTS, adapter="base"), plain)
    with alone.disable_adapter():
        assert same(encode(tiny.PROMPTS), plain)
        assert same(forward(alone), plain)
    assert same(vectors(alone.merged(), alone), right)

    for first, second, of_first, of_second in ((alone, other, right, others), (beside, folder, others, right)):
        first.load_adapter(second, "kit")
        assert same(first.encode(tiny.PROMPTS), of_first)
        assert same(forward(first), of_first)
        assert same(first.encode(tiny.PROMPTS, adapter="kit"), of_second)
        assert same(first.encode(tiny.PROMPTS, adapter="base"), plain)
        first.set_adapter("kit")
        assert same(forward(first), of_second)
        assert same(vectors(first.merged(), first), of_second)
        first.set_adapter("default")
        assert same(forward(first), of_first)
        with first.disable_adapter():
            assert same(forward(first), plain)

    saved = alone.save_pretrained(tmp_path / "saved")
    assert same(AdaCLIP.from_pretrained(saved).encode(tiny.PROMPTS), right)
    assert same(vectors(PeftModel.from_pretrained(fresh_base(base), saved).eval(), alone), right)

    if kind in UNMIXABLE:
        with pytest.raises(AdaCLIPError, match=r"a mix cannot|no weighted sum"):
            alone.mix_adapters({"default": 1.0, "kit": 1.0}, "mix")
        assert alone.adapters == ["default", "kit"]
    else:
        alone.mix_adapters({"default": 0.5, "kit": 2.0}, "mix")
        states = [
            alone._weights.get(alone.text_model, name)[0].state_dict() for name in (None, "default", "kit", "mix")
        ]
        for name, value in states[0].items():
            expected = value + 0.5 * (states[1][name] - value) + 2 * (states[2][name] - value)
            assert deviation(states[3][name], expected) < 10 * FLOAT32
        assert same(encode(tiny.PROMPTS), right)


@pytest.mark.parametrize("kind", REFUSED)
def test_adapter_kinds_that_cannot_be_right_are_refused(kind: str, base: Path, tmp_path: Path) -> None:
    settings, said = REFUSED[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = made_by_peft(base, tmp_path / "kind", settings)
    encoder = AdaCLIP.from_base(base, rank=2)
    before = encoder.encode(tiny.PROMPTS)
    for load in (AdaCLIP.from_pretrained, lambda path: encoder.load_adapter(path, "kit")):
        with pytest.raises(AdaCLIPError, match=said) as refusal:
            load(folder)
        assert "\n" not in str(refusal.value)
    assert encoder.adapters == ["default"]
    assert torch.equal(encoder.encode(tiny.PROMPTS), before)


def test_adapter_kinds_compare_shows_the_true_base(base: Path, tmp_path: Path) -> None:
    pairs = [("a person walks", "hi"), ("he turns left", "hi")]
    shown = {}
    for kind in ("plain", "pissa", "modules_to_save", "dora"):
        folder = made_by_peft(base, tmp_path / kind, RIGHT[kind])
        shown[kind] = [line.split()[-2] for line in compare([str(folder)], pairs).splitlines()]
    assert all(column == shown["plain"] for column in shown.values())


def test_strength_scales_the_change_of_every_weight(base: Path, tmp_path: Path) -> None:
    for kind in ("plain", "dora", "modules_to_save", "pissa"):
        encoder = AdaCLIP.from_pretrained(made_by_peft(base, tmp_path / kind, RIGHT[kind]))
        full, plain = encoder.encode(tiny.PROMPTS), encoder.encode(tiny.PROMPTS, adapter="base")
        assert torch.equal(encoder.encode(tiny.PROMPTS, strength=1), full)
        assert deviation(encoder.encode(tiny.PROMPTS, strength=0), plain) < FLOAT32
        half = encoder.encode(tiny.PROMPTS, strength=0.5)
        states = [encoder._weights.get(encoder.text_model, *key)[0].state_dict()
                  for key in ((None,), ("default",), ("default", 0.5))]  # fmt: skip
        assert all(deviation(h, (b + f) / 2) < FLOAT32 for b, f, h in zip(*(s.values() for s in states), strict=True))
        assert deviation(half, full) > 1e-3
        assert torch.equal(encoder.encode(tiny.PROMPTS), full)
    for wrong in (float("nan"), float("inf"), "1", True):
        with pytest.raises(ValueError, match="strength"):
            encoder.encode(["hi"], strength=wrong)


def test_merging_by_peft_leaves_base_and_adapter_right(encoder: AdaCLIP) -> None:
    right, plain = encoder.encode(tiny.PROMPTS), encoder.encode(tiny.PROMPTS, adapter="base")
    encoder.text_model.merge_adapter()
    assert deviation(encoder.encode(tiny.PROMPTS), right) < FLOAT32
    assert deviation(encoder.encode(tiny.PROMPTS, adapter="base"), plain) < FLOAT32
    encoder.text_model.unmerge_adapter()
    assert deviation(encoder.encode(tiny.PROMPTS), right) < FLOAT32
