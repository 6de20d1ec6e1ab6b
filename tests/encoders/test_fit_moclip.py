"""The contrastive rival encoder: it aligns, its tether holds, and its folder is a drop-in."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from torch.nn.functional import cosine_similarity

from adaclip import AdaCLIP
from adaqf_train.config import PocketClipConfig, TrainingConfig
from adaqf_train.encoders import pocket_clip
from adaqf_train.encoders.moclip import MoClipConfig, fit_moclip, schedule
from adaqf_train.encoders.tuning import save_clip, save_tuned
from adaqf_train.errors import ConfigError
from adaqf_train.training.loop import Place
from tests.helpers import FLOAT32, deviation

CONFIG = MoClipConfig(rank=2, alpha=2, learning_rate=3e-3, encoder_learning_rate=3e-3, steps=6, batch=16)


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


@pytest.fixture(scope="module")
def base(tiny_train, tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "pocket_clip"
    config = PocketClipConfig(vocabulary=600, width=16, layers=2, heads=2, feedforward=32, projection=12)
    tokenizer = pocket_clip.train_tokenizer(tiny_train.captions(), config.vocabulary)
    torch.manual_seed(0)
    save_clip(folder, pocket_clip.build(tokenizer, config), tokenizer)
    return folder


def moved(encoder: AdaCLIP, base, captions) -> float:
    """Mean of 1 - cosine to the base's vectors."""
    plain = AdaCLIP.from_base(base).encode(captions)
    return float((1 - cosine_similarity(encoder.encode(captions), plain)).mean())


@pytest.fixture(scope="module")
def fit(accelerator, tiny_train, tiny_config, base, tmp_path_factory):
    def run(config: MoClipConfig, folder=None) -> AdaCLIP:
        folder = folder or tmp_path_factory.mktemp("moclip")
        place = Place(folder / "log.jsonl", folder / "checkpoints")
        rival = TrainingConfig(steps=80, warmup=50, drop_at=64, clip_norm=1.0)
        return fit_moclip(accelerator, tiny_train, str(base), tiny_config.extractors, config, place, rival)

    return run


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_it_trains_what_it_says_and_its_folder_is_a_drop_in(tuning, fit, base, tiny_train, tmp_path):
    config = replace(CONFIG, tuning=tuning)
    encoder = fit(config)
    fresh = AdaCLIP.from_base(base, rank=2, alpha=2)
    changed = {n for (n, a), b in zip(encoder.named_parameters(), fresh.parameters(), strict=True) if not a.equal(b)}
    if tuning == "lora":
        assert changed
        assert all("lora_" in name for name in changed)
    else:
        assert any("token_embedding" in name for name in changed)
        assert not any("lora_B" in name for name in changed)
    captions = tiny_train.captions()[:8]
    expected = encoder.encode(captions)
    assert (expected - fresh.encode(captions)).abs().max() > 1e-4
    save_tuned(tmp_path / "moclip", encoder, tuning)
    if tuning == "full":  # it brings its base along, so it may go anywhere
        shutil.move(tmp_path / "moclip", tmp_path / "elsewhere")
        (tmp_path / "elsewhere").rename(tmp_path / "moclip")
    again = AdaCLIP.from_pretrained(tmp_path / "moclip")
    assert deviation(again.encode(captions), expected) < FLOAT32


def test_texts_come_to_match_motions(fit, tmp_path):
    fit(replace(CONFIG, steps=80, checkpoint_every=1000), tmp_path)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    losses = [float(line.split('"contrastive": ')[1].split(",")[0]) for line in lines]
    assert losses[-1] < 0.8 * losses[0]


def test_the_tether_keeps_the_encoder_near_its_base(fit, base, tiny_train):
    captions = tiny_train.captions()[:16]
    free, held = (
        moved(fit(replace(CONFIG, steps=40, checkpoint_every=1000, tether=tether)), base, captions)
        for tether in (0.0, 100.0)
    )
    assert held < 0.5 * free


def test_a_resumed_fit_equals_an_uninterrupted_one(fit, tiny_train, tmp_path, monkeypatch):
    from adaqf_train.data.batches import StepBatches

    config = replace(CONFIG, checkpoint_every=2)
    whole = fit(config).encode(tiny_train.captions()[:8])
    batch_of = StepBatches.__getitem__

    def killed(self, step):
        if step == 5:
            raise KeyboardInterrupt
        return batch_of(self, step)

    monkeypatch.setattr(StepBatches, "__getitem__", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(config, tmp_path)
    monkeypatch.setattr(StepBatches, "__getitem__", batch_of)
    assert torch.equal(fit(config, tmp_path).encode(tiny_train.captions()[:8]), whole)


def test_impossible_settings_are_refused():
    for changes, message in (({"tether": -1.0}, "tether"), ({"batch": 1}, "batch"), ({"temperature": 0.0}, "positive")):
        with pytest.raises(ConfigError, match=message):
            replace(CONFIG, **changes)


def test_schedule_is_the_rivals_at_the_same_shares_of_the_steps():
    shared = {"drop_by": 0.5, "cool_down": 0.25, "clip_norm": 2.0, "weight_decay": 0.02}
    rival = TrainingConfig(steps=800, warmup=40, drop_at=600, **shared)
    found = schedule(replace(CONFIG, steps=400), rival)
    assert found == shared | {"warmup": 20, "drop_at": 300}
    plain = schedule(replace(CONFIG, steps=400), replace(rival, warmup=0, drop_at=None, clip_norm=None))
    assert (plain["warmup"], plain["drop_at"], plain["clip_norm"]) == (0, None, None)
