"""MDM's family for the registry: its settings are the run's own."""

from __future__ import annotations

from dataclasses import replace

from adaqf_train.config import AlignmentConfig, FeedbackConfig, RunConfig
from adaqf_train.generators.mdm.generator import MDMGenerator
from adaqf_train.generators.mdm.objective import fit_adaqf
from adaqf_train.generators.registry import Family, Fitting


def _settings(run: RunConfig, own: None = None) -> RunConfig:
    """Everything that MDM's training in that run depends on: the run's settings, no feedback and a frozen encoder."""
    frozen = replace(run.encoder, tuning="frozen")
    no_feedback = FeedbackConfig(motion=0.0, text=0.0)
    return replace(run, encoder=frozen, feedback=no_feedback, alignment=AlignmentConfig())


def _fit(to: Fitting, config: RunConfig) -> MDMGenerator:
    return fit_adaqf(to.accelerator, to.dataset, str(to.encoder), None, config, to.place("generator"), to.score)


FAMILY = Family(MDMGenerator, _settings, _fit)
