"""The verb that publishes a run's adapter or a generator: push."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from adaqf_train.errors import ConfigError


@dataclass(frozen=True)
class Push:
    """Push a run's adapter, with its report in the card, or a whole generator to the Hugging Face Hub."""

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")]
    """Folder of a run that has been trained and evaluated, or of a generator, such as RUN/adaqf."""
    repo_id: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="OWNER/NAME")]
    """owner/name of the repository; created if it does not exist."""
    data_licence: str | None = None
    """Licence of the weights under the terms of their data, by the Hub's name, such as cc-by-nc-4.0 or other. Weights
    trained on AMASS or on Bandai Namco's motions are for non-commercial use. Default: apache-2.0 for procedural motions
    and the pocket base, else none."""
    trained_on: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Name of the training data. Default: that of procedural data or of the recipe, or what the generator's encoder
    records."""
    private: bool = False  # Make the repository private.
    dry_run: bool = False  # Write the folder to RUN/hub, or to GENERATOR-hub, instead of pushing it.

    def __call__(self) -> None:
        from huggingface_hub import get_token
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import validate_repo_id

        try:
            validate_repo_id(self.repo_id)
        except HFValidationError as error:
            raise ConfigError(f"{self.repo_id}: not the name of a repository ({error}). Give owner/name.") from error
        if not self.dry_run and get_token() is None:
            raise ConfigError("You are not logged in to the Hub. Run `hf auth login`, or set HF_TOKEN.")
        from adaqf_train.runs import publish

        found = publish.publishable(self.source, self.data_licence, self.trained_on)
        if self.dry_run:
            folder = found.write(self.repo_id)
            print(f"wrote {folder}: what would be pushed to {self.repo_id}")
            return
        address = found.model.push_to_hub(self.repo_id, details=found.details, private=self.private or None)
        print(f"pushed {found.folder} to {address}")
