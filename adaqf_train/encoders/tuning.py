"""Which weights of a text encoder learn (its adapter, all of its text tower, or none), and how encoders are saved."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from adaclip import AdaCLIP
from adaclip.files import atomic_folder
from adaclip.integrity import write_digests
from adaclip.sentence import write_sentence_files
from adaclip.towers import CLIP
from adaqf_train.config import EncoderConfig

Tuning = Literal["lora", "frozen", "full"]
Reads = Literal["tokens", "pooled", "both"]


def build_encoder(base: str, config: EncoderConfig, reads: Reads, start: Path | None = None) -> AdaCLIP:
    """Load a base (Hub id or folder) with a fresh adapter; what learns also depends on what the generator reads.

    start: folder of an adapter to start from instead; where all weights learn, it becomes part of them.
    """
    adapter = {name: getattr(config, name) for name in ("rank", "alpha", "dropout", "modules")}
    encoder = AdaCLIP.from_base(base, **adapter) if start is None else AdaCLIP.from_pretrained(start, base=base)
    if start is not None and config.tuning == "full":
        _fold(encoder)
    tune(encoder, config.tuning, reads)
    return encoder


def _fold(encoder: AdaCLIP) -> None:
    """Add the adapter's change to the weights that it adapts, and clear it."""
    encoder.text_model.merge_adapter()
    for layer in encoder.text_model.modules():
        if isinstance(layer, LoraLayer):
            layer.merged_adapters.clear()
            nn.init.zeros_(layer.lora_B[encoder.active_adapter].weight)
    encoder.forget()


def tune(encoder: AdaCLIP, tuning: Tuning, reads: Reads = "both") -> None:
    """Set `requires_grad` of every weight.

    With "full" the adapter stays as it is: cleared, it changes nothing. What pooled vectors alone depend on, such as
    CLIP's projection, learns only where they are read.
    """
    encoder.requires_grad_(tuning == "full")
    for parameter in encoder.adapter_parameters():
        parameter.requires_grad_(tuning == "lora")
    encoder.pooling.freeze_unread(encoder.text_model, pooled=reads != "tokens")


def save_clip(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """A text model as a plain transformers folder."""
    with atomic_folder(folder) as staging:
        model.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
        write_digests(staging)


def save_text_model(folder: Path, encoder: AdaCLIP) -> None:
    """An encoder as a plain transformers folder, its adapter merged, which is a base with the same pooling."""
    with atomic_folder(folder) as staging:
        merged = encoder.merged()
        merged.save_pretrained(staging)
        encoder.tokenizer.save_pretrained(staging)
        if encoder.tower is not CLIP:
            write_sentence_files(staging, merged, encoder.tokenizer, encoder.pooling)
        write_digests(staging)


def save_tuned(folder: Path, encoder: AdaCLIP, tuning: Tuning) -> None:
    """Write an adapter folder; after full tuning with the trained base inside and an adapter that changes nothing."""
    if tuning != "full":
        encoder.save_pretrained(folder)
        return
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch) / "base"
        save_text_model(base, encoder)
        encoder.save_pretrained(folder, base=base, with_base=True)
