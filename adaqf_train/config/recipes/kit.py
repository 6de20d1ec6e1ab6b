"""The paper's setting on KIT-ML: half the batch size, and shorter clips (12.5 frames per second)."""

from dataclasses import replace

from adaqf_train.config import DataConfig
from adaqf_train.config.recipes.humanml3d import RECIPE as HUMANML3D

RECIPE = replace(
    HUMANML3D,
    recipe="kit",
    data=DataConfig(min_frames=24),
    training=replace(HUMANML3D.training, batch=32),
)
