"""The adapter alone, with the names of transformers' CLIPTextModel."""

from __future__ import annotations

from pathlib import Path

from adaclip.model import AdaCLIP


def to_flat_adapter(adaclip: AdaCLIP, folder: str | Path) -> Path:
    """Write the adapter for programs that hold a plain CLIPTextModel of transformers 5.6 or later.

    That class has `encoder.…` where CLIPTextModelWithProjection, CLIPModel and earlier versions have
    `text_model.encoder.…`. peft would load none of the tensors of a usual adapter into it, with no more than a warning.
    AdaCLIP loads both kinds.

    Args:
        adaclip: The encoder.
        folder: Folder to write; it replaces an earlier adapter.

    Returns:
        The folder.

    Raises:
        AdaCLIPError: The encoder is no CLIP, or the adapter also changes the projection, which that class lacks.
    """
    return adaclip.save_pretrained(folder, flat=True)
