"""Saving and publishing of an encoder's active adapter."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from adaclip import hub
from adaclip.adapter import BASE, BASE_FILES, CARD, FILES, SETTINGS, write_active
from adaclip.base_record import RECORD, base_record
from adaclip.card import CardDetails, model_card
from adaclip.files import atomic_folder, check_replaceable, write_json
from adaclip.inference import merge
from adaclip.integrity import write_digests
from adaclip.lora_config import CONFIG, LORA_RECORD, adapter_config, lora_digest
from adaclip.lora_files import flatten
from adaclip.openai_bases import weights_of


class SavingMixin:
    """Methods of `AdaCLIP` that write its active adapter to folders and to the Hub."""

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        base: str | Path | None = None,
        details: CardDetails | None = None,
        with_base: bool = False,
        flat: bool = False,
    ) -> Path:
        """Write the active adapter as a standard PEFT folder: weights, config, model card, tokenizer.

        The folder appears complete or not at all.

        Args:
            folder: Folder to write; it replaces an earlier save.
            base: What to record as the base; by default the base of this encoder. A local folder or file is recorded by
                its path relative to `folder`.
            details: Licence, data sets and metrics for the card; by default those the adapter was loaded with.
            with_base: Copy a base that is a local folder into `folder`; one that lies there already stays there. A base
                in OpenAI's format is converted.
            flat: Write CLIP's adapter with the names of transformers' CLIPTextModel, for peft over that class; see
                `exports.to_flat_adapter`.

        Returns:
            The folder.

        Raises:
            AdaCLIPError: The folder contains something else.
        """
        from adaclip import __version__

        folder, details = Path(folder).expanduser().resolve(), details or self.details
        check_replaceable(folder, {*FILES, BASE}, {SETTINGS}, "an adapter")
        recorded = str(base or self.base)
        local = Path(recorded).absolute() if Path(recorded).exists() else None
        if local is not None:
            with_base = with_base or local.resolve().is_relative_to(folder)
            recorded = f"./{BASE}" if with_base else os.path.relpath(local, folder)
            recorded = recorded if recorded.startswith(".") else os.path.join(".", recorded)
        with atomic_folder(folder) as staging:
            write_active(self.text_model, staging)
            if flat:
                flatten(staging)
            config = adapter_config(staging) | {"base_model_name_or_path": recorded, "inference_mode": True}
            write_json(staging / CONFIG, config)
            settings = {"adaclip_version": __version__, "pooling": self.pooling.name}
            settings[RECORD] = base_record(merge(self.text_model, None, share=True))
            settings[LORA_RECORD] = lora_digest(config)
            if self.base_revision is not None:
                settings["base_revision"] = self.base_revision
            write_json(staging / SETTINGS, settings | details.as_dict())
            self.tokenizer.save_pretrained(str(staging))
            (staging / CARD).write_text(model_card(config, details, base_revision=self.base_revision), encoding="utf-8")
            if local is not None and with_base:
                self.copy_base(local, staging / BASE)
            # Other programs may edit peft's configuration; LORA_RECORD has what the vectors depend on.
            write_digests(staging, free=(CONFIG,))
        return folder

    def copy_base(self, local: Path, folder: Path) -> Path:
        """Copy a local base into a new folder and return it; one in OpenAI's format becomes one of transformers."""
        folder.mkdir()
        if weights_of(str(local)) is not None:
            merge(self.text_model, None, share=True).save_pretrained(folder)
            self.tokenizer.save_pretrained(str(folder))
            return folder
        for path in (path for pattern in BASE_FILES for path in local.glob(pattern)):
            target = folder / path.relative_to(local)
            target.parent.mkdir(exist_ok=True)
            shutil.copy2(path, target)
        return folder

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
        card = model_card(
            adapter_config(folder), details or self.details, repo_id, subfolder, base_revision=self.base_revision
        )
        (folder / CARD).write_text(card, encoding="utf-8")
        return folder
