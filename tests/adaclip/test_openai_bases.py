"""Bases in OpenAI's and open_clip's formats."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from openai_reference import adapted, save_base
from safetensors.torch import save_file
from transformers import CLIPModel, CLIPTextModelWithProjection

from adaclip import AdaCLIP, AdaCLIPError, exports
from adaclip.exports import openai_weights
from tests.helpers import FLOAT32, deviation

PROMPTS = ["a person walks", "jumps twice!", ""]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A whole CLIP of transformers, from which the other formats are made."""
    return save_base(tmp_path_factory.mktemp("plain") / "base", vision=True)


def add_tokenizer(plain: Path, folder: Path) -> None:
    for path in plain.iterdir():
        if path.name not in ("model.safetensors", "config.json"):
            shutil.copy2(path, folder / path.name)


def write(plain: Path, form: str, folder: Path) -> Path:
    """The weights of `plain` as a base of another format."""
    folder.mkdir()
    add_tokenizer(plain, folder)
    state = openai_weights.to_openai(CLIPModel.from_pretrained(plain).state_dict())
    if form == "torchscript":
        return exports.to_openai(AdaCLIP.from_base(plain), folder / "ViT-B-32.pt")
    if form == "state dict":
        torch.save(state, folder / "ViT-B-32.pt")
        return folder / "ViT-B-32.pt"
    text = {"width": 64, "heads": 1, "layers": 2}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"quick_gelu": True, "text_cfg": text}}))
    if form == "open_clip checkpoint":
        state = {("text." if not name.startswith(("visual.", "logit")) else "") + name: v for name, v in state.items()}
        wrapped = {"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}}
        torch.save(wrapped, folder / "open_clip_pytorch_model.bin")
    else:
        save_file(state, folder / "open_clip_model.safetensors")
    return folder


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("form", ["torchscript", "state dict", "open_clip", "open_clip checkpoint"])
def test_openai_base_gives_the_vectors_of_the_transformers_folder(form, plain, tmp_path, monkeypatch):
    base = write(plain, form, tmp_path / "given")
    expected = AdaCLIP.from_base(plain).encode(PROMPTS)
    encoder = AdaCLIP.from_base(base)
    assert deviation(encoder.encode(PROMPTS), expected) < FLOAT32
    assert (expected[0] - expected[1]).abs().max() > 1e-2  # control
    encoder = adapted(base)
    folder = encoder.save_pretrained(tmp_path / "adapter")
    monkeypatch.chdir(tmp_path)
    assert torch.equal(AdaCLIP.from_pretrained("adapter").encode(PROMPTS), encoder.encode(PROMPTS))
    whole = encoder.save_pretrained(tmp_path / "whole", with_base=True)
    assert deviation(AdaCLIP.from_pretrained(whole).encode(PROMPTS), encoder.encode(PROMPTS)) < FLOAT32
    assert CLIPTextModelWithProjection.from_pretrained(whole / "base")
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"].startswith("../given")


@pytest.mark.parametrize("form", ["state dict", "open_clip"])
def test_exports_of_an_openai_base_keep_its_vision_tower(form, plain, tmp_path):
    encoder = adapted(write(plain, form, tmp_path / "given"))
    exported = CLIPModel.from_pretrained(exports.to_hf(encoder, tmp_path / "out"))
    expected = CLIPModel.from_pretrained(plain).vision_model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in exported.vision_model.state_dict().items())


def test_open_clip_activation_and_heads_are_read(plain, tmp_path):
    base = write(plain, "open_clip", tmp_path / "given")
    path = base / "open_clip_config.json"
    config = json.loads(path.read_text())
    del config["model_cfg"]["quick_gelu"]
    config["model_cfg"]["text_cfg"]["heads"] = 2
    path.write_text(json.dumps(config))
    model = AdaCLIP.from_base(base).text_model.config
    assert (model.hidden_act, model.num_attention_heads) == ("gelu", 2)
    config["model_cfg"]["text_cfg"]["hf_model_name"] = "roberta-base"
    path.write_text(json.dumps(config))
    with pytest.raises(AdaCLIPError, match="hf_model_name"):
        AdaCLIP.from_base(base)
    path.unlink()
    with pytest.raises(AdaCLIPError, match=r"open_clip_config\.json is missing beside it"):
        AdaCLIP.from_base(base / "open_clip_model.safetensors")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda state: state.pop("ln_final.bias"), r"Tensor ln_final\.bias .* is missing"),
        (lambda state: state.update({"transformer.resblocks.0.ls_1.gamma": torch.ones(1)}), "ls_1.gamma"),
        (lambda state: state.pop("token_embedding.weight"), "holds no CLIP text encoder"),
    ],
)
def test_incomplete_or_foreign_openai_weights_are_refused(damage, message, plain, tmp_path):
    base = write(plain, "state dict", tmp_path / "given")
    state = torch.load(base, weights_only=True)
    damage(state)
    torch.save(state, base)
    with pytest.raises(AdaCLIPError, match=message):
        AdaCLIP.from_base(base)


def test_files_that_are_no_weights_are_refused(tmp_path):
    (tmp_path / "ViT-B-32.pt").write_bytes(b"<html>404</html>")
    with pytest.raises(AdaCLIPError, match=r"ViT-B-32\.pt: cannot be read as weights"):
        AdaCLIP.from_base(tmp_path / "ViT-B-32.pt")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(AdaCLIPError, match=r"notes\.txt: no file that can be a base"):
        AdaCLIP.from_base(tmp_path / "notes.txt")


def test_pickled_code_in_a_base_does_not_run(tmp_path):
    class Runs:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"token_embedding.weight": Runs()}, tmp_path / "model.pt")
    with pytest.raises(AdaCLIPError, match="cannot be read as weights"):
        AdaCLIP.from_base(tmp_path / "model.pt")
    assert not (tmp_path / "ran").exists()


def test_tokenizer_of_openai_is_found_in_an_installed_package(tmp_path):
    """Without tokenizer files beside the weights; the tiny model then has too few rows for it."""
    save_base(tmp_path / "base")
    state = openai_weights.to_openai(CLIPTextModelWithProjection.from_pretrained(tmp_path / "base").state_dict())
    (tmp_path / "alone").mkdir()
    torch.save(state, tmp_path / "alone" / "ViT-B-32.pt")
    with pytest.raises(AdaCLIPError, match="the tokenizer has ids up to 49407"):
        AdaCLIP.from_base(tmp_path / "alone" / "ViT-B-32.pt")
