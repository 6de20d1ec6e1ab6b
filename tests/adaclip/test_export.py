"""Exports: each format loads in the software it is for and gives AdaCLIP's vectors; the base's would not pass."""

from __future__ import annotations

import importlib.util
import json
import stat
import warnings
from pathlib import Path

import pytest
import torch
from openai_reference import adapted, open_clip_openai, openai_package, save_base

from adaclip import AdaCLIP, AdaCLIPError, exports, openai_clip
from adaclip.exports import onnx, openai_weights
from adaclip.exports.onnx import PACKAGES
from adaclip.exports.towers import RECORD
from tests.helpers import FLOAT32, deviation

PROMPTS = ["a person walks", "a person jumps twice, then waves slowly with the left hand", "", "runs"]


@pytest.fixture(scope="module", params=[False, True], ids=["text-base", "clip-base"])
def encoder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "base"
    return adapted(save_base(folder, vision=request.param, eos=2 if request.param else None))


@pytest.fixture(scope="module")
def text_encoder(tmp_path_factory):
    return adapted(save_base(tmp_path_factory.mktemp("export") / "base"))


def has_vision(encoder: AdaCLIP) -> bool:
    return "vision_config" in json.loads((Path(encoder.base) / "config.json").read_text())


def base_vectors(encoder: AdaCLIP) -> torch.Tensor:
    return AdaCLIP.from_base(encoder.base).encode(PROMPTS)


@torch.no_grad()
def test_hf_folder_loads_as_automodel_and_autotokenizer(encoder, tmp_path):
    from transformers import AutoModel, AutoTokenizer, CLIPModel

    folder = exports.to_hf(encoder, tmp_path / "out")
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert isinstance(model, CLIPModel)
    batch = tokenizer(PROMPTS, padding=True, truncation=True, return_tensors="pt")
    assert torch.equal(batch["input_ids"], encoder.tokenize(PROMPTS)[0])
    text = model.text_model(batch["input_ids"])  # as SALAD does: no mask
    expected = encoder.encode(PROMPTS, output="both")
    assert deviation(model.text_projection(text.pooler_output), expected.pooled) < FLOAT32
    assert deviation(text.last_hidden_state * batch["attention_mask"][..., None], expected.tokens) < FLOAT32
    assert (model.text_projection(text.pooler_output) - base_vectors(encoder)).abs().max() > 1e-3
    assert tokenizer.model_max_length == 77
    assert tokenizer.pad_token == tokenizer.eos_token == "<|endoftext|>"


@torch.no_grad()
def test_hf_folder_carries_the_vision_tower_or_says_it_has_none(encoder, tmp_path):
    from transformers import CLIPModel, CLIPProcessor

    folder = exports.to_hf(encoder, tmp_path / "out")
    model = CLIPModel.from_pretrained(folder)
    config, readme = json.loads((folder / "config.json").read_text()), (folder / "README.md").read_text()
    size = model.config.vision_config.image_size
    image = torch.randn(1, 3, size, size)
    vector = model.visual_projection(model.vision_model(pixel_values=image).pooler_output)
    if has_vision(encoder):
        base = CLIPModel.from_pretrained(encoder.base)
        assert config["adaclip"] == {"vision": "base"}
        assert torch.equal(vector, base.visual_projection(base.vision_model(pixel_values=image).pooler_output))
        assert CLIPProcessor.from_pretrained(folder).image_processor.crop_size["height"] == size
        assert "stub" not in readme
    else:
        assert config["adaclip"] == {"vision": "stub"}
        assert not vector.any()
        assert "stub" in readme


def test_hf_folder_is_complete_and_says_nothing_of_this_machine(encoder, tmp_path):
    folder = exports.to_hf(encoder, tmp_path / "out")
    names = {path.name for path in folder.iterdir()}
    needed = {"vocab.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json"}
    assert names >= needed | {"config.json", "model.safetensors", "README.md", RECORD}
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
    for path in folder.iterdir():
        assert str(tmp_path.parent).encode() not in path.read_bytes(), path.name
        assert path.stat().st_mode & stat.S_IRGRP == folder.stat().st_mode & stat.S_IRGRP, path.name
    config = json.loads((folder / "config.json").read_text())["text_config"]
    assert config["eos_token_id"] == encoder.tokenizer.eos_token_id  # not the 2 of OpenAI's configs


def test_an_hf_folder_is_a_base_again(encoder, tmp_path):
    again = AdaCLIP.from_base(exports.to_hf(encoder, tmp_path / "out"))
    assert deviation(again.encode(PROMPTS), encoder.encode(PROMPTS)) < FLOAT32
    exports.to_hf(again, tmp_path / "twice")
    for name in ("config.json", "vocab.json", "merges.txt", "tokenizer_config.json"):
        assert (tmp_path / "twice" / name).read_text() == (tmp_path / "out" / name).read_text()


@torch.no_grad()
def test_text_encoder_folder(encoder, tmp_path):
    from transformers import AutoTokenizer, CLIPTextModelWithProjection

    folder = exports.to_text_encoder(encoder, tmp_path / "out")
    model, report = CLIPTextModelWithProjection.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    batch = AutoTokenizer.from_pretrained(folder)(PROMPTS, padding=True, return_tensors="pt")
    assert deviation(model(**batch).text_embeds, encoder.encode(PROMPTS)) < FLOAT32
    assert (model(**batch).text_embeds - base_vectors(encoder)).abs().max() > 1e-3


@torch.no_grad()
def test_openai_archive_loads_in_openais_package(encoder, tmp_path):
    clip = openai_package()
    path = exports.to_openai(encoder, tmp_path / "model.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript's deprecation
        model, _ = clip.load(str(path), device="cpu", jit=False)
        state = torch.jit.load(str(path)).state_dict()
    ids = openai_clip.tokenize(PROMPTS, tokenizer=encoder.tokenizer)
    expected = encoder.encode(PROMPTS)
    rounded = (model.encode_text(ids) - expected).abs().max()
    assert rounded < 0.02  # openai-clip rounds the matrices to float16
    model.float().load_state_dict(state)
    assert deviation(model.encode_text(ids), expected) < FLOAT32
    assert rounded > 1e-5
    assert (model.encode_text(ids) - base_vectors(encoder)).abs().max() > 0.05

    image = torch.randn(1, 3, model.visual.input_resolution, model.visual.input_resolution)
    record = {RECORD: ""}
    torch.jit.load(str(path), _extra_files=record)
    record = json.loads(record[RECORD])
    if has_vision(encoder):
        from transformers import CLIPModel

        base = CLIPModel.from_pretrained(encoder.base)
        vector = base.visual_projection(base.vision_model(pixel_values=image).pooler_output)
        assert deviation(model.encode_image(image), vector) < FLOAT32
        assert "stub" not in record["vision"]
    else:
        assert not model.encode_image(image).any()
        assert "stub" in record["vision"]


@torch.no_grad()
def test_openai_archive_loads_in_open_clip(encoder, tmp_path):
    path = exports.to_openai(encoder, tmp_path / "model.pt")
    with open_clip_openai() as reader:
        model = reader.load_openai_model(str(path), precision="fp32", device="cpu").eval()
        vectors = model.encode_text(openai_clip.tokenize(PROMPTS, tokenizer=encoder.tokenizer))
    assert (vectors - encoder.encode(PROMPTS)).abs().max() < 0.02  # it rounds to float16 as well
    assert (vectors - base_vectors(encoder)).abs().max() > 0.05


def test_openai_archive_goes_back_to_hugging_face_bit_by_bit(text_encoder, tmp_path):
    path = exports.to_openai(text_encoder, tmp_path / "model.pt")
    state = openai_weights.to_hf(torch.jit.load(str(path)).state_dict())
    merged = text_encoder.merged().state_dict()
    assert all(torch.equal(state[name], value) for name, value in merged.items())
    base = AdaCLIP.from_base(text_encoder.base).merged().state_dict()
    assert any(not torch.equal(base[name], value) for name, value in merged.items())


@pytest.mark.parametrize(
    "sizes",
    [{"num_attention_heads": 4}, {"intermediate_size": 96}, {"hidden_act": "gelu"}, {"layer_norm_eps": 1e-2}],
    ids=lambda sizes: next(iter(sizes)),
)
def test_what_openais_format_cannot_say_is_refused(sizes, tmp_path):
    encoder = adapted(save_base(tmp_path / "base", **sizes))
    with pytest.raises(AdaCLIPError, match=f"text tower.*{next(iter(sizes))}.*--to hf"):
        exports.to_openai(encoder, tmp_path / "out.pt")
    assert not list(tmp_path.glob("*out.pt*"))


def test_onnx_runs_at_any_batch_and_length(text_encoder, tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="extra onnx")
    pytest.importorskip("onnxscript", reason="extra onnx")
    path = exports.to_onnx(text_encoder, tmp_path / "model.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["adaclip.format"] == "onnx"
    base = AdaCLIP.from_base(text_encoder.base)
    for prompts in (PROMPTS, PROMPTS[:1], [""], ["walks " * 75] * 5, ["a person <|endoftext|> walks"]):
        ids, mask = text_encoder.tokenize(prompts)
        pooled, tokens = session.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.long().numpy()})
        expected = text_encoder.encode(prompts, output="both")
        assert deviation(torch.from_numpy(pooled), expected.pooled) < FLOAT32
        assert deviation(torch.from_numpy(tokens), expected.tokens) < FLOAT32
        assert (torch.from_numpy(pooled) - base.encode(prompts)).abs().max() > 1e-3


def test_onnx_that_disagrees_is_not_written(text_encoder, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime", reason="extra onnx")
    pytest.importorskip("onnxscript", reason="extra onnx")
    monkeypatch.setattr(onnx, "TOLERANCE", -1.0)
    with pytest.raises(AdaCLIPError, match="pooled differ"):
        exports.to_onnx(text_encoder, tmp_path / "model.onnx")
    monkeypatch.setattr(onnx, "PACKAGES", ("no_such_runtime",))
    with pytest.raises(AdaCLIPError, match=r"no_such_runtime.*adaclip\[onnx\]"):
        exports.to_onnx(text_encoder, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["hf", "text-encoder"])
def test_folders_of_others_are_left_alone(form, text_encoder, tmp_path):
    out = tmp_path / "out"
    exports.write(text_encoder, out, form)
    exports.write(text_encoder, out, form)  # an export makes way for an export
    (out / RECORD).unlink()
    with pytest.raises(AdaCLIPError, match="would be lost"):
        exports.write(text_encoder, out, form)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(AdaCLIPError, match="is a file"):
        exports.write(text_encoder, tmp_path / "file", form)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("form", ["openai", "onnx"])
def test_files_of_others_are_replaced_with_force_alone(form, text_encoder, tmp_path):
    adapter = text_encoder.save_pretrained(tmp_path / "adapter")
    weights = (adapter / "adapter_model.safetensors").read_bytes()
    with pytest.raises(AdaCLIPError, match="lies in a model's folder"):
        exports.write(text_encoder, adapter / "adapter_model.safetensors", form)
    assert (adapter / "adapter_model.safetensors").read_bytes() == weights
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(AdaCLIPError, match="not an earlier result"):
        exports.write(text_encoder, tmp_path / "mine", form)
    assert (tmp_path / "mine").read_text() == "mine"
    exports.write(text_encoder, tmp_path / "mine", form, force=True)
    assert (tmp_path / "mine").read_bytes() != b"mine"


@pytest.mark.parametrize("form", ["openai", "onnx"])
def test_files_do_not_replace_folders(form, text_encoder, tmp_path):
    with pytest.raises(AdaCLIPError, match="is a folder"):
        exports.write(text_encoder, tmp_path, form)


def test_exporting_changes_nothing_in_the_encoder(encoder, tmp_path):
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    config = encoder.text_model.config.to_dict()
    torch.manual_seed(3)
    drawn = torch.randn(3)
    torch.manual_seed(3)
    for form in ("hf", "openai", "text-encoder"):
        exports.write(encoder, tmp_path / form, form)
    assert torch.equal(torch.randn(3), drawn)
    assert encoder.text_model.config.to_dict() == config
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())


def test_a_base_that_went_away_is_said(tmp_path):
    encoder = adapted(save_base(tmp_path / "base", vision=True))
    (tmp_path / "base").rename(tmp_path / "moved")
    with pytest.raises(AdaCLIPError, match=r"vision tower.*cannot be loaded"):
        exports.to_hf(encoder, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["moved"]


def test_half_precision_and_training_encoders_export(tmp_path):
    encoder = adapted(save_base(tmp_path / "base")).to(torch.float16)
    encoder.train()
    for form in exports.FORMATS:
        if not form.startswith("onnx") or all(importlib.util.find_spec(name) for name in PACKAGES):
            exports.write(encoder, tmp_path / form, form)
    assert encoder.training
    assert torch.jit.load(str(tmp_path / "openai")).state_dict()["text_projection"].dtype == torch.float32
    assert AdaCLIP.from_base(tmp_path / "hf").text_model.dtype == torch.float16


@torch.no_grad()
def test_flat_adapter_loads_in_plain_peft_over_cliptextmodel(text_encoder, tmp_path):
    from peft import PeftModel
    from transformers import CLIPTextModel

    def states(folder: Path) -> torch.Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft's warning that it loads nothing
            model = PeftModel.from_pretrained(CLIPTextModel.from_pretrained(text_encoder.base), str(folder)).eval()
        return model(*text_encoder.tokenize(PROMPTS[:1])).last_hidden_state

    flat = exports.write(text_encoder, tmp_path / "flat", "flat-adapter")
    expected = text_encoder.encode(PROMPTS[:1], output="tokens").tokens
    assert deviation(states(flat), expected) < FLOAT32
    usual = text_encoder.save_pretrained(tmp_path / "usual")
    assert (states(usual) - expected).abs().max() > 1e-3  # control: with the usual names peft gives the base
    assert torch.equal(AdaCLIP.from_pretrained(flat).encode(PROMPTS), text_encoder.encode(PROMPTS))


@pytest.mark.parametrize(("precision", "ids", "most"), [("float16", "int32", 2e-2), ("int8", "int64", 0.5)])
def test_onnx_folder_runs_without_this_package(precision, ids, most, text_encoder, tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="extra onnx")
    pytest.importorskip("onnxscript", reason="extra onnx")
    from transformers import AutoTokenizer

    folder = exports.write(text_encoder, tmp_path / "out", "onnx-folder", precision=precision, ids=ids)
    session = runtime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    assert {(x.name, x.type) for x in session.get_inputs()} == {
        ("input_ids", f"tensor({ids})"),
        ("attention_mask", f"tensor({ids})"),
    }
    batch = AutoTokenizer.from_pretrained(folder)(PROMPTS, padding=True, return_tensors="np")
    pooled, _ = session.run(None, {name: batch[name].astype(ids) for name in ("input_ids", "attention_mask")})
    expected = text_encoder.encode(PROMPTS)
    difference = ((torch.from_numpy(pooled) - expected).abs().max() / expected.abs().max()).item()
    assert difference < most
    config = json.loads((folder / "config.json").read_text())
    assert (config["precision"], config["inputs"]["input_ids"]) == (precision, ids)
    assert config["difference_pooled"] < most
    assert config["difference_pooled"] > 1e-6  # measured, and it is another precision
    assert config["pooling"] == {"tower": "clip", "pooling": "text_embeds"}


def test_options_of_onnx_are_refused_elsewhere(text_encoder, tmp_path):
    with pytest.raises(ValueError, match="precision: goes with --to onnx"):
        exports.write(text_encoder, tmp_path / "out", "hf", precision="int8")
    with pytest.raises(ValueError, match="choose float32, float16 or int8"):
        exports.write(text_encoder, tmp_path / "out.onnx", "onnx", precision="int4")
    assert not list(tmp_path.iterdir())
