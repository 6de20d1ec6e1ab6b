"""Validation while training: the best weights are chosen on val, and being looked at or interrupted changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from adaqf_train.cli import main
from adaqf_train.config import ValidationConfig
from adaqf_train.training import checkpoint
from adaqf_train.training.validation import Validation
from tests.helpers import settings_of
from tests.training.small_fit import STEPS, Fit, equal


def scoring(fit: Fit, figures: dict[int, float], calls: list[int], **config) -> Validation:
    """A validation every two steps whose score is what the figures say."""

    def score(step: int) -> dict[str, float]:
        calls.append(step)
        return {"fid": figures[step], "r_precision_3": -figures[step]}

    settings = ValidationConfig(**{"every": 2} | config)
    return Validation(settings, score)


FIGURES = {2: 5.0, 4: 3.0, 6: 4.0, 8: 3.5, 9: 3.2}


@pytest.mark.parametrize(("metric", "best"), [("fid", 4), ("r_precision_3", 4)])
def test_the_best_is_kept_beside_the_newest(tiny_train, tmp_path, metric, best):
    fit, calls = Fit(tmp_path, tiny_train), []
    fit.run(validation=scoring(fit, FIGURES, calls, metric=metric))
    assert calls == [2, 4, 6, 8, 9]  # the last weights are scored whatever their number
    assert fit.state.record["best_step"] == best
    names = [path.name for path in sorted(fit.place.checkpoints.iterdir())]
    assert names == ["best", "step_00000008", "step_00000009"]
    stopped = Fit(tmp_path / "to_4", tiny_train)
    with pytest.raises(InterruptedError):
        stopped.run(stop_after=4)
    checkpoint.read(fit.place.checkpoints / "best", fit.state)
    assert fit.state.step == 4
    assert equal(fit, stopped)
    lines = [json.loads(line) for line in (tmp_path / "fit_validation.jsonl").read_text().splitlines()]
    assert [(line["step"], line["fid"]) for line in lines] == list(FIGURES.items())


def test_training_ends_when_the_score_improves_no_more(tiny_train, tmp_path):
    fit, calls = Fit(tmp_path, tiny_train), []
    fit.run(validation=scoring(fit, FIGURES, calls, patience=2))
    assert calls == [2, 4, 6, 8]
    assert fit.state.step == 8
    again, more = Fit(tmp_path, tiny_train), []
    again.run(validation=scoring(again, FIGURES, more, patience=2))  # and it does not begin again
    assert again.state.step == 8
    patient, calls = Fit(tmp_path / "patient", tiny_train), []
    patient.run(validation=scoring(patient, FIGURES, calls, patience=4))
    assert patient.state.step == STEPS


@pytest.mark.parametrize("stop", range(1, STEPS))
def test_interrupted_anywhere_it_ends_as_if_it_had_not_been(tiny_train, tmp_path, stop):
    whole, again, resumed = (Fit(tmp_path / name, tiny_train) for name in ("whole", "again", "again"))
    whole.run(validation=scoring(whole, FIGURES, []))
    with pytest.raises(InterruptedError):
        again.run(stop_after=stop, validation=scoring(again, FIGURES, []))
    resumed.run(validation=scoring(resumed, FIGURES, []))
    assert equal(resumed, whole)
    assert resumed.state.record == whole.state.record
    logs = [folder / "fit_validation.jsonl" for folder in (tmp_path / "again", tmp_path / "whole")]
    assert logs[0].read_text() == logs[1].read_text()


def test_a_validation_that_was_killed_is_made_again(tiny_train, tmp_path):
    whole, again, resumed = (Fit(tmp_path / name, tiny_train) for name in ("whole", "again", "again"))
    whole.run(validation=scoring(whole, FIGURES, []))
    killed = scoring(again, {2: 5.0, 4: 3.0}, [])  # it fails at step 6
    with pytest.raises(KeyError):
        again.run(validation=killed)
    calls: list[int] = []
    resumed.run(validation=scoring(resumed, FIGURES, calls))
    assert calls[0] == 6 or calls[:2] == [4, 6]
    assert equal(resumed, whole)
    assert resumed.state.record == whole.state.record


def test_a_score_that_is_no_number_is_never_the_best(tiny_train, tmp_path):
    fit = Fit(tmp_path, tiny_train)
    fit.run(validation=scoring(fit, dict.fromkeys(FIGURES, float("nan")) | {8: 7.0}, []))
    assert fit.state.record["best_step"] == 8


@pytest.fixture
def short(tiny_config):
    training = replace(tiny_config.training, steps=4, checkpoint_every=1, ema=None)
    return replace(tiny_config, training=training, validation=ValidationConfig(every=1, samples=8))


def weights(generator) -> torch.Tensor:
    parameters = [*generator.denoiser.parameters(), *generator.encoder.parameters()]
    return torch.cat([p.detach().flatten() for p in parameters])


def test_the_generator_has_the_weights_that_scored_best(fit, tiny_train, short, tmp_path):
    scored: dict[int, torch.Tensor] = {}

    def score(generator, step: int) -> dict[str, float]:
        assert not generator.denoiser.training
        assert not generator.encoder.training
        scored[step] = weights(generator)
        return {"fid": abs(step - 2.1)}

    best = fit(tiny_train, short, tmp_path / "best", score=score)
    assert torch.equal(weights(best), scored[2])
    last = replace(short, validation=replace(short.validation, select="last"))
    assert torch.equal(weights(fit(tiny_train, last, tmp_path / "last", score=score)), scored[4])
    assert not torch.equal(scored[2], scored[4])
    none = replace(short, validation=ValidationConfig(every=None))  # to be looked at changes nothing
    assert torch.equal(weights(fit(tiny_train, none, tmp_path / "none")), scored[4])
    with pytest.raises(ValueError, match="give `score`"):
        fit(tiny_train, short, tmp_path / "nobody")


def test_what_is_scored_and_kept_is_the_moving_average(fit, tiny_train, short, tmp_path):
    averaged = replace(short, training=replace(short.training, ema=0.9))
    scored: list[torch.Tensor] = []

    def score(generator, step: int) -> dict[str, float]:
        scored.append(weights(generator))
        return {"fid": 1.0 / step}

    result = fit(tiny_train, averaged, tmp_path / "averaged", score=score)
    assert torch.equal(weights(result), scored[-1])
    plain = fit(tiny_train, replace(short, validation=ValidationConfig(every=None)), tmp_path / "plain")
    assert not torch.equal(weights(plain), scored[-1])


def test_a_run_is_scored_by_the_independent_evaluator_and_leaves_pictures(tiny_data, tiny_config, tmp_path):
    validated = ValidationConfig(every=3, samples=8, strips=2)
    out = tmp_path / "run"
    command = ["train", "--arm", "adaqf", "--recipe", "pocket", "--data", str(tiny_data), "--out", str(out)]
    assert main([*command, *settings_of(replace(tiny_config, validation=validated))]) == 0
    lines = [json.loads(line) for line in (out / "logs" / "adaqf_validation.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 6]
    assert all({"fid", "r_precision_3", "mm_dist"} <= line.keys() for line in lines)
    assert sorted(path.name for path in (out / "validation").iterdir()) == ["adaqf_00000003.png", "adaqf_00000006.png"]
    stages = json.loads((out / "stages.json").read_text())
    assert stages["adaqf"]["settings"]["evaluator"] == stages["evaluator"]["digest"]
    assert stages["adaqf"]["settings"]["validation"]["metric"] == "fid"
    assert main([*command, *settings_of(replace(tiny_config, validation=replace(validated, strips=0)))]) == 0
    assert json.loads((out / "stages.json").read_text()) == stages  # pictures are no reason to train again
