"""The errors of this package: each message is one line that says what is wrong, where, and what to do."""

from __future__ import annotations


class AdaQFError(Exception):
    """Base of all errors that a user can correct; the command line prints its message and ends with code 1."""


class ConfigError(AdaQFError, ValueError):
    """A setting or an argument that does not exist or does not hold."""


class DataError(AdaQFError, ValueError):
    """A data set, or a file of one, that cannot be used."""


class ArtefactError(AdaQFError):
    """A folder of networks that is incomplete, damaged, or holds something else."""


class RunError(AdaQFError, RuntimeError):
    """A run folder that cannot be used."""


class RunLocked(RunError):
    """A run folder that another process is writing."""


class CheckpointError(AdaQFError):
    """A checkpoint that cannot be read or written."""


class DivergenceError(AdaQFError, FloatingPointError):
    """A loss that is no longer finite, or far too large."""


class TrackingError(AdaQFError, RuntimeError):
    """Losses that cannot be logged."""


class ExportError(AdaQFError, ValueError):
    """A motion that cannot be written in the requested format."""


class ProtocolError(AdaQFError, ValueError):
    """Reports that cannot be compared."""


class PaperError(AdaQFError, ValueError):
    """A table that the paper does not have."""


class UserStudyError(AdaQFError, ValueError):
    """A user study that cannot be built, or answers that cannot be read."""


class TrainingStopped(Exception):
    """Training ended on request (SIGTERM) with everything saved; the command line ends with code 0."""
