"""Records where the encoder is no part of the saved model, and checkpoints that hold an encoder's weights."""

from __future__ import annotations

import json
import warnings
from collections import OrderedDict

import pytest
import torch
from adaclip_integrations import OtherEncoderError, checkpoints
from adaclip_integrations import fingerprint as fp
from torch import nn

A, B = ({"encoder": f"sha256:{letter * 32}", "base": "b", "tokens": "", "scheme": fp.SCHEME} for letter in "ab")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))


SAVES = {
    "a model beside CLIP": (lambda model: {"trans": model.state_dict(), "nb_iter": 3}, "trans"),
    "the state dict itself": (lambda model: model.state_dict(), None),
    "DataParallel": (lambda model: {"trans": nn.DataParallel(model).state_dict()}, "trans"),
    "a comprehension": (lambda model: {"net": {k: v for k, v in model.state_dict().items() if "clip" not in k}}, "net"),
    "cloned and nested": (
        lambda model: {"state": {"ema": OrderedDict((k, v.clone()) for k, v in model.state_dict().items())}},
        ("state", "ema"),
    ),
}


def state_of(saved: dict, key: object) -> dict:
    for name in key if isinstance(key, tuple) else [key] if key is not None else []:
        saved = saved[name]
    return saved


@pytest.mark.parametrize("way", SAVES)
@pytest.mark.parametrize("running", [A, B, None], ids=["same", "other", "vanilla"])
def test_models_beside_clip_are_recorded_and_guarded(way, running, tmp_path, monkeypatch):
    build, key = SAVES[way]
    model = network()
    with checkpoints.recorded():
        checkpoints.declare(A)
        saved = build(model)
        before = {name: type(value) for name, value in saved.items()}
        torch.save(saved, tmp_path / "net_last.pth")
        assert {name: type(value) for name, value in saved.items()} == before
        assert fp.recorded_in(saved) is None  # the script's own objects did not change
    assert json.loads((tmp_path / fp.NOTE).read_text()) == {"net_last.pth": A}
    state = state_of(torch.load(tmp_path / "net_last.pth", weights_only=True), key)
    assert list(state) == list(state_of(build(model), key))
    target = nn.DataParallel(network()) if way == "DataParallel" else network()
    with checkpoints.recorded():
        checkpoints.declare(running)
        if running == A:
            target.load_state_dict(state, strict=True)
            return
        with pytest.raises(OtherEncoderError, match=r"trained with AdaCLIP sha256:aaaa.*now runs with"):
            target.load_state_dict(state, strict=True)
        monkeypatch.setenv(fp.OVERRIDE, "1")
        with pytest.warns(UserWarning, match="was trained with AdaCLIP"):
            target.load_state_dict(state, strict=True)


def test_the_launchers_encoder_is_compared_before_it_is_used(tmp_path):
    with checkpoints.recorded():
        checkpoints.declare(A)
        torch.save(network().state_dict(), tmp_path / "a.pt")
    state = torch.load(tmp_path / "a.pt", weights_only=True)
    with checkpoints.recorded(lambda: B), pytest.raises(OtherEncoderError):
        network().load_state_dict(state)
    with checkpoints.recorded():  # an edited checkout that loads its checkpoint first
        network().load_state_dict(state)
        with pytest.raises(OtherEncoderError):
            checkpoints.declare(B)
    network().load_state_dict(state)  # without any of this: plain torch


def test_nothing_is_recorded_before_an_encoder_is_used(tmp_path):
    with checkpoints.recorded(lambda: A):
        torch.save({"net": network().state_dict()}, tmp_path / "vq.pt")  # a stage that reads no text
        torch.save(
            {"opt": torch.optim.Adam(network().parameters()).state_dict(), "x": torch.ones(1)}, tmp_path / "o.pt"
        )
        assert list(tmp_path.glob("*.json")) == []
        checkpoints.declare(A)
        torch.save(
            {"opt": torch.optim.Adam(network().parameters()).state_dict(), "x": torch.ones(1)}, tmp_path / "o.pt"
        )
    assert list(tmp_path.glob("*.json")) == []
    assert fp.recorded_in(torch.load(tmp_path / "vq.pt")) is None


def test_parts_without_a_record_are_said_once_they_are_loaded_beside_adaclip():
    state = network().state_dict()
    with checkpoints.recorded():
        checkpoints.declare(A)
        with pytest.warns(UserWarning, match="checkpoint of Sequential does not record a text encoder"):
            network().load_state_dict(state)
    with checkpoints.recorded(), warnings.catch_warnings():
        warnings.simplefilter("error")
        checkpoints.declare(None)
        network().load_state_dict(state)


class Encoder(nn.Module):
    """An encoder without weights in torch's sight, as `FrozenEncoder`, or with them, as transformers' models."""

    def __init__(self, seen: bool, value: float) -> None:
        super().__init__()
        if seen:
            self.weight = nn.Parameter(torch.full((3,), value))


def generator(record, *, seen: bool = False, value: float = 1.0) -> nn.Module:
    model = nn.ModuleDict({"clip_model": Encoder(seen, value), "net": nn.Linear(2, 2)})
    if record != "unguarded":
        fp.guard(model["clip_model"], record)
    return model


@pytest.mark.parametrize("seen", [False, True], ids=["frozen encoder", "transformers"])
@pytest.mark.parametrize("bare", [False, True], ids=["with metadata", "metadata lost"])
def test_a_strict_load_of_a_checkpoint_with_another_clip(seen, bare, monkeypatch):
    state = generator("unguarded", seen=True, value=5.0).state_dict()
    state = dict(state) if bare else state
    ours = generator(A, seen=seen)
    with pytest.raises(OtherEncoderError):
        ours.load_state_dict(state, strict=True)
    monkeypatch.setenv(fp.OVERRIDE, "1")
    with pytest.warns(UserWarning, match="trained with CLIP or another encoder"):
        ours.load_state_dict(state, strict=True)
    assert torch.equal(ours["net"].weight, state["net.weight"])
    if seen:
        assert torch.equal(ours["clip_model"].weight, torch.ones(3))  # the encoder keeps its own weights
    assert "clip_model.weight" in state


def test_an_own_checkpoint_with_the_encoders_weights_loads_again():
    ours = generator(A, seen=True)
    found = ours.load_state_dict(ours.state_dict(), strict=True)
    assert not found.missing_keys
    assert not found.unexpected_keys


def test_a_comprehension_loses_nothing_under_the_launcher(tmp_path):
    with checkpoints.recorded():
        checkpoints.declare(A)
        kept = {key: value for key, value in generator(A).state_dict().items() if not key.startswith("clip_model.")}
        torch.save(kept, tmp_path / "a.pt")
    state = torch.load(tmp_path / "a.pt", weights_only=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with checkpoints.recorded():
            generator(A).load_state_dict(state, strict=False)
    with checkpoints.recorded(), pytest.raises(OtherEncoderError):
        generator(B).load_state_dict(state, strict=False)


def test_records_of_another_version_are_said_and_not_compared():
    old = {name: value for name, value in B.items() if name != "scheme"}
    with pytest.warns(UserWarning, match="different versions of adaclip"):
        fp.compare(old, A)
