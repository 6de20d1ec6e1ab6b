"""Text encoders of every family: base, training, adapter files, plain peft, merged weights, exports; and refusals."""

from __future__ import annotations

import copy
import json
import shutil

import pytest
import tiny
import tiny_towers
import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file, save_file

from adaclip import AdaCLIP, AdaCLIPError, exports, openai_clip, towers
from tests.helpers import FLOAT32, deviation

PROMPTS = ["a person walks", "he turns left , then waves twice", "he", "a person slowly walks back !", ""]


@pytest.fixture(scope="module", params=tiny_towers.FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def base(family, tmp_path_factory):
    return tiny_towers.save_base(tmp_path_factory.mktemp(family) / "base", family)


def pooling_of(family: str) -> dict[str, str]:
    return {"pooling": "pooler_output"} if family == "clip-pooler" else {}


@pytest.fixture(scope="module")
def trained(family, base):
    """An encoder after three steps of training."""
    torch.manual_seed(0)
    encoder = AdaCLIP.from_base(base, rank=2, alpha=4, **pooling_of(family))
    ids, mask = encoder.tokenize(PROMPTS)
    optimiser = torch.optim.Adam(encoder.adapter_parameters(), lr=0.1)
    for _ in range(3):
        features = encoder(ids, mask)
        (features.tokens.pow(2).mean() + features.pooled[:, 0].sum()).backward()
        assert all(parameter.grad is not None for parameter in encoder.adapter_parameters())
        optimiser.step()
        optimiser.zero_grad()
    return encoder.eval()


@torch.no_grad()
def plain_vectors(family: str, base, model: torch.nn.Module, encoder: AdaCLIP) -> torch.Tensor:
    """Pooled vectors computed with transformers alone, prompt by prompt, so that nothing is padded."""
    rows = []
    for prompt in PROMPTS:
        batch = encoder.tokenizer([prompt], return_tensors="pt")
        output = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        if family == "clip-pooler":
            rows.append(output.last_hidden_state[:, -1])
        elif family.startswith("clip"):
            rows.append(output.text_embeds)
        else:
            rows.append(output.last_hidden_state.mean(dim=1))
    vectors = torch.cat(rows)
    if family == "sentence-t5":
        vectors = vectors @ load_file(base / "2_Dense" / "model.safetensors")["linear.weight"].T
        vectors = vectors / vectors.norm(dim=-1, keepdim=True)
    return vectors


def load_plain(base, encoder: AdaCLIP) -> torch.nn.Module:
    return getattr(transformers, type(encoder.merged()).__name__).from_pretrained(base).eval()


def test_fresh_adapter_equals_the_base(family, base):
    encoder = AdaCLIP.from_base(base, **pooling_of(family)).eval()
    expected = plain_vectors(family, base, load_plain(base, encoder), encoder)
    assert deviation(encoder.encode(PROMPTS), expected) < FLOAT32
    assert deviation(encoder(*encoder.tokenize(PROMPTS)).pooled, expected) < FLOAT32
    assert encoder.projection_size == expected.shape[1]
    assert (expected[0] - expected[1]).abs().max() > 1e-2  # control: prompts differ
    shuffled = encoder.encode(PROMPTS[::-1])
    assert deviation(shuffled.flip(0), expected) < FLOAT32


def test_training_changes_vectors_and_adapts_attention_and_mlp(family, base, trained):
    fresh = AdaCLIP.from_base(base, **pooling_of(family))
    assert (trained.encode(PROMPTS) - fresh.encode(PROMPTS)).abs().max() > 1e-3
    adapted = {name.partition(".lora_A")[0] for name, _ in trained.named_parameters() if ".lora_A" in name}
    layers = trained.text_model.config.num_hidden_layers
    assert len(adapted) == layers * len({"t5-gated": "qkvwww", "modernbert": "qww"}.get(family, "qkvww"))
    assert not any(word in name for name in adapted for word in ("pooler", "embeddings", "vision", "text_projection"))


def test_results_do_not_depend_on_padding(trained):
    with torch.no_grad():
        ids, mask = trained.tokenize(PROMPTS)
        pad = trained.tokenizer.pad_token_id
        wide = torch.nn.functional.pad(ids, (0, 9), value=pad), torch.nn.functional.pad(mask, (0, 9))
        expected = trained(ids, mask)
        for trim in (True, False):
            found = trained(*wide, trim=trim)
            assert deviation(found.pooled, expected.pooled) < FLOAT32
            assert deviation(found.tokens[:, : ids.shape[1]], expected.tokens) < FLOAT32
            assert not found.tokens[~found.mask].any()
        alone = torch.cat([trained(*trained.tokenize([prompt])).pooled for prompt in PROMPTS])
        assert deviation(alone, expected.pooled) < FLOAT32
        without = trained(ids)  # the mask ends with the end token
        assert torch.equal(without.mask, mask)
        other = ids.clone()
        other[1, 2] = ids[1, 3]
        assert (trained(other, mask).pooled[1] - expected.pooled[1]).abs().max() > 1e-3  # control: real tokens matter


def test_masks_that_are_not_padding_on_the_right_are_refused(trained):
    ids, mask = trained.tokenize(PROMPTS)
    with pytest.raises(ValueError, match="pad input_ids on the right"):
        trained(ids.flip(1), mask.flip(1))
    with pytest.raises(ValueError, match="padded on the left"):
        trained(ids.flip(1))
    with pytest.raises(ValueError, match="attention_mask is"):
        trained(ids, mask[:, :-1])


def test_adapter_loads_here_and_in_plain_peft(family, base, trained, tmp_path):
    folder = trained.save_pretrained(tmp_path / "adapter")
    again = AdaCLIP.from_pretrained(folder)
    assert torch.equal(again.encode(PROMPTS), trained.encode(PROMPTS))
    assert again.pooling.facts() == trained.pooling.facts()
    assert json.loads((folder / "adaclip.json").read_text())["pooling"] == trained.pooling.name
    card = (folder / "README.md").read_text()
    assert f"from transformers import {type(trained.merged()).__name__}\n" in card
    assert ("clip" in card.lower().split("## licence")[0].replace("adaclip", "")) == family.startswith("clip")
    plain = load_plain(base, trained)
    fresh = plain_vectors(family, base, plain, trained)
    with_peft = PeftModel.from_pretrained(plain, str(folder)).eval()
    found = plain_vectors(family, base, with_peft, trained)
    assert deviation(found, trained.encode(PROMPTS)) < FLOAT32
    assert (found - fresh).abs().max() > 1e-3  # control: peft loaded the tensors
    by_transformers = load_plain(base, trained)
    by_transformers.load_adapter(str(folder))
    assert deviation(plain_vectors(family, base, by_transformers, trained), found) < FLOAT32


def test_strength_scales_the_change_of_every_weight(trained):
    encoder = copy.deepcopy(trained)
    encoder.mix_adapters({"default": 0.5}, "weak")
    halved = encoder.encode(PROMPTS, strength=0.5)
    assert deviation(halved, encoder.encode(PROMPTS, adapter="weak")) < FLOAT32
    assert deviation(halved, encoder.encode(PROMPTS)) > 1e-3


def test_merged_model_is_plain(family, base, trained):
    merged = trained.merged()
    assert type(merged).__module__.startswith("transformers.models")
    found = plain_vectors(family, base, merged, trained)
    assert deviation(found, trained.encode(PROMPTS)) < FLOAT32
    with trained.disable_adapter():
        assert (found - trained.encode(PROMPTS)).abs().max() > 1e-3


@pytest.mark.parametrize("form", ["hf", "text-encoder"])
def test_export_is_a_plain_folder_and_a_base(form, family, base, trained, tmp_path):
    folder = exports.write(trained, tmp_path / "out", form)
    kind = getattr(transformers, type(trained.merged()).__name__)
    model, report = kind.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert deviation(plain_vectors(family, base, model.eval(), trained), trained.encode(PROMPTS)) < FLOAT32
    again = AdaCLIP.from_base(folder, **pooling_of(family))
    assert deviation(again.encode(PROMPTS), trained.encode(PROMPTS)) < FLOAT32
    fresh = AdaCLIP.from_base(base, **pooling_of(family))
    assert (again.encode(PROMPTS) - fresh.encode(PROMPTS)).abs().max() > 1e-3


@pytest.mark.parametrize("form", ["hf", "text-encoder"])
def test_export_loads_in_sentence_transformers(form, family, base, trained, tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers", reason="extra towers")
    if family == "clip-pooler" and form == "hf":
        pytest.skip("a whole CLIPModel gives sentence-transformers the projected vector")
    folder = exports.write(trained, tmp_path / "out", form)
    model = sentence_transformers.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    found = model.encode(PROMPTS, convert_to_tensor=True)
    assert deviation(found, trained.encode(PROMPTS)) < FLOAT32
    fresh = AdaCLIP.from_base(base, **pooling_of(family))
    assert (found - fresh.encode(PROMPTS)).abs().max() > 1e-3


def test_openais_surface_is_for_clip(family, trained, tmp_path):
    if trained.pooling.name == "text_embeds":
        assert openai_clip.serve(trained, "cpu").encode_text is not None
        return
    with pytest.raises(AdaCLIPError, match=f"a {trained.tower.name} encoder with {trained.pooling.name}"):
        openai_clip.serve(trained, "cpu")
    with pytest.raises(AdaCLIPError, match="--to hf"):
        exports.to_openai(trained, tmp_path / "out.pt")


def test_long_prompts_keep_their_special_tokens(family, trained):
    limit = trained.tokenizer.model_max_length
    words = "he walks " * limit
    with pytest.warns(UserWarning, match=f"exceed {limit} tokens"):
        ids, mask = trained.tokenize([words])
    short, _ = trained.tokenize(["he"])
    assert ids.shape == (1, limit)
    assert mask.all()
    assert ids[0, -1] == short[0, -1] == trained.eos_token_id
    assert (ids[0, 0] == short[0, 0]) or family.endswith(("t5", "t5-gated"))
    whole = trained.encode([words], output="both", long="chunk")
    assert whole.mask.sum() > limit
    assert (whole.tokens[0, limit - 1] != 0).any()


def test_clip_cleans_prompts_and_others_leave_them(family, trained):
    shouted = trained.tokenizer(["A  Person &amp; he"])["input_ids"][0]
    found = trained.tokenize(["A  Person &amp; he"])[0][0].tolist()
    assert (found == shouted) == (not family.startswith("clip"))


@pytest.mark.parametrize("names", [("q_proj",), ("fc1", "fc2"), ("out_proj",)])
def test_modules_are_chosen_by_clips_names_in_every_family(names, family, base):
    if family == "modernbert" and names == ("q_proj",):
        with pytest.raises(ValueError, match="one matrix"):
            AdaCLIP.from_base(base, modules=names)
        return
    encoder = AdaCLIP.from_base(base, rank=1, modules=names, **pooling_of(family))
    found = {name.partition(".lora_A")[0] for name, _ in encoder.named_parameters() if ".lora_A" in name}
    paths = [path for name in names for path in encoder.tower.modules[name]]
    assert found
    assert all(any(name.endswith(f".{path}") for path in paths) for name in found)


def test_modules_are_chosen_by_own_names_and_others_are_refused(tmp_path):
    base = tiny_towers.save_base(tmp_path / "base", "bert")
    encoder = AdaCLIP.from_base(base, rank=1, modules=["query", "output.dense"])
    found = {name.partition(".lora_A")[0] for name, _ in encoder.named_parameters() if ".lora_A" in name}
    assert {name.partition("layer.0.")[2] for name in found} - {""} == {"attention.self.query", "output.dense"}
    with pytest.raises(ValueError, match="'lin1' is no module of bert: choose from q_proj"):
        AdaCLIP.from_base(base, modules=["lin1"])


@pytest.mark.parametrize(
    ("made_for", "loaded_on"), [("roberta", "bert"), ("bert", "roberta"), ("bert", "distilbert"), ("t5", "bert")]
)
def test_adapters_of_another_family_are_refused(made_for, loaded_on, tmp_path):
    """RoBERTa's and BERT's adapters have the same names and shapes."""
    source, target = (tiny_towers.save_base(tmp_path / name, name) for name in (made_for, loaded_on))
    folder = tiny.perturb(AdaCLIP.from_base(source, rank=2)).save_pretrained(tmp_path / "adapter")
    with pytest.raises(AdaCLIPError, match="made for another base"):
        AdaCLIP.from_pretrained(folder, base=target)
    (folder / "adaclip.json").unlink()  # the record of the base's weights, which other programs do not write
    with pytest.raises(AdaCLIPError, match=f"made for a {made_for} encoder.* is a {loaded_on} encoder"):
        AdaCLIP.from_pretrained(folder, base=target)
    with pytest.raises(AdaCLIPError, match=f"made for a {made_for} encoder"):
        AdaCLIP.from_base(target).load_adapter(folder, "other", check_base=False)


def edit_weights(folder, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("family_name", ["clip-l14", "bert", "distilbert", "modernbert", "t5"])
def test_tensors_missing_or_left_over_are_errors(family_name, tmp_path):
    base = tiny_towers.save_base(tmp_path / "base", family_name)
    damaged = shutil.copytree(base, tmp_path / "damaged")
    layer = next(name for name in load_file(base / "model.safetensors") if ".1." in name)
    edit_weights(damaged, lambda tensors: tensors.pop(layer))
    with pytest.raises(AdaCLIPError, match="1 tensors of the text encoder are missing"):
        AdaCLIP.from_base(damaged)
    more = shutil.copytree(base, tmp_path / "more")
    edit_weights(more, lambda tensors: tensors.update({layer.replace(".1.", ".2."): tensors[layer].clone()}))
    with pytest.raises(AdaCLIPError, match="1 tensors have no place in"):
        AdaCLIP.from_base(more)


def test_pretraining_heads_are_not_needed(tmp_path):
    model, tokenizer = tiny_towers.build("distilbert")
    whole = transformers.DistilBertForMaskedLM(model.config)
    whole.distilbert.load_state_dict(model.state_dict())
    whole.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    encoder = AdaCLIP.from_base(tmp_path / "base")
    assert deviation(encoder.encode(PROMPTS), plain_vectors("distilbert", None, model, encoder)) < FLOAT32


def test_pooler_that_a_base_lacks_is_left_out_or_refused(tmp_path):
    base = tiny_towers.save_base(tmp_path / "base", "bert")
    with torch.no_grad():
        encoder = AdaCLIP.from_base(base, pooling="pooler")
        expected = load_plain(base, encoder)(**encoder.tokenizer(["he"], return_tensors="pt")).pooler_output
    assert deviation(encoder.encode("he"), expected) < FLOAT32
    edit_weights(base, lambda tensors: [tensors.pop(f"pooler.dense.{kind}") for kind in ("weight", "bias")])
    assert AdaCLIP.from_base(base).merged().pooler is None
    with pytest.raises(AdaCLIPError, match=r"2 tensors of the text encoder are missing, first pooler"):
        AdaCLIP.from_base(base, pooling="pooler")


@torch.no_grad()
def test_clip_without_projection_needs_pooler_output(tmp_path):
    text = transformers.CLIPTextModel(tiny.text_model().config).eval()
    text.save_pretrained(tmp_path / "base")
    tiny.tokenizer().save_pretrained(tmp_path / "base")
    with pytest.raises(AdaCLIPError, match="pass pooling='pooler_output'"):
        AdaCLIP.from_base(tmp_path / "base")
    encoder = tiny.perturb(AdaCLIP.from_base(tmp_path / "base", pooling="pooler_output", rank=2)).eval()
    folder = encoder.save_pretrained(tmp_path / "adapter")
    again = AdaCLIP.from_pretrained(folder)
    assert torch.equal(again.encode(PROMPTS), encoder.encode(PROMPTS))
    batch = encoder.tokenizer(["a person"], return_tensors="pt")
    with_peft = PeftModel.from_pretrained(text, str(folder))
    assert deviation(with_peft(**batch).pooler_output, encoder.encode("a person")) < FLOAT32
    with with_peft.disable_adapter():
        assert (with_peft(**batch).pooler_output - encoder.encode("a person")).abs().max() > 1e-3
    out = exports.to_hf(encoder, tmp_path / "out")
    assert deviation(AdaCLIP.from_base(out, pooling="pooler_output").encode(PROMPTS), encoder.encode(PROMPTS)) < FLOAT32


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_poolings_of_bert(pooling, tmp_path):
    base = tiny_towers.save_base(tmp_path / "base", "bert")
    tiny_towers.add_sentence_files(base)
    encoder = AdaCLIP.from_base(base, pooling=pooling)
    states = encoder.encode(["a person walks"], output="tokens").tokens[0]
    expected = states[0] if pooling == "cls" else states.mean(dim=0)
    assert deviation(encoder.encode("a person walks")[0], expected) < FLOAT32
    recorded = AdaCLIP.from_base(base)
    assert recorded.pooling.name == "sentence"
    assert recorded.tokenizer.model_max_length == 40
    unit = states.mean(dim=0) / states.mean(dim=0).norm()
    assert deviation(recorded.encode("a person walks")[0], unit) < FLOAT32
    folder = encoder.save_pretrained(tmp_path / "adapter")
    assert AdaCLIP.from_pretrained(folder).pooling.name == pooling
    assert AdaCLIP.from_pretrained(folder, pooling="sentence").pooling.name == "sentence"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"mode": "max"}, r"records the pooling \['pooling_mode_max_tokens'\]"),
        ({"pooling_mode": "weightedmean"}, "records the pooling weightedmean"),
        ({"pooling_mode_cls_token": True}, "records the pooling"),
    ],
)
def test_recorded_poolings_that_are_not_computed_are_refused(damage, message, tmp_path):
    base = tiny_towers.save_base(tmp_path / "base", "bert")
    tiny_towers.add_sentence_files(base, **damage)
    with pytest.raises(AdaCLIPError, match=message):
        AdaCLIP.from_base(base)
    assert AdaCLIP.from_base(base, pooling="mean").pooling.name == "mean"


def test_dense_layer_is_loaded_strictly(tmp_path):
    base = tiny_towers.save_base(tmp_path / "base", "sentence-t5")
    save_file({"linear.weight": torch.zeros(3, 16)}, base / "2_Dense" / "model.safetensors")
    with pytest.raises(AdaCLIPError, match="the dense layer in 2_Dense does not fit"):
        AdaCLIP.from_base(base)
    (base / "2_Dense" / "model.safetensors").unlink()
    with pytest.raises(AdaCLIPError, match=r"the dense layer in 2_Dense needs model\.safetensors"):
        AdaCLIP.from_base(base)


def test_unknown_families_and_poolings_are_refused_by_name(tmp_path):
    base = tiny_towers.save_base(tmp_path / "base", "bert")
    with pytest.raises(AdaCLIPError, match="pooling 'text_embeds': bert has mean, cls, pooler"):
        AdaCLIP.from_base(base, pooling="text_embeds")
    with pytest.raises(AdaCLIPError, match=r"pooling 'sentence' needs the modules\.json"):
        AdaCLIP.from_base(base, pooling="sentence")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))
    with pytest.raises(AdaCLIPError, match=r"'gpt2' is no text encoder that AdaCLIP adapts\. It adapts clip"):
        AdaCLIP.from_base(base)


def test_every_family_names_classes_that_transformers_has():
    for tower in towers.TOWERS:
        for name in tower.classes.values():
            assert hasattr(transformers, name)
            assert towers.tower_of_class(name) is tower


def test_pooling_of_a_cached_base_is_never_guessed(tmp_path):
    """Without modules.json in the cache it may exist on the Hub, unless the cache records that it does not."""
    from adaclip import hub, sentence

    options = hub.LoadOptions(cache_dir=tmp_path, local_files_only=True)
    model, tokenizer = tiny_towers.build("bert")
    with pytest.raises(AdaCLIPError, match=r"not known whether it has modules\.json.*pass pooling="):
        sentence.read_pooling("owner/model", options, model, tokenizer, None)
    assert sentence.read_pooling("owner/model", options, model, tokenizer, "cls").name == "cls"
    cache = tmp_path / "models--owner--model"
    for path, text in (("refs/main", "0" * 40), (f".no_exist/{'0' * 40}/modules.json", "")):
        (cache / path).parent.mkdir(parents=True)
        (cache / path).write_text(text)
    assert sentence.read_pooling("owner/model", options, model, tokenizer, None).name == "mean"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert", "sentence-t5"])
def test_onnx_of_other_families(name, tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="extra onnx")
    pytest.importorskip("onnxscript", reason="extra onnx")
    base = tiny_towers.save_base(tmp_path / "base", name)
    encoder = tiny.perturb(AdaCLIP.from_base(base, rank=2))
    folder = exports.to_onnx_folder(encoder, tmp_path / "out", ids="int32")
    session = runtime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    batch = transformers.AutoTokenizer.from_pretrained(folder)(PROMPTS, padding=True, return_tensors="np")
    feed = {key: batch[key].astype("int32") for key in ("input_ids", "attention_mask")}
    pooled = torch.from_numpy(session.run(None, feed)[0])
    assert deviation(pooled, encoder.encode(PROMPTS)) < FLOAT32
    assert (pooled - AdaCLIP.from_base(base).encode(PROMPTS)).abs().max() > 1e-3
