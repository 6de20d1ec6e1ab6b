"""The paper's setting on HumanML3D: section 4.1, one GPU. Beside the speed, the configuration's defaults."""

from adaqf_train.config import RunConfig, TrainingConfig

RECIPE = RunConfig(
    recipe="humanml3d",
    training=TrainingConfig(
        bucket=16,  # with more, little is left to save
        cache_text=True,  # 2.5 GB in the baseline, where the encoder is frozen; 180 MB beside an adapter
    ),
)
