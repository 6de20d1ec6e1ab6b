"""What learns in a text encoder, and how an encoder is saved after it."""

from __future__ import annotations

import pytest
import torch

from adaclip import AdaCLIP
from adaqf_train.config import EncoderConfig
from adaqf_train.encoders.tuning import build_encoder, save_tuned
from adaqf_train.training import checkpoint
from adaqf_train.training.checkpoint import TrainState
from tests.adaclip import tiny, tiny_towers
from tests.helpers import FLOAT32, deviation

SMALL = {"rank": 2, "alpha": 2}


def test_full_tuning_learns_from_an_aligned_encoder_and_saves_it_once(tmp_path):
    base = tiny.save_base(tmp_path / "base")
    aligned = tiny.perturb(AdaCLIP.from_base(base, **SMALL))
    start = aligned.save_pretrained(tmp_path / "aligned")
    encoder = build_encoder(str(base), EncoderConfig(tuning="full", **SMALL), "both", start)
    assert deviation(encoder.encode(tiny.PROMPTS), aligned.encode(tiny.PROMPTS)) < FLOAT32
    learns = {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    assert learns
    assert not any("lora_" in name for name in learns)
    save_tuned(tmp_path / "saved", encoder, "full")
    assert (
        deviation(AdaCLIP.from_pretrained(tmp_path / "saved").encode(tiny.PROMPTS), encoder.encode(tiny.PROMPTS))
        < FLOAT32
    )


def test_lora_goes_on_from_an_aligned_encoder(tmp_path):
    base = tiny.save_base(tmp_path / "base")
    start = tiny.perturb(AdaCLIP.from_base(base, **SMALL)).save_pretrained(tmp_path / "aligned")
    encoder = build_encoder(str(base), EncoderConfig(**SMALL), "both", start)
    assert torch.equal(encoder.encode(tiny.PROMPTS), AdaCLIP.from_pretrained(start).encode(tiny.PROMPTS))
    assert all("lora_" in name for name, parameter in encoder.named_parameters() if parameter.requires_grad)


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_a_checkpoint_holds_weights_of_several_names_once(tuning, tmp_path):
    """T5's embeddings are also its encoder's."""
    base = tiny_towers.save_base(tmp_path / "base", "t5")
    encoder = build_encoder(str(base), EncoderConfig(tuning=tuning, **SMALL), "both")
    state = TrainState({"encoder": encoder}, torch.optim.SGD(encoder.parameters(), lr=0.1))
    checkpoint.write(tmp_path / "step", state)
    held = [name for name in state.tensors() if "embed_tokens" in name or "shared" in name]
    assert len(held) == (tuning == "full")
    before = encoder.encode(tiny.PROMPTS)
    with torch.no_grad():
        for parameter in state.parameters():
            parameter.add_(1)
    checkpoint.read(tmp_path / "step", state)
    assert torch.equal(encoder.encode(tiny.PROMPTS), before)
