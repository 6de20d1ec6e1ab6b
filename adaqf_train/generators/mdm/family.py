"""MDM's family for the registry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from accelerate import Accelerator

from adaqf_train.config import RunConfig
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.generators.mdm import objective
from adaqf_train.generators.mdm.config import settings
from adaqf_train.generators.mdm.generator import MDMGenerator
from adaqf_train.generators.registry import Family, Watch
from adaqf_train.training.loop import Place


def _fit(
    accelerator: Accelerator,
    dataset: MotionDataset,
    encoder: Path,
    codec: None,
    config: RunConfig,
    place: Callable[[str], Place],
    watch: Watch | None,
) -> MDMGenerator:
    own = place("generator")
    return objective.fit(
        accelerator,
        dataset,
        str(encoder),
        None,
        config,
        name="generator",
        checkpoints=own.checkpoints,
        log=own.log,
        on_validation=watch.score if watch else None,
    )


FAMILY = Family(MDMGenerator, settings, _fit)
