"""The verb that makes the packaged models: package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Package:
    """Make the small models that come with this package from a finished run on procedural motions."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of a run with the pocket base that has been evaluated."""
    out: Path  # A checkout of this package: adaclip/pocket and adaqf_train/pocket in it are replaced.
    steps: int | None = None  # Sampling steps of the generator. Default: the run's.

    def __call__(self) -> None:
        from adaqf_train.runs.package import change_by_halving, package

        sizes = package(self.run, self.out, self.steps)
        for name, size in sizes.items():
            print(f"wrote {self.out / name}: {size / 1e6:.2f} MB")
        moved = change_by_halving(self.run, self.out)
        print(f"{sum(sizes.values()) / 1e6:.2f} MB in all; half precision moves no joint by more than {moved:.1f} mm")
