"""What `adaqf` does with no arguments: procedural motions, pocket sizes, under ten minutes on two cores."""

from dataclasses import replace

from adaqf_train.config.recipes.pocket import RECIPE as POCKET

RECIPE = replace(
    POCKET,
    recipe="demo",
    training=replace(POCKET.training, steps=700, drop_at=580),
    evaluator=replace(POCKET.evaluator, steps=500),
)
