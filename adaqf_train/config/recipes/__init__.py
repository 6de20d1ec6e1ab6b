"""Named configurations, one file each."""

from __future__ import annotations

from adaqf_train.config import RunConfig
from adaqf_train.config.families import Families
from adaqf_train.config.recipes import demo, families, humanml3d, kit, pocket
from adaqf_train.errors import ConfigError

RECIPES = {module.RECIPE.recipe: module.RECIPE for module in (demo, pocket, humanml3d, kit)}


def load(name: str) -> RunConfig:
    """The recipe of that name, or ConfigError with the names there are."""
    if name not in RECIPES:
        raise ConfigError(f"There is no recipe {name!r}: choose from {', '.join(RECIPES)}.")
    return RECIPES[name]


def families_of(name: str) -> Families:
    """The other generators and the rival encoder at the size of a recipe: small for pockets, else as published."""
    load(name)
    return families.POCKET if name in ("demo", "pocket") else Families()
