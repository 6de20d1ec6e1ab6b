"""Settings of MDM's family: the run's own, whose denoiser, diffusion and sampling it samples with."""

from __future__ import annotations

from dataclasses import replace

from adaqf_train.config import FeedbackConfig, RunConfig


def settings(run: RunConfig, own: None = None) -> RunConfig:
    """Everything that MDM's training in that run depends on: the run's settings, no feedback and a frozen encoder."""
    frozen = replace(run.encoder, tuning="frozen")
    return replace(run, encoder=frozen, feedback=FeedbackConfig(motion=0.0, text=0.0))
