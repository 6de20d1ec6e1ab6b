"""Adapter folders: standard PEFT, loaded whole or refused by name, moved with their base."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, CLIPTextModel, CLIPTextModelWithProjection

from adaclip import AdaCLIP, AdaCLIPError, LoRASettings
from adaclip.hub import CONFIG, WEIGHTS
from adaclip.integrity import DIGESTS
from tests.helpers import FLOAT32, deviation


def plain(model: torch.nn.Module, encoder: AdaCLIP) -> torch.Tensor:
    ids, _ = encoder.tokenize(tiny.PROMPTS)
    with torch.no_grad():
        return model.eval()(input_ids=ids).text_embeds


def read_weights(adapter: Path) -> dict[str, torch.Tensor]:
    # safetensors maps the file into memory: without a copy, overwriting the file would pull the tensors away.
    return {name: tensor.clone() for name, tensor in load_file(adapter / WEIGHTS).items()}


def edit_weights(adapter: Path, change: Callable[[dict], object]) -> None:
    tensors = read_weights(adapter)
    change(tensors)
    save_file(tensors, adapter / WEIGHTS)


def edit_config(adapter: Path, **changes: object) -> None:
    path = adapter / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    (adapter / DIGESTS).unlink(missing_ok=True)  # as who edits on purpose


def test_save_and_load_give_the_same_bits(encoder: AdaCLIP, adapter: Path, base: Path) -> None:
    loaded = AdaCLIP.from_pretrained(adapter)
    assert torch.equal(loaded.encode(tiny.PROMPTS), encoder.encode(tiny.PROMPTS))
    saved = dict(encoder.named_parameters())
    assert all(torch.equal(p, saved[name]) for name, p in loaded.named_parameters())
    assert not loaded.training
    assert all(p.requires_grad for p in loaded.adapter_parameters())
    assert not torch.equal(loaded.encode(tiny.PROMPTS), AdaCLIP.from_base(base).encode(tiny.PROMPTS))


def test_plain_peft_and_transformers_load_the_folder(
    encoder: AdaCLIP, adapter: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = encoder.encode(tiny.PROMPTS)
    with_peft = PeftModel.from_pretrained(CLIPTextModelWithProjection.from_pretrained(base), str(adapter))
    with_transformers = CLIPTextModelWithProjection.from_pretrained(base)
    without_adapter = plain(with_transformers, encoder)
    with_transformers.load_adapter(str(adapter))
    monkeypatch.chdir(adapter)  # a relative base is found by transformers itself only from inside the folder
    by_folder = CLIPTextModelWithProjection.from_pretrained(".")
    for model in (with_peft, with_transformers, by_folder):
        assert deviation(plain(model, encoder), expected) < FLOAT32
    assert not torch.allclose(without_adapter, expected, atol=1e-2)


def test_the_folder_is_a_peft_adapter_and_nothing_else(adapter: Path) -> None:
    names = {path.name for path in adapter.iterdir()}
    assert {CONFIG, WEIGHTS, "README.md", "adaclip.json", "tokenizer_config.json"} <= names
    assert "config.json" not in names  # it would make plain transformers take the folder for a whole model
    assert not [name for name in names if name.endswith((".bin", ".pt"))]
    assert all("lora_" in name for name in load_file(adapter / WEIGHTS))
    assert not list(adapter.parent.glob(".*"))


def test_a_local_base_is_found_after_the_tree_moved(base: Path, tmp_path: Path) -> None:
    tree = tmp_path / "run"
    shutil.copytree(base, tree / "pocket")
    encoder = tiny.perturb(AdaCLIP.from_base(tree / "pocket", rank=2))
    encoder.save_pretrained(tree / "results" / "adapter")
    expected = encoder.encode(tiny.PROMPTS)
    tree.rename(tmp_path / "moved")
    adapter = tmp_path / "moved" / "results" / "adapter"
    assert json.loads((adapter / CONFIG).read_text())["base_model_name_or_path"] == "../../pocket"
    assert torch.equal(AdaCLIP.from_pretrained(adapter).encode(tiny.PROMPTS), expected)
    (tmp_path / "moved" / "pocket").rename(tmp_path / "elsewhere")
    with pytest.raises(AdaCLIPError, match=r"the base \.\./\.\./pocket is not at .*pass base="):
        AdaCLIP.from_pretrained(adapter)
    moved = AdaCLIP.from_pretrained(adapter, base=tmp_path / "elsewhere")
    assert torch.equal(moved.encode(tiny.PROMPTS), expected)


def test_base_overrides_the_recorded_one(encoder: AdaCLIP, adapter: Path, tmp_path: Path) -> None:
    other = tiny.save_base(tmp_path / "other", seed=5)
    with pytest.raises(AdaCLIPError, match=r"made for another base than .*other: its text weights have sha256"):
        AdaCLIP.from_pretrained(adapter, base=other)
    swapped = AdaCLIP.from_pretrained(adapter, base=other, check_base=False)
    assert swapped.base == str(other)
    assert not torch.allclose(swapped.encode(tiny.PROMPTS), encoder.encode(tiny.PROMPTS), atol=1e-2)


def test_a_hub_id_is_recorded_as_it_is(encoder: AdaCLIP, tmp_path: Path) -> None:
    encoder.save_pretrained(tmp_path / "a", base="openai/clip-vit-base-patch32")
    config = json.loads((tmp_path / "a" / CONFIG).read_text())
    assert config["base_model_name_or_path"] == "openai/clip-vit-base-patch32"
    assert 'base_model: "openai/clip-vit-base-patch32"' in (tmp_path / "a" / "README.md").read_text()


def damage(adapter: Path, how: str) -> None:
    weights = adapter / WEIGHTS
    tensors = read_weights(adapter)
    first = sorted(tensors)[0]
    if how == "missing tensor":
        edit_weights(adapter, lambda tensors: tensors.pop(first))
    elif how == "extra tensor":
        edit_weights(adapter, lambda tensors: tensors.update(stranger=torch.zeros(2)))
    elif how == "wrong shape":
        edit_weights(adapter, lambda tensors: tensors.update({first: torch.zeros(3, 8)}))
    elif how == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif how == "empty":
        weights.write_bytes(b"")
    elif how == "pickle in disguise":
        weights.write_bytes(pickle.dumps(tensors))
    elif how == "torch file in disguise":
        torch.save(tensors, weights)
    elif how == "bin":
        torch.save(tensors, adapter / "adapter_model.bin")
        weights.unlink()
    elif how == "no config":
        (adapter / CONFIG).unlink()
    elif how == "broken config":
        (adapter / CONFIG).write_text('{"peft_type": "LORA"')
    elif how == "other peft":
        edit_config(adapter, peft_type="IA3")
    elif how == "nothing to adapt":
        edit_config(adapter, target_modules=["to_q"])
    elif how == "rank is no number":
        edit_config(adapter, r="four")
    elif how == "base is no name":
        edit_config(adapter, base_model_name_or_path=3)
    elif how == "bad pattern":
        edit_config(adapter, target_modules="(")
    elif how == "bad rank pattern":
        edit_config(adapter, rank_pattern=7)
    elif how == "not a number":
        edit_weights(adapter, lambda tensors: tensors[first].fill_(float("nan")))
    elif how == "no vocabulary":
        (adapter / "tokenizer.json").unlink()
    elif how == "broken vocabulary":
        (adapter / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "BPE", "vocab": 3}}')


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("missing tensor", r"1 missing \(first: .*fc1.lora_A.*of 20 adapter tensors"),
        ("extra tensor", r"1 unknown \(first: stranger"),
        ("wrong shape", r"fc1.lora_A.* has shape \(3, 8\), the base needs \(4, 8\)"),
        ("truncated", r"adapter_model.safetensors: not a readable safetensors file"),
        ("empty", r"adapter_model.safetensors: not a readable safetensors file"),
        ("pickle in disguise", r"adapter_model.safetensors: not a readable safetensors file"),
        ("torch file in disguise", r"adapter_model.safetensors: not a readable safetensors file"),
        ("bin", r"safetensors is missing.*adapter_model.bin, which is refused"),
        ("no config", r"adapter_config.json is missing"),
        ("broken config", r"adapter_config.json: not valid JSON"),
        ("other peft", r"adapter_config.json: expected the configuration of a LoRA adapter"),
        ("nothing to adapt", r"adapter_config.json.*to_q"),
        ("rank is no number", r"adapter_config.json: r is 'four'"),
        ("base is no name", r"adapter_config.json: base_model_name_or_path is 3"),
        ("bad pattern", r"adapter_config.json: does not fit the base"),
        ("bad rank pattern", r"adapter_config.json: rank_pattern is 7"),
        ("not a number", r"fc1.lora_A.* holds NaN or infinity"),
        (
            "no vocabulary",
            r"The tokenizer of .*adapter cannot be loaded: it has 2 entries, so its vocabulary is missing",
        ),
        ("broken vocabulary", r"The tokenizer of .*adapter cannot be loaded"),
    ],
)
def test_a_damaged_adapter_is_refused_by_name(adapter: Path, how: str, said: str) -> None:
    assert AdaCLIP.from_pretrained(adapter) is not None  # the control: it was in order before
    damage(adapter, how)
    with pytest.raises(AdaCLIPError, match=said) as refusal:
        AdaCLIP.from_pretrained(adapter)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "nowhere", "a/b/c"])
def test_a_missing_folder_is_named(name: str) -> None:
    with pytest.raises(AdaCLIPError, match=rf"{name}: no such adapter folder"):
        AdaCLIP.from_pretrained(name)


def test_a_missing_base_is_named(encoder: AdaCLIP, tmp_path: Path) -> None:
    encoder.save_pretrained(tmp_path / "a", base="nobody/nothing")
    with pytest.raises(AdaCLIPError, match=r"The base CLIP model nobody/nothing cannot be loaded"):
        AdaCLIP.from_pretrained(tmp_path / "a")
    edit_config(tmp_path / "a", base_model_name_or_path=None)
    with pytest.raises(AdaCLIPError, match=r"base_model_name_or_path is empty"):
        AdaCLIP.from_pretrained(tmp_path / "a")


def test_a_base_without_projection_is_refused(base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(base, tmp_path / "headless")
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
    del tensors["text_projection.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(AdaCLIPError, match=r"1 tensors of the text encoder are missing, first text_projection.weight"):
        AdaCLIP.from_base(folder)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("truncated", r"The base CLIP model .* cannot be loaded"),
        ("wrong shape", r"The base CLIP model .* cannot be loaded"),
        ("no vocabulary", r"The tokenizer of .* has 2 entries"),
        ("small embedding", r"the tokenizer has ids up to \d+, the model embeds 100"),
    ],
)
def test_a_damaged_base_is_refused_by_name(base: Path, tmp_path: Path, how: str, said: str) -> None:
    folder = shutil.copytree(base, tmp_path / "damaged")
    weights = folder / "model.safetensors"
    if how == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif how == "wrong shape":
        tensors = {name: tensor.clone() for name, tensor in load_file(weights).items()}
        tensors["text_projection.weight"] = torch.zeros(3, 3)
        save_file(tensors, weights, metadata={"format": "pt"})
    elif how == "no vocabulary":
        (folder / "tokenizer.json").unlink()
    elif how == "small embedding":
        model = CLIPTextModelWithProjection.from_pretrained(base)
        model.resize_token_embeddings(100)
        model.save_pretrained(folder)
    with pytest.raises(AdaCLIPError, match=said) as refusal:
        AdaCLIP.from_base(folder)
    assert "\n" not in str(refusal.value)


def test_safetensors_of_the_hubs_conversion_bot_are_found_offline(base: Path, tmp_path: Path) -> None:
    """A repository of pickles, as the cache keeps it after one load with a connection."""
    cached = tmp_path / "cache" / "models--somebody--clip"
    for ref, commit in (("main", "a" * 40), ("refs/pr/3", "b" * 40)):
        (cached / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
        (cached / "refs" / ref).write_text(commit)
        (cached / "snapshots" / commit).mkdir(parents=True)
    for path in base.iterdir():
        commit = "b" * 40 if path.suffix == ".safetensors" else "a" * 40
        shutil.copy2(path, cached / "snapshots" / commit)
    loaded = AdaCLIP.from_base("somebody/clip", cache_dir=tmp_path / "cache", rank=2)
    assert torch.equal(loaded.encode(["hi"]), AdaCLIP.from_base(base, rank=2).encode(["hi"]))
    (cached / "snapshots" / ("b" * 40) / "model.safetensors").unlink()
    with pytest.raises(AdaCLIPError, match="somebody/clip cannot be loaded"):
        AdaCLIP.from_base("somebody/clip", cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("device", ["gpu", "cuda", 3.5])
def test_a_device_that_is_not_there_is_refused(base: Path, device: object) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(ValueError, match="device"):
        AdaCLIP.from_base(base, device=device)


def test_a_feature_extraction_adapter_loads(adapter: Path, encoder: AdaCLIP) -> None:
    edit_config(adapter, task_type="FEATURE_EXTRACTION")  # what many LoRA scripts write
    loaded = AdaCLIP.from_pretrained(adapter)
    assert torch.equal(loaded.encode(tiny.PROMPTS), encoder.encode(tiny.PROMPTS))
    loaded(*loaded.tokenize(["hi"]))


def test_a_relative_base_is_remembered_by_its_place(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(base.parent)
    encoder = AdaCLIP.from_base(base.name, rank=2)
    monkeypatch.chdir(tmp_path)
    encoder.save_pretrained("adapter")
    assert torch.equal(AdaCLIP.from_pretrained(tmp_path / "adapter").encode(["hi"]), encoder.encode(["hi"]))


@pytest.mark.parametrize("holds", ["notes.txt", "kit", "adapter_config.json"])
def test_saving_replaces_its_own_folders_only(encoder: AdaCLIP, tmp_path: Path, holds: str) -> None:
    folder = tmp_path / "precious"
    (folder / holds).mkdir(parents=True)
    with pytest.raises(AdaCLIPError, match=r"precious: holds .* Give another folder"):
        encoder.save_pretrained(folder)
    assert [path.name for path in folder.iterdir()] == [holds]
    (tmp_path / "file").write_text("")
    with pytest.raises(AdaCLIPError, match="is a file"):
        encoder.save_pretrained(tmp_path / "file")


def test_saving_into_the_working_directory_is_refused(
    encoder: AdaCLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AdaCLIPError, match="the working directory"):
        encoder.save_pretrained(".")


def test_a_link_goes_on_pointing_where_it_did(encoder: AdaCLIP, adapter: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "link"
    link.parent.mkdir()
    link.symlink_to(adapter)
    tiny.perturb(encoder, seed=4).save_pretrained(link)
    assert link.is_symlink()
    assert torch.equal(AdaCLIP.from_pretrained(adapter).encode(["hi"]), encoder.encode(["hi"]))


@pytest.mark.parametrize("kind", [CLIPTextModel, CLIPTextModelWithProjection])
def test_an_adapter_of_another_model_class_loads_completely(kind: type, base: Path, tmp_path: Path) -> None:
    lora = LoraConfig(r=3, lora_alpha=3, target_modules=LoRASettings().target_modules, init_lora_weights=False)
    model = get_peft_model(kind.from_pretrained(base), lora).eval()
    model.save_pretrained(str(tmp_path / "a"))
    loaded = AdaCLIP.from_pretrained(tmp_path / "a", base=base)
    ids, mask = loaded.tokenize(tiny.PROMPTS)
    with torch.no_grad():
        states = model(input_ids=ids).last_hidden_state
    tokens = loaded.encode(tiny.PROMPTS, output="tokens").tokens
    assert deviation(tokens, states * mask[..., None]) < FLOAT32
    with model.disable_adapter(), torch.no_grad():
        assert not torch.allclose(model(input_ids=ids).last_hidden_state[mask], tokens[mask], atol=1e-2)


def full_clip(base: Path) -> CLIPModel:
    """A whole CLIP around the tiny text tower."""
    text = CLIPTextModelWithProjection.from_pretrained(base)
    vision = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPModel.config_class(
        text_config=text.config.to_dict(), vision_config=vision | {"image_size": 8, "patch_size": 4}, projection_dim=6
    )
    model = CLIPModel(config)
    model.load_state_dict(text.state_dict(), strict=False)
    return model.eval()


def test_an_adapter_of_a_whole_clip_loads_completely(base: Path, tmp_path: Path) -> None:
    lora = LoraConfig(r=2, lora_alpha=2, target_modules=LoRASettings().target_modules, init_lora_weights=False)
    model = get_peft_model(full_clip(base), lora).eval()
    model.save_pretrained(str(tmp_path / "a"))
    loaded = AdaCLIP.from_pretrained(tmp_path / "a", base=base)
    ids, mask = loaded.tokenize(tiny.PROMPTS)
    with torch.no_grad():
        expected = model.get_text_features(input_ids=ids, attention_mask=mask.long()).pooler_output
    assert deviation(loaded.encode(tiny.PROMPTS), expected) < FLOAT32


def test_an_adapter_of_both_towers_gives_its_text_vectors(base: Path, tmp_path: Path) -> None:
    model = get_peft_model(
        full_clip(base), LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["text_projection"])
    )
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and "text" in name:
            parameter.data.add_(0.3)
    model.save_pretrained(str(tmp_path / "a"))
    with pytest.warns(UserWarning, match="2 tensors of the vision tower are left out"):
        encoder = AdaCLIP.from_pretrained(tmp_path / "a", base=base)
    ids, mask = encoder.tokenize(tiny.PROMPTS)
    with torch.no_grad():
        states = model.eval().base_model.model.text_model(input_ids=ids, attention_mask=mask.long())
        expected = model.base_model.model.text_projection(states.pooler_output)
    assert deviation(encoder.encode(tiny.PROMPTS), expected) < FLOAT32
    assert deviation(encoder.encode(tiny.PROMPTS, adapter="base"), expected) > 1e-2


def test_an_adapter_of_a_vision_tower_is_refused(base: Path, tmp_path: Path) -> None:
    model = get_peft_model(full_clip(base), LoraConfig(r=2, target_modules=r".*vision_model.*q_proj"))
    model.save_pretrained(str(tmp_path / "a"))
    with pytest.raises(AdaCLIPError, match=r"it adapts the vision tower only \(.*vision_model"):
        AdaCLIP.from_pretrained(tmp_path / "a", base=base)


def test_a_base_inside_the_folder_survives_saving_over_it(encoder: AdaCLIP, adapter: Path, base: Path) -> None:
    shutil.copytree(base, adapter / "base")
    edit_config(adapter, base_model_name_or_path="./base")
    loaded = tiny.perturb(AdaCLIP.from_pretrained(adapter), seed=7)
    loaded.save_pretrained(adapter)
    assert torch.equal(AdaCLIP.from_pretrained(adapter).encode(["hi"]), loaded.encode(["hi"]))


def test_saving_is_atomic(encoder: AdaCLIP, adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in adapter.iterdir()}

    def fail(*_: object) -> None:
        raise OSError("disk full")

    def fail_second(source: object, target: object) -> None:
        renamed.append(target)
        if len(renamed) == before_failing:
            raise OSError("disk full")
        os_replace(source, target)

    os_replace, renamed = os.replace, []
    before_failing = 99
    with monkeypatch.context() as patch:  # the last rename, when the old folder is already out of the way
        patch.setattr("os.replace", fail_second)
        encoder.save_pretrained(adapter)
        before_failing, renamed = len(renamed), []
        before = {path.name: path.read_bytes() for path in adapter.iterdir()}
        with pytest.raises(OSError, match="disk full"):
            tiny.perturb(encoder, seed=8).save_pretrained(adapter)
    assert {path.name: path.read_bytes() for path in adapter.iterdir()} == before

    tiny.perturb(encoder, seed=9)
    with monkeypatch.context() as patch:
        patch.setattr(encoder.tokenizer, "save_pretrained", fail)
        with pytest.raises(OSError, match="disk full"):
            encoder.save_pretrained(adapter)
    assert {path.name: path.read_bytes() for path in adapter.iterdir()} == before
    assert not list(adapter.parent.glob(".*"))
    encoder.save_pretrained(adapter)
    assert (adapter / WEIGHTS).read_bytes() != before[WEIGHTS]
