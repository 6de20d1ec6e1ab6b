"""Recorded settings beside those of today."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from adaqf_train.config import RunConfig, ValidationConfig
from adaqf_train.config.recipes import RECIPES
from adaqf_train.runs.accelerator import new_accelerator
from adaqf_train.runs.settings import INCIDENTAL, changes, differences, without_incidental
from adaqf_train.runs.validator import validation_settings

POCKET = RECIPES["pocket"]


@pytest.fixture
def record() -> dict:
    """A configuration as a run keeps it."""
    return json.loads(json.dumps(asdict(POCKET)))


def test_changes_are_none_of_the_same_settings(record):
    assert changes(record, POCKET) == ""


def test_changes_are_named_with_both_values(record):
    changed = replace(POCKET, training=replace(POCKET.training, batch=64))
    assert changes(record, changed, "config.") == "config.training.batch: 32 -> 64"


def test_changes_count_a_setting_that_was_added_since_as_its_default(record):
    del record["training"]["warmup"], record["synthetic"]
    assert changes(record, POCKET) == ""
    warm = replace(POCKET, training=replace(POCKET.training, warmup=10))
    assert changes(record, warm) == "training.warmup: 0 -> 10"


def test_changes_ignore_a_setting_that_was_removed_since(record):
    record["training"]["momentum"] = 0.9
    record["teacher"] = {"width": 3}
    assert changes(record, POCKET) == ""


def test_changes_ignore_settings_that_do_not_change_the_weights(record):
    record["training"] |= dict.fromkeys(INCIDENTAL, "other")
    assert changes(record, POCKET) == ""
    assert not set(INCIDENTAL) & without_incidental(RunConfig())["training"].keys()


def test_validations_that_choose_the_weights_depend_on_how_motions_are_sampled():
    config = replace(POCKET, validation=ValidationConfig(every=5, select="last"))
    assert "sampling" not in validation_settings(config)
    for own in ({"select": "best"}, {"patience": 2}):
        chosen = replace(config, validation=replace(config.validation, **own))
        slower = replace(chosen, sampling=replace(chosen.sampling, steps=20))
        assert validation_settings(chosen) != validation_settings(slower)
        together = replace(chosen, sampling=replace(chosen.sampling, batch=7))
        assert validation_settings(chosen) == validation_settings(together)


def test_accelerator_uses_bf16_where_the_run_uses_a_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("accelerate.Accelerator", lambda mixed_precision, **_: mixed_precision)
    monkeypatch.setattr("torch.set_num_threads", lambda count: None)
    monkeypatch.setattr("torch.set_float32_matmul_precision", lambda precision: None)
    monkeypatch.setattr("torch.backends.cuda.enable_cudnn_sdp", lambda enabled: None)
    for used, precision in (("false", "bf16"), ("true", None)):
        monkeypatch.setenv("ACCELERATE_USE_CPU", used)
        assert new_accelerator() == precision


def test_differences_name_settings_of_one_side_alone():
    assert differences({"a": {"x": 1, "y": 2}}, {"a": {"x": 1}, "b": 3}) == "a.y: 2 -> None, b: None -> 3"
