"""What a checkpoint says of its encoder: the same for the same weights, another for others, and nothing in between."""

from __future__ import annotations

import io
import json

import pytest
import torch
from adaclip_integrations import checkpoints
from adaclip_integrations import fingerprint as fp
from torch import nn

from adaclip import AdaCLIP, AdaCLIPError
from tests.adaclip import tiny
from tests.adaclip.openai_reference import adapted, save_base


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("fingerprint") / "base")


@pytest.fixture
def encoder(base):
    return adapted(base)


def test_the_record_stands_for_the_weights(encoder, base, tmp_path):
    record = fp.of(encoder)
    encoder.save_pretrained(tmp_path / "adapter")
    assert fp.of(AdaCLIP.from_pretrained(tmp_path / "adapter")) == record
    assert record["base"] == "base"
    assert str(base.parent) not in json.dumps(record)
    named = adapted(base, seed=3)
    named.load_adapter(tmp_path / "adapter", "kit")
    assert fp.of(named)["encoder"] != record["encoder"]
    named.set_adapter("kit")
    assert fp.of(named)["encoder"] == record["encoder"]  # the name of an adapter is no part of it


def test_the_hash_of_known_weights_never_changes(tmp_path):
    """Checkpoints in the field hold such hashes: another algorithm would refuse them all."""
    known = AdaCLIP.from_base(tiny.save_base(tmp_path / "base"), rank=4, alpha=8)
    with torch.no_grad():
        for value in known.text_model.state_dict().values():
            value.copy_((torch.arange(value.numel()) % 13).view(value.shape) / 8)
    assert fp.of(known)["encoder"] == "sha256:fe2ae18eda344abc111824b4cb09bbf4"


def test_every_weight_and_the_scale_count(encoder, tmp_path):
    record = fp.of(encoder)["encoder"]
    with torch.no_grad():
        for name, parameter in (*encoder.named_parameters(),)[::7]:
            parameter.view(-1)[0] += 1e-3
            assert fp.of(encoder)["encoder"] != record, name
            parameter.view(-1)[0] -= 1e-3
            record = fp.of(encoder)["encoder"]
    encoder.text_model.peft_config["default"].lora_alpha *= 2
    assert fp.of(encoder)["encoder"] != record


def _alpha_pattern(encoder):
    layer = next(m for m in encoder.text_model.modules() if "default" in getattr(m, "scaling", {}))
    layer.scaling["default"] *= 2  # as lora_alpha's pattern does when the adapter is loaded


def _setting(name, value):
    return lambda encoder: setattr(encoder.text_model.base_model.model.config, name, value)


def _tokenizer(encoder):
    encoder.tokenizer.add_tokens(["walks</w>x"])


def _post_processor(encoder):
    from tokenizers.processors import TemplateProcessing

    end = encoder.tokenizer.eos_token
    template = TemplateProcessing(single=f"$A {end}", special_tokens=[(end, encoder.tokenizer.eos_token_id)])
    encoder.tokenizer.backend_tokenizer.post_processor = template


CHANGES = {
    "alpha of one layer": _alpha_pattern,
    "activation": _setting("hidden_act", "gelu"),
    "heads": _setting("num_attention_heads", 2),
    "layer norm": _setting("layer_norm_eps", 1e-3),
    "end token": _setting("eos_token_id", 2),
    "vocabulary": _tokenizer,
    "template": _post_processor,
    "length": lambda encoder: setattr(encoder.tokenizer, "model_max_length", 20),
}


@pytest.mark.parametrize("change", CHANGES)
def test_everything_that_changes_vectors_counts(change, tmp_path):
    """Two encoders 3.78 apart once shared a record."""
    adapted(save_base(tmp_path / "base"), rank=4).save_pretrained(tmp_path / "adapter")
    before, changed = (AdaCLIP.from_pretrained(tmp_path / "adapter") for _ in range(2))
    before.encode(["a person walks"] * 2)  # uses of the tokenizer leave no trace
    before.tokenizer(["a", "b c d"], padding=True, truncation=True, max_length=3)
    assert fp.of(before) == fp.of(changed)
    CHANGES[change](changed)
    assert fp.of(before)["encoder"] != fp.of(changed)["encoder"]


def test_a_pattern_of_ranks_and_alphas_counts(tmp_path):
    base = save_base(tmp_path / "base")
    adapted(base, rank=4).save_pretrained(tmp_path / "a")
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    record = fp.of(AdaCLIP.from_pretrained(tmp_path / "a"))["encoder"]
    config["alpha_pattern"] = {"layers.0.mlp.fc1": 32}
    (tmp_path / "a" / "adapter_config.json").write_text(json.dumps(config))
    (tmp_path / "a" / "digests.json").unlink()  # edited on purpose
    settings = json.loads((tmp_path / "a" / "adaclip.json").read_text())
    settings.pop("lora_sha256", None)
    (tmp_path / "a" / "adaclip.json").write_text(json.dumps(settings))
    assert fp.of(AdaCLIP.from_pretrained(tmp_path / "a"))["encoder"] != record


def guarded(record) -> nn.Module:
    model = nn.ModuleDict({"clip_model": nn.Module(), "net": nn.Linear(2, 2)})
    fp.guard(model["clip_model"], record)
    return model


A, B = ({"encoder": f"sha256:{letter * 32}", "base": "b", "tokens": ""} for letter in "ab")


@pytest.mark.parametrize(
    ("trained", "running", "fits"),
    [(A, A, True), (A, B, False), (A, None, False), (None, A, False), (None, None, True)],
)
def test_checkpoints_load_under_their_own_encoder_only(trained, running, fits, monkeypatch):
    file = io.BytesIO()
    torch.save({"net": guarded(trained).state_dict(), "ep": 1}, file)
    state = torch.load(io.BytesIO(file.getvalue()), weights_only=True)["net"]
    assert list(state) == ["net.weight", "net.bias"]
    assert fp.recorded_in({"net": state}) == trained
    model = guarded(running)
    if fits:
        model.load_state_dict(state)
        return
    with pytest.raises(AdaCLIPError, match=r"trained with .*, and now runs with .*ADACLIP_ALLOW_OTHER_ENCODER=1"):
        model.load_state_dict(state)
    monkeypatch.setenv(fp.OVERRIDE, "0")
    with pytest.raises(AdaCLIPError):
        model.load_state_dict(state)
    monkeypatch.setenv(fp.OVERRIDE, "1")
    with pytest.warns(UserWarning, match="was trained with"):
        model.load_state_dict(state)


def test_checkpoints_that_say_nothing_are_let_through_and_said():
    state = dict(guarded(A).state_dict())
    with pytest.warns(UserWarning, match="does not record its text encoder"):
        guarded(A).load_state_dict(state)
    guarded(None).load_state_dict(state)


def test_saves_are_noted_beside_checkpoints_of_ours_only(tmp_path):
    original = torch.save
    with checkpoints.recorded():
        torch.save({"net": guarded(A).state_dict()}, tmp_path / "a.tar")
        with (tmp_path / "b.pt").open("wb") as file:
            torch.save(guarded(B).state_dict(), file)
        torch.save({"net": guarded(None).state_dict()}, tmp_path / "c.tar")
        torch.save(guarded(A).state_dict(), io.BytesIO())
        assert json.loads((tmp_path / fp.NOTE).read_text()) == {"a.tar": A, "b.pt": B}
        (tmp_path / "run" / "model").mkdir(parents=True)
        torch.save(guarded(A).state_dict(), tmp_path / "run" / "model" / "latest.tar")
        assert [path.name for path in (tmp_path / "run" / "model").iterdir()] == ["latest.tar"]
        assert json.loads((tmp_path / "run" / fp.NOTE).read_text()) == {"model/latest.tar": A}
        (tmp_path / fp.NOTE).write_text("not JSON")
        with pytest.warns(UserWarning, match="could not be noted"):
            torch.save(guarded(A).state_dict(), tmp_path / "d.pt")
    assert torch.save is original
    assert (tmp_path / "d.pt").is_file()


def test_a_checkpoint_saved_again_keeps_its_record():
    filtered = guarded(A).state_dict()
    del filtered["net.bias"]
    assert fp.recorded_in(filtered) == A
    again = guarded(A)
    with pytest.raises(RuntimeError, match=r"net\.bias"):
        again.load_state_dict(filtered)
    assert fp.recorded_in({"model": {"deep": {"deeper": filtered}}}) == A
    assert fp.recorded_in([filtered]) is None
