"""The verb that publishes the adapter of a run: push."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from adaqf_train.errors import ConfigError


@dataclass(frozen=True)
class Push:
    """Push the adapter of a finished run to the Hugging Face Hub, with a card that contains its report."""

    run: tyro.conf.Positional[Path]
    """Folder of a run that has been trained and evaluated."""
    repo_id: tyro.conf.Positional[str]
    """owner/name of the repository; created if it does not exist."""
    data_licence: str | None = None
    """Licence of the adapter under the terms of its data, by the Hub's name, such as cc-by-nc-4.0 or other. Weights
    trained on AMASS or on Bandai Namco's motions are for non-commercial use."""
    trained_on: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Name of the training data; default: the recipe's. Repeatable."""
    private: bool = False
    """Make the repository private."""
    dry_run: bool = False
    """Write the folder to RUN/hub instead of pushing it."""

    def __call__(self) -> None:
        from huggingface_hub import get_token
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import validate_repo_id

        from adaqf_train.runs import publish
        from adaqf_train.runs.layout import RunLayout

        try:
            validate_repo_id(self.repo_id)
        except HFValidationError as error:
            raise ConfigError(f"{self.repo_id}: not the name of a repository ({error}). Give owner/name.") from error
        if not self.dry_run and get_token() is None:
            raise ConfigError("You are not logged in to the Hub. Run `hf auth login`, or set HF_TOKEN.")
        finished = publish.Finished.read(self.run)
        encoder, details = finished.encoder, finished.details(self.data_licence, self.trained_on)
        if self.dry_run:
            folder = encoder.save_for_hub(RunLayout(self.run).hub, self.repo_id, details=details)
            print(f"wrote {folder}: what would be pushed to {self.repo_id}")
            return
        address = encoder.push_to_hub(self.repo_id, details=details, private=self.private or None)
        print(f"pushed {RunLayout(self.run).adaclip} to {address}")
