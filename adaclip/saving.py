"""Saving and publishing of an encoder's active adapter."""

from __future__ import annotations

import tempfile
from pathlib import Path

from adaclip import adapter as adapter_files
from adaclip import hub
from adaclip.card import CardDetails, model_card


class SavingMixin:
    """Methods of `AdaCLIP` that write its active adapter to folders and to the Hub."""

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        base: str | Path | None = None,
        details: CardDetails | None = None,
        with_base: bool = False,
    ) -> Path:
        """Write the active adapter as a standard PEFT folder: weights, config, model card, tokenizer.

        The folder appears complete or not at all.

        Args:
            folder: Folder to write; it replaces an earlier save.
            base: What to record as the base; by default the base of this encoder. A local folder is recorded by its
                path relative to `folder`.
            details: Licence, data sets and metrics for the card; by default those the adapter was loaded with.
            with_base: Copy a base that is a local folder into `folder`.

        Returns:
            The folder.

        Raises:
            AdaCLIPError: The folder contains something else.
        """
        return adapter_files.save_adapter(
            self.text_model,
            self.tokenizer,
            str(base or self.base),
            Path(folder),
            details=details or self.details,
            with_base=with_base,
        )

    def push_to_hub(
        self,
        repo_id: str,
        *,
        base: str | Path | None = None,
        details: CardDetails | None = None,
        subfolder: str = "",
        token: str | bool | None = None,
        private: bool | None = None,
        revision: str | None = None,
        commit_message: str = "Upload AdaCLIP adapter",
    ) -> str:
        """Upload the active adapter to the Hugging Face Hub, with its base if that is a local folder.

        Args:
            repo_id: Repository (owner/name); it is created if necessary.
            base: What to record as the base; by default the base of this encoder.
            details: Licence, data sets and metrics for the card; by default those the adapter was loaded with.
            subfolder: Folder in the repository.
            token: Access token; None uses the stored one.
            private: Visibility of a new repository.
            revision: Branch to push to.
            commit_message: Message of the commit.

        Returns:
            The address of the commit.

        Raises:
            AdaCLIPError: The upload fails.
        """
        with tempfile.TemporaryDirectory() as staging:
            folder = Path(staging) / "adapter"
            self.save_for_hub(folder, repo_id, base=base, details=details, subfolder=subfolder)
            return hub.push_folder(
                folder,
                repo_id,
                subfolder=subfolder,
                token=token,
                private=private,
                revision=revision,
                message=commit_message,
            )

    def save_for_hub(
        self,
        folder: str | Path,
        repo_id: str,
        *,
        base: str | Path | None = None,
        details: CardDetails | None = None,
        subfolder: str = "",
    ) -> Path:
        """Write what `push_to_hub` uploads: a card that names the repository, and a base that is a local folder."""
        folder = self.save_pretrained(folder, base=base, details=details, with_base=True)
        card = model_card(adapter_files.adapter_config(folder), details or self.details, repo_id, subfolder)
        (folder / adapter_files.CARD).write_text(card, encoding="utf-8")
        return folder
