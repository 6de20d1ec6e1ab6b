"""The paper's setting on HumanML3D: section 4.1, one GPU. The defaults of the configuration are this recipe."""

from adaqf_train.config import RunConfig

RECIPE = RunConfig(recipe="humanml3d")
