"""Settings as frozen dataclasses that check themselves: of a run, of the generator families, and named recipes.

The comment or docstring of a field is its help on the command line.
"""

from adaqf_train.config.networks import (
    POCKET_BASE,
    DenoiserConfig,
    DiffusionConfig,
    EncoderConfig,
    EvaluatorConfig,
    ExtractorConfig,
    JointEvaluatorConfig,
    PocketClipConfig,
)
from adaqf_train.config.run import (
    MDM_SAMPLES,
    DataConfig,
    EvaluationConfig,
    RunConfig,
    SamplingConfig,
    SchedulerName,
    SyntheticConfig,
)
from adaqf_train.config.schema import Settings, build, digest, override, settings_between
from adaqf_train.config.training import (
    MIN_SAMPLES,
    AlignmentConfig,
    FeedbackConfig,
    PhysicsConfig,
    TrainingConfig,
    ValidationConfig,
)
from adaqf_train.errors import ConfigError
