"""The demo, which `adaqf` runs without arguments: the pocket recipe with fewer steps, on procedural motions."""

from dataclasses import replace

from adaqf_train.config.recipes.pocket import RECIPE as POCKET

RECIPE = replace(
    POCKET,
    recipe="demo",
    training=replace(POCKET.training, steps=700, drop_at=580),
    evaluator=replace(POCKET.evaluator, steps=500),
)
