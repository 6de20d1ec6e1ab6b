"""The errors of this package. Each message is one line that says what is wrong, where, and what to do."""

from __future__ import annotations

import re
from collections.abc import Sequence


class AdaQFError(Exception):
    """Base of all errors that a user can correct; the command line prints the message and exits with code 1."""


class ConfigError(AdaQFError, ValueError):
    """A setting or an argument that does not exist, or whose value is invalid."""


class DataError(AdaQFError, ValueError):
    """A data set, or a file of one, that cannot be used."""


class FilesError(DataError):
    """Several files that cannot be used; the command line prints a line for each fault."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(self.lines))


class ArtefactError(AdaQFError):
    """A folder of networks that is incomplete or damaged, or contains something else."""


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


class ResultError(AdaQFError, ValueError):
    """A report, or the result of a trial, that cannot be used or compared with another."""


class UserStudyError(AdaQFError, ValueError):
    """A user study that cannot be built, or answers that cannot be read."""


class TrainingStopped(Exception):
    """Training ended on request (SIGTERM) after saving everything; the command line exits with code 0."""


def lost_process(error: BaseException | None) -> str:
    """Why an operation of several processes failed if one of them ended or never came; empty for other errors."""
    kinds = {"DistBackendError", "DistNetworkError", "DistStoreError"}  # of torch.distributed, which is not loaded here
    gloo = isinstance(error, RuntimeError) and "/gloo/" in str(error)
    if not gloo and type(error).__name__ not in kinds:
        return ""
    return " ".join(re.sub(r"^\[\S*] ", "", str(error)).split()).partition(". ")[0][:200]
