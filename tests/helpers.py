"""Helpers that several test files call."""

from __future__ import annotations

from adaqf_train.config import RunConfig, to_dict


def settings_of(config: RunConfig, **changes: object) -> list[str]:
    """A configuration as --set options; changes are written training__steps=5."""
    flat = {
        f"{group}.{name}": value
        for group, values in to_dict(config).items()
        if isinstance(values, dict)
        for name, value in values.items()
    }
    flat |= {name.replace("__", "."): value for name, value in changes.items()}
    return [part for name, value in flat.items() for part in ("--set", f"{name}={value}")]
