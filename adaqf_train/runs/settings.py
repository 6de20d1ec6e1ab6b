"""Comparison of recorded settings with those of today."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass

# Fields of TrainingConfig that do not change the weights, so that changing them is no reason to train again.
INCIDENTAL = ("workers", "checkpoint_every", "keep", "log_every", "trackers", "max_loss")


def without_incidental(config: object) -> dict:
    """A configuration as nested dictionaries, without the settings that do not change the weights."""

    def kept(content: Mapping) -> dict:
        training = "learning_rate" in content and "workers" in content
        return {
            name: kept(value) if isinstance(value, dict) else value
            for name, value in content.items()
            if not (training and name in INCIDENTAL)
        }

    return kept(asdict(config) if is_dataclass(config) else config)


def as_stored(settings: dict) -> dict:
    """Settings as JSON returns them: tuples become lists."""
    return json.loads(json.dumps(settings))


def differences(old: Mapping, new: Mapping, prefix: str = "") -> str:
    """The settings in which two records differ, as "name: old -> new"; "" for none."""
    found = []
    for name in sorted(old.keys() | new.keys()):
        a, b = old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            inner = differences(a, b, f"{prefix}{name}.")
            found += [inner] if inner else []
        elif a != b:
            found.append(f"{prefix}{name}: {a} -> {b}")
    return ", ".join(found)


def changes(record: Mapping, config: object, prefix: str = "") -> str:
    """What a configuration changes against the record of an earlier one, as "name: old -> new"; "" for nothing.

    Another version may have written the record: a setting that was added since then counts as its default, and one that
    was removed since then is ignored. So are the incidental settings. config: a dataclass whose fields all have
    defaults.
    """
    defaults, now = (as_stored(without_incidental(each)) for each in (type(config)(), config))
    return differences(_translated(as_stored(dict(record)), defaults), now, prefix)


def _translated(record: Mapping, defaults: Mapping) -> dict:
    """A record with exactly the settings that there are today."""
    return {
        name: _translated(record.get(name) or {}, default) if isinstance(default, dict) else record.get(name, default)
        for name, default in defaults.items()
    }
