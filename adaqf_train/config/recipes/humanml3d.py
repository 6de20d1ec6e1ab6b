"""The paper's setting on HumanML3D (section 4.1, one GPU): the defaults of the settings, and one that saves time."""

from adaqf_train.config import RunConfig, TrainingConfig

RECIPE = RunConfig(
    recipe="humanml3d",
    training=TrainingConfig(bucket=16),  # a larger one saves little more
)
