"""MDM's family for the registry."""

from __future__ import annotations

from adaqf_train.config import RunConfig
from adaqf_train.generators.mdm.config import settings
from adaqf_train.generators.mdm.generator import MDMGenerator
from adaqf_train.generators.mdm.objective import fit_adaqf
from adaqf_train.generators.registry import Family, Fitting


def _fit(to: Fitting, config: RunConfig) -> MDMGenerator:
    return fit_adaqf(to.accelerator, to.dataset, str(to.encoder), None, config, to.place("generator"), to.score)


FAMILY = Family(MDMGenerator, settings, _fit)
