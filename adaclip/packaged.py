"""The small models that come with this package: trained on procedural motions, for first steps without a network."""

from __future__ import annotations

import warnings
from pathlib import Path

NAME = "adaclip-pocket"
ENCODER = Path(__file__).with_name("pocket")  # an adapter with its base
MISSING = "The packaged models are missing here. Install the wheel, or make them: adaqf package RUN --out CHECKOUT"


def packaged(name: str | Path, place: Path = ENCODER) -> Path | None:
    """Return `place`, of a packaged model, if `name` is the packaged models' name; else None.

    A folder or file of that name in the working directory is used in its place, with a warning. The name has no
    owner, so it cannot be a Hub id.
    """
    if str(name) != NAME:
        return None
    if Path(NAME).exists():
        warnings.warn(
            f"{NAME}: the one in {Path.cwd()} is used, not the packaged model of that name. Rename it to use the "
            f"packaged model, or write ./{NAME} to use it without this warning.",
            stacklevel=3,
        )
        return None
    return place
