"""Recorded settings beside those of today."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from adaqf_train.config import RunConfig
from adaqf_train.config.recipes import RECIPES
from adaqf_train.runs.settings import INCIDENTAL, changes, differences, without_incidental

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


def test_differences_name_settings_of_one_side_alone():
    assert differences({"a": {"x": 1, "y": 2}}, {"a": {"x": 1}, "b": 3}) == "a.y: 2 -> None, b: None -> 3"
