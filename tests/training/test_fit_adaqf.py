"""The co-optimisation: what is trained, what is not, and how baseline and AdaQF differ."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch

from adaclip import AdaCLIP, hub
from adaqf_train.errors import ConfigError
from adaqf_train.generators.mdm.objective import fit_adaqf
from adaqf_train.judges.contrastive import fit_judge
from adaqf_train.judges.extractors import Extractors
from adaqf_train.training.fit import _adamw
from adaqf_train.training.loop import Place


@pytest.fixture(scope="module")
def short_clips(tiny_train):
    """The first three seconds of each clip, which are enough to tell the motions apart."""
    dataset = copy.copy(tiny_train)
    dataset.items = [replace(item, vectors=item.vectors[:60]) for item in tiny_train.items]
    return dataset


def weights(module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def test_adaqf_trains_denoiser_and_adapter_and_nothing_else(tiny_train, base, tiny_config, fit, tmp_path):
    generator = fit(tiny_train, tiny_config, tmp_path)
    fresh = AdaCLIP.from_base(base, rank=2, alpha=2)
    before, after = weights(fresh), weights(generator.encoder)
    for name, value in after.items():
        if "lora_B" in name:
            assert value.abs().sum() > 0, name
        elif "lora_A" not in name:
            assert torch.equal(value, before[name]), name
    prompts = ["a person walks", "a person waves the left hand twice"]
    assert (generator.encoder.encode(prompts) - fresh.encode(prompts)).abs().max() > 1e-6


def test_the_baseline_keeps_the_encoder_and_shares_start_and_data(tiny_train, base, tiny_config, fit, tmp_path):
    one_step = replace(tiny_config, training=replace(tiny_config.training, steps=1, ema=None))
    baseline = fit(tiny_train, one_step.baseline(), tmp_path / "baseline")
    adaqf = fit(tiny_train, one_step, tmp_path / "adaqf")
    first = [(tmp_path / arm / "adaqf.jsonl").read_text() for arm in ("baseline", "adaqf")]
    mse = [float(line.split('"mse": ')[1].split(",")[0].rstrip("}\n")) for line in first]
    assert mse[0] == mse[1]  # same weights, same batch, same noise, same dropout
    fresh = AdaCLIP.from_base(base, rank=2, alpha=2)
    prompts = ["a person walks"]
    assert torch.equal(baseline.encoder.encode(prompts), fresh.encode(prompts))
    assert not torch.equal(adaqf.denoiser.text_in.weight, baseline.denoiser.text_in.weight)
    assert baseline.denoiser.config == adaqf.denoiser.config


def test_optimizer_has_one_group_for_each_network(accelerator, tiny_config, make_objective):
    objective = make_objective("training.adapter_learning_rate=3e-5")
    groups = _adamw(accelerator, objective, objective.config.training).param_groups
    assert [group["lr"] for group in groups] == [tiny_config.training.learning_rate, 3e-5]
    assert len(groups[0]["params"]) == len(list(objective.denoiser.parameters()))
    assert len(groups[1]["params"]) == len(list(objective.encoder.adapter_parameters()))


def test_feedback_without_a_judge_is_refused(accelerator, tiny_train, base, tiny_config, tmp_path):
    with pytest.raises(ValueError, match="Feedback needs extractors"):
        fit_adaqf(accelerator, tiny_train, str(base), None, tiny_config, Place(tmp_path / "adaqf.jsonl"))


@pytest.mark.parametrize(
    ("arm", "setting", "says"),
    [
        ("baseline", {"adapter_learning_rate": 1e-4}, "trains no text encoder"),
        ("adaqf", {"precision": "bf16"}, "differs from the launch's no"),
        ("adaqf", {"accumulate": 3, "batch": 9, "steps": 1}, None),
        ("adaqf", {"warmup": 3}, None),
        ("adaqf", {"bucket": 2}, None),
    ],
)
def test_settings_apply_or_are_refused(fit, tiny_train, tiny_config, tmp_path, arm, setting, says):
    config = tiny_config if arm == "adaqf" else tiny_config.baseline()
    if says:
        with pytest.raises(ConfigError, match=says):
            fit(tiny_train, replace(config, training=replace(config.training, **setting)), tmp_path)
        return
    changed = replace(config, training=replace(config.training, **setting))
    plain = replace(changed, training=replace(changed.training, warmup=0, bucket=1, accumulate=1))
    logs = []
    for name, each in (("changed", changed), ("plain", plain)):
        fit(tiny_train, each, tmp_path / name)
        logs.append((tmp_path / name / "adaqf.jsonl").read_text())
    assert logs[0] != logs[1]


def test_feedback_reaches_the_adapter_through_the_generated_motion(tiny_train, tiny_config, fit, tmp_path):
    """With the reconstruction's own gradient the same, only the feedback can make the difference."""
    short = replace(tiny_config, training=replace(tiny_config.training, steps=2, ema=None))
    silent = replace(short, feedback=replace(short.feedback, motion=0.0, text=0.0))
    a, b = (fit(tiny_train, c, tmp_path / n).encoder for c, n in ((short, "a"), (silent, "b")))
    difference = [
        (x - y).abs().max().item() for x, y in zip(a.adapter_parameters(), b.adapter_parameters(), strict=True)
    ]
    assert max(difference) > 0


def test_the_extractors_learn_to_match(accelerator, short_clips, base, tiny_config, tmp_path):
    """A hundred steps on sixty clips bring pairs together; this is what the feedback relies on."""
    from adaclip import hub
    from adaqf_train.data.batches import pad
    from adaqf_train.evaluation.metrics import r_precision
    from adaqf_train.judges.base import Evaluator

    _, tokenizer = hub.load_base(str(base), hub.LoadOptions())
    words = AdaCLIP.from_base(base).text_model.get_input_embeddings().weight.detach()
    config = replace(tiny_config.extractors, movement=32, motion_hidden=32, text_hidden=32, embedding=16)
    scores = {}
    for steps in (1, 120):
        fitting = replace(config, steps=steps, batch=32, learning_rate=3e-3)
        build = partial(Extractors.reading, words, short_clips.features, config)
        trained = fit_judge(accelerator, short_clips, build, tokenizer, fitting, Place(tmp_path / f"{steps}.jsonl"))
        judge = Evaluator(trained, tokenizer, short_clips.mean, short_clips.std)
        clips = [item.vectors[: len(item.vectors) // 4 * 4] for item in short_clips.items][:32]
        texts = [item.captions[0] for item in short_clips.items][:32]
        unit = [x / (x**2).sum(1, keepdims=True) ** 0.5 for x in (judge.embed_texts(texts), judge.embed_motions(clips))]
        scores[steps] = r_precision(*unit, pool=32)[2]
    assert scores[120] > 0.6 > scores[1]
    assert pad(clips)[0].shape[0] == 32


def test_the_extractors_other_objectives(accelerator, short_clips, base, tiny_config, tmp_path):
    _, tokenizer = hub.load_base(str(base), hub.LoadOptions())
    words = AdaCLIP.from_base(base).text_model.get_input_embeddings().weight.detach()
    losses = {}
    for objective in ("infonce", "margin", "minimal_pairs"):
        config = replace(tiny_config.extractors, objective=objective, steps=40, batch=16, learning_rate=3e-3)
        log = tmp_path / f"{objective}.jsonl"
        build = partial(Extractors.reading, words, short_clips.features, config)
        fit_judge(accelerator, short_clips, build, tokenizer, config, Place(log))
        losses[objective] = [float(line.split('"loss": ')[1].rstrip("}")) for line in log.read_text().splitlines()]
    assert losses["margin"][0] > 20 > losses["infonce"][0]  # of the order of the squared margin
    assert losses["margin"][-1] < 0.8 * losses["margin"][0]
    # A flipped caption that is not told from the own one adds log 2, and more where it is one more negative.
    assert losses["minimal_pairs"][0] > losses["infonce"][0] + 0.5
    assert losses["minimal_pairs"][-1] < losses["minimal_pairs"][0] - 0.3
