"""Errors of the integrations."""

from __future__ import annotations

from adaclip.config import AdaCLIPError


class IntegrationError(AdaCLIPError):
    """AdaCLIP cannot take the place of a program's text encoder. The message says where, why, and what to do."""


class SeamError(IntegrationError):
    """A checkout or script differs from what an edit or a seam expects. The message names the place."""


class OtherEncoderError(IntegrationError):
    """A checkpoint was trained with another text encoder than the one that runs."""
