"""Checks that settings make of themselves."""

from __future__ import annotations

from adaqf_train.errors import ConfigError


def require(condition: bool, message: str) -> None:
    """Raises ConfigError with that message unless the condition holds."""
    if not condition:
        raise ConfigError(message)


def require_positive(group: str, config: object, *names: str) -> None:
    """Raises ConfigError, which names the field as `group.name`, unless all these fields of `config` are positive."""
    for name in names:
        value = getattr(config, name)
        require(value > 0, f"{group}.{name} must be positive, got {value}.")
