"""Several adapters in one encoder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file

from adaclip import AdaCLIP, AdaCLIPError
from tests.helpers import FLOAT32, deviation


@pytest.fixture
def other(base: Path, tmp_path: Path) -> Path:
    """Another adapter of the same base, of another rank."""
    torch.manual_seed(5)
    return tiny.perturb(AdaCLIP.from_base(base, rank=2), seed=6).save_pretrained(tmp_path / "other")


def test_each_adapter_gives_what_it_gives_alone(encoder: AdaCLIP, other: Path, base: Path) -> None:
    first, second = encoder.encode(tiny.PROMPTS), AdaCLIP.from_pretrained(other).encode(tiny.PROMPTS)
    assert not torch.allclose(first, second, atol=1e-2)
    encoder.load_adapter(other, "kit")
    assert encoder.adapters == ["default", "kit"]
    assert encoder.active_adapter == "default"
    assert torch.equal(encoder.encode(tiny.PROMPTS), first)
    assert torch.equal(encoder.encode(tiny.PROMPTS, adapter="kit"), second)
    assert torch.equal(encoder.encode(tiny.PROMPTS), first)
    encoder.set_adapter("kit")
    assert torch.equal(encoder.encode(tiny.PROMPTS), second)
    with torch.no_grad():
        assert deviation(encoder(*encoder.tokenize(tiny.PROMPTS)).pooled, second) < FLOAT32
    with encoder.disable_adapter():
        assert torch.equal(encoder.encode(tiny.PROMPTS), AdaCLIP.from_base(base).encode(tiny.PROMPTS))
        assert torch.equal(encoder.encode(tiny.PROMPTS, adapter="default"), first)


def test_further_adapters_have_the_mode_of_the_encoder(encoder: AdaCLIP, base: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    dropping = tiny.perturb(AdaCLIP.from_base(base, rank=2, dropout=0.5)).save_pretrained(tmp_path / "dropping")
    encoder.eval().load_adapter(dropping, "kit")
    encoder.mix_adapters({"default": 0.5, "kit": 0.5}, "mix")
    assert not any(module.training for module in encoder.modules())
    encoder.set_adapter("kit")
    with torch.no_grad():
        first, second = (encoder(*encoder.tokenize(tiny.PROMPTS)).pooled for _ in range(2))
    assert torch.equal(first, second)


def test_disabling_gives_the_base_and_keeps_what_learns(encoder: AdaCLIP, base: Path) -> None:
    adapted, plain = encoder.encode(tiny.PROMPTS), AdaCLIP.from_base(base).encode(tiny.PROMPTS)
    for wanted in (True, False):
        encoder.requires_grad_(False)
        for parameter in encoder.adapter_parameters():
            parameter.requires_grad_(wanted)
        with encoder.disable_adapter(), torch.no_grad():
            assert torch.equal(encoder.encode(tiny.PROMPTS), plain)
            assert deviation(encoder(*encoder.tokenize(tiny.PROMPTS)).pooled, plain) < FLOAT32
        assert {p.requires_grad for p in encoder.adapter_parameters()} == {wanted}
        assert torch.equal(encoder.encode(tiny.PROMPTS), adapted)
    assert not torch.allclose(adapted, plain, atol=1e-2)


def test_only_the_active_adapter_learns_and_is_saved(encoder: AdaCLIP, other: Path, tmp_path: Path) -> None:
    encoder.load_adapter(other, "kit")
    assert {name for name, p in encoder.named_parameters() if p.requires_grad} == {
        name for name, _ in encoder.named_parameters() if ".default." in name and "lora_" in name
    }
    encoder.set_adapter("kit")
    assert {id(p) for p in encoder.adapter_parameters()} == {id(p) for p in encoder.parameters() if p.requires_grad}
    saved = encoder.save_pretrained(tmp_path / "saved")
    weights, expected = (load_file(folder / "adapter_model.safetensors") for folder in (saved, other))
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in weights)
    assert torch.equal(AdaCLIP.from_pretrained(saved).encode(["hi"]), encoder.encode(["hi"]))
    assert not [path for path in saved.iterdir() if path.is_dir()]


def test_names_and_bases_that_do_not_fit_are_refused(encoder: AdaCLIP, other: Path, tmp_path: Path) -> None:
    before = encoder.encode(tiny.PROMPTS)
    for name in ("default", "no name", "a.b", ""):
        with pytest.raises(AdaCLIPError, match="cannot name another adapter"):
            encoder.load_adapter(other, name)
    with pytest.raises(ValueError, match="No adapter 'kit' in this encoder: choose from default"):
        encoder.encode(["hi"], adapter="kit")
    with pytest.raises(ValueError, match="No adapter 'kit'"):
        encoder.set_adapter("kit")
    wide = tiny.save_base(tmp_path / "wide", intermediate_size=24)
    misfit = AdaCLIP.from_base(wide).save_pretrained(tmp_path / "misfit")
    with pytest.raises(AdaCLIPError, match="the base needs"):
        encoder.load_adapter(misfit, "kit", check_base=False)
    assert encoder.adapters == ["default"]
    assert torch.equal(encoder.encode(tiny.PROMPTS), before)
    encoder.load_adapter(other, "kit")


def test_an_adapter_of_another_base_is_refused(encoder: AdaCLIP, other: Path, base: Path, tmp_path: Path) -> None:
    stranger = AdaCLIP.from_base(tiny.save_base(tmp_path / "stranger", seed=3)).save_pretrained(tmp_path / "a")
    with pytest.raises(AdaCLIPError, match=r"made for the base .*stranger, this encoder's is"):
        encoder.load_adapter(stranger, "kit")
    encoder.load_adapter(stranger, "forced", check_base=False)
    shutil.copytree(base, tmp_path / "copy")
    same = AdaCLIP.from_base(tmp_path / "copy").save_pretrained(tmp_path / "b")
    encoder.load_adapter(same, "of-a-copy")
    encoder.save_pretrained(tmp_path / "c", base="someone/clip")
    encoder.load_adapter(tmp_path / "c", "unknown")  # a Hub id and a folder: nothing can be told
    encoder.base = "somebody/else"
    with pytest.raises(AdaCLIPError, match="made for the base someone/clip, this encoder's is somebody/else"):
        encoder.load_adapter(tmp_path / "c", "known")


def test_a_mix_changes_the_base_by_the_weighted_sum(encoder: AdaCLIP, other: Path, base: Path, tmp_path: Path) -> None:
    encoder.load_adapter(other, "kit")
    encoder.mix_adapters({"default": 0.25, "kit": 2.0}, "mix")
    assert encoder.active_adapter == "default"
    assert not any(p.requires_grad for name, p in encoder.named_parameters() if ".mix." in name)

    def weights(name: str | None) -> dict[str, torch.Tensor]:
        return encoder._weights.get(encoder.text_model, name)[0].state_dict()

    plain, first = weights(None), weights("default")
    second, mix = weights("kit"), weights("mix")
    for tensor, value in mix.items():
        expected = plain[tensor] + 0.25 * (first[tensor] - plain[tensor]) + 2 * (second[tensor] - plain[tensor])
        assert deviation(value, expected) < FLOAT32
    vectors = encoder.encode(tiny.PROMPTS, adapter="mix")
    assert not torch.allclose(vectors, encoder.encode(tiny.PROMPTS, adapter="kit"), atol=1e-2)
    encoder.set_adapter("mix")
    saved = AdaCLIP.from_pretrained(encoder.save_pretrained(tmp_path / "mix"))
    assert torch.equal(saved.encode(tiny.PROMPTS), vectors)
    with pytest.raises(AdaCLIPError, match="cannot name"):
        encoder.mix_adapters({"kit": 1.0}, "mix")
    with pytest.raises(AdaCLIPError, match="at least one"):
        encoder.mix_adapters({}, "none")
