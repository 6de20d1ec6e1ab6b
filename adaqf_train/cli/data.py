"""The verb that examines data: doctor."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from adaqf_train.errors import ConfigError


@dataclass(frozen=True)
class Doctor:
    """Examine a data folder: what is missing, broken, duplicated or leaking, and what to do about it."""

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DATA")]
    """Folder in HumanML3D's layout, 263-d or 251-d."""
    json: bool = False  # Print findings and facts as JSON, and nothing else.
    gallery: Path | None = None  # Also write a page, FILE.html, that plays sample clips with their captions.

    def __call__(self) -> int:
        """Returns 1 if an error was found, else 0."""
        import json

        from rich.console import Console

        from adaqf_train.doctor import examine
        from adaqf_train.doctor.gallery import write_gallery

        if self.gallery is not None and self.gallery.suffix != ".html":
            raise ConfigError(f"--gallery {self.gallery}: the gallery is a page. Name a .html file.")
        found = examine(self.folder)
        if self.json:
            print(json.dumps(found.to_dict(), indent=2))
        else:
            # Outside a terminal, lines of 80 columns would only break file names.
            found.show(Console() if sys.stdout.isatty() else Console(width=140))
        if self.gallery is not None:
            shown = write_gallery(self.gallery, found)
            what = f"wrote {self.gallery}: {shown} clips" if shown else "no gallery: there is no clip to show"
            print(what, file=sys.stderr)  # another program may read the findings on stdout
        return 0 if found.ok else 1
