"""Named configurations, one file each."""

from __future__ import annotations

from adaqf_train.config import RunConfig
from adaqf_train.config.recipes import demo, humanml3d, kit, pocket
from adaqf_train.errors import ConfigError

RECIPES = {module.RECIPE.recipe: module.RECIPE for module in (demo, pocket, humanml3d, kit)}


def load(name: str) -> RunConfig:
    """Returns the recipe of that name; ConfigError lists the names if there is none."""
    if name not in RECIPES:
        raise ConfigError(f"There is no recipe {name!r}: choose from {', '.join(RECIPES)}.")
    return RECIPES[name]
