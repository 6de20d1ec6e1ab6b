"""Which weights of a text encoder learn: its adapter, all of its text tower, or none."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

from adaclip import AdaCLIP
from adaclip.adapter import save_adapter
from adaqf_train.config import EncoderConfig
from adaqf_train.judges.store import save_clip

Tuning = Literal["lora", "frozen", "full"]
Reads = Literal["tokens", "pooled", "both"]


def build_encoder(base: str, config: EncoderConfig, reads: Reads) -> AdaCLIP:
    """Load a base with a fresh adapter and let its weights learn as configured.

    Args:
        base: Hub id or folder of a CLIP text model.
        config: Adapter and tuning.
        reads: The outputs that the generator reads, as in `DenoiserConfig.conditioning`.
    """
    encoder = AdaCLIP.from_base(
        base, rank=config.rank, alpha=config.alpha, dropout=config.dropout, modules=config.modules
    )
    tune(encoder, config.tuning, reads)
    return encoder


def tune(encoder: AdaCLIP, tuning: Tuning, reads: Reads = "both") -> None:
    """Set `requires_grad` of every weight.

    With "full" the adapter stays as it is: fresh, it changes nothing. The projection learns only where pooled vectors
    are read, because token states do not depend on it.
    """
    encoder.requires_grad_(tuning == "full")
    for parameter in encoder.adapter_parameters():
        parameter.requires_grad_(tuning == "lora")
    if reads == "tokens":
        encoder.text_model.base_model.model.text_projection.requires_grad_(False)


def save_tuned(folder: Path, encoder: AdaCLIP, tuning: Tuning) -> None:
    """Write an adapter folder; after full tuning with the trained base inside and an adapter that changes nothing."""
    if tuning != "full":
        encoder.save_pretrained(folder)
        return
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch) / "base"
        save_clip(base, encoder.merged(), encoder.tokenizer)
        save_adapter(encoder.text_model, encoder.tokenizer, str(base), folder, details=encoder.details, with_base=True)
