"""The results in results/, and the bases of their trials, which do not come with the code."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from adaqf_train.studies import results
from adaqf_train.studies.results import Result
from adaqf_train.studies.schema import Study

FOLDER = Path(__file__).resolve().parents[2] / "results"
_WITHOUT_VALIDATION = "validation.every=none"


@cache
def published() -> dict[str, Result]:
    """{name: result} of every published trial."""
    return {path.stem: results.read(path) for path in sorted(FOLDER.glob("*.json"))}


def base_of(study: Study) -> str:
    """The start of the hash of the base that a study was run with, if it was run with one.

    The studies of version 0.1, whose trainings are validated, share a base. Those of `datasets`, which are not
    validated, have another.
    """
    bases = {
        (_WITHOUT_VALIDATION in result.trial.settings, value)
        for result in published().values()
        for name, _, value in (setting.partition("=") for setting in result.trial.settings)
        if name == "base"
    }
    (base,) = (value for without, value in bases if without == (_WITHOUT_VALIDATION in study.settings))
    return base
