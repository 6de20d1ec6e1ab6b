"""Both towers of CLIP with the adapter merged, and the record of an export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from adaclip.adapter import first_line
from adaclip.config import AdaCLIPError
from adaclip.hub import load_clip
from adaclip.model import AdaCLIP
from adaclip.openai_bases import weights_of
from adaclip.towers import CLIP

if TYPE_CHECKING:
    from transformers import CLIPModel, PreTrainedModel

RECORD = "adaclip_export.json"  # marks a folder as an export, which a later export may replace
# The vision tower of a text-only base in formats that require one: no layers, and zero weights, so that every image
# becomes the zero vector instead of a plausible one. The image size is ViT-B/32's.
STUB_VISION = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 0, "num_attention_heads": 1}
STUB_VISION |= {"image_size": 224, "patch_size": 32}
STUB_NOTE = "a stub without layers, because the base has none: every image becomes the zero vector"


def merged_text(adaclip: AdaCLIP) -> PreTrainedModel:
    """Return the merged text model on the CPU; CLIP's with the tokenizer's special tokens, which its configs lack."""
    merged = adaclip.merged().cpu()
    if adaclip.tower is not CLIP:
        return merged
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(merged.config, name, getattr(adaclip.tokenizer, name))
    return merged


def full_clip(adaclip: AdaCLIP, merged: PreTrainedModel) -> tuple[CLIPModel, bool]:
    """Return both towers with the adapted text tower, and whether the vision tower is the base's."""
    full = _base_clip(adaclip, merged.dtype)
    real = full is not None
    if full is None:
        full = _with_stub(merged)
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(full.config.text_config, name, getattr(merged.config, name))
    report = full.load_state_dict(merged.state_dict(), strict=False)
    missing = [name for name in report.missing_keys if name.startswith("text_")]
    if missing or report.unexpected_keys:
        raise AdaCLIPError(
            f"{adaclip.base}: its text tower changed names since it was adapted "
            f"(first: {[*missing, *report.unexpected_keys][0]}). Load the adapter again, or pass the right base=."
        )
    return full.eval(), real


def _base_clip(adaclip: AdaCLIP, dtype: torch.dtype) -> CLIPModel | None:
    """Load the base with both towers; None if it has a text tower only."""
    from transformers import CLIPConfig, CLIPModel

    base, load = adaclip.base, replace(adaclip.base_options, dtype=dtype)
    weights = weights_of(base)
    if weights is not None:
        try:
            return load_clip(CLIPModel, base, load)[0]
        except AdaCLIPError:  # no vision tower, or none that transformers' CLIP computes
            return None
    try:
        config, _ = CLIPConfig.get_config_dict(base, **load.download())
    except (OSError, ValueError) as error:
        raise AdaCLIPError(
            f"{base}: the base, whose vision tower goes into this export, cannot be loaded: {first_line(error)} "
            "Connect once so that it is cached, or load the adapter with base= and a local folder."
        ) from error
    if config.get("model_type") != "clip" or config.get("adaclip", {}).get("vision") == "stub":
        return None
    model, missing = load_clip(CLIPModel, base, load)
    return None if any(name.startswith("vis") for name in missing) else model


def _with_stub(merged: PreTrainedModel) -> CLIPModel:
    from transformers import CLIPConfig, CLIPModel

    size = merged.config.projection_dim
    text = merged.config.to_dict()
    for name in ("_name_or_path", "architectures", "dtype"):  # where and how the text tower was stored
        text.pop(name, None)
    vision = STUB_VISION | {"projection_dim": size}
    with torch.random.fork_rng(devices=[]):  # initial values are overwritten; the caller's random numbers stay
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=size)).to(merged.dtype)
    for name, parameter in model.named_parameters():
        if name.startswith("vis"):
            nn.init.constant_(parameter, float("norm" in name and name.endswith("weight")))
    return model


def export_record(adaclip: AdaCLIP, form: str, vision: str) -> dict[str, str]:
    """Return what an export records of its origin."""
    from adaclip import __version__

    # A local base is recorded by name: its path has no meaning on other machines.
    base = Path(adaclip.base).name if Path(adaclip.base).is_dir() else adaclip.base
    commits = {"revision": adaclip.revision, "base_revision": adaclip.base_revision}
    record = {"format": form, "adaclip_version": __version__, "base": base, "vision": vision}
    return record | {name: commit for name, commit in commits.items() if commit is not None}
