"""The encoder as a file in OpenAI's format."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from adaclip.config import AdaCLIPError
from adaclip.exports import openai_weights
from adaclip.exports.towers import RECORD, STUB_NOTE, export_record, full_clip, merged_text
from adaclip.files import atomic_file
from adaclip.model import AdaCLIP
from adaclip.openai_clip import check_end_token
from adaclip.outputs import free_output


def to_openai(adaclip: AdaCLIP, path: str | Path, *, force: bool = False) -> Path:
    """Write a TorchScript archive under OpenAI's weight names, float32, for `clip.load(path, jit=False)`.

    The vision tower is the base's, or a stub if the base has none; `adaclip_export.json` in the archive names it.
    openai-clip rounds the matrices to float16 when it loads them. For full precision, load them again afterwards:
    `model.float().load_state_dict(torch.jit.load(path).state_dict())`.

    Args:
        adaclip: The encoder.
        path: File to write.
        force: Replace a file that is not an earlier export, or lies in a model's folder.

    Returns:
        The path.

    Raises:
        AdaCLIPError: OpenAI's format cannot express the architecture, or the file would be lost.
    """
    target = free_output(Path(path), force=force)
    merged = merged_text(adaclip)
    check_end_token(adaclip)
    _check_openai_shape(merged.config, f"The text tower of {adaclip.base}")
    full, real = full_clip(adaclip, merged)
    if real:
        _check_openai_shape(full.config.vision_config, f"The vision tower of {adaclip.base}")
    state = openai_weights.to_openai(full.float().state_dict())
    record = export_record(adaclip, "openai", "the base's, untouched" if real else STUB_NOTE)
    with atomic_file(target) as staging, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript, the only format openai-clip reads
        torch.jit.save(torch.jit.script(_tree(state)), str(staging), _extra_files={RECORD: json.dumps(record)})
    return Path(path)


def _check_openai_shape(config: object, whose: str) -> None:
    """Raise AdaCLIPError unless the sizes are those that OpenAI's loader assumes: the format stores weights only."""
    width = config.hidden_size
    needed = {
        "num_attention_heads": width // 64,
        "intermediate_size": 4 * width,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    }
    for name, value in needed.items():
        if getattr(config, name) != value:
            raise AdaCLIPError(
                f"{whose} has {name} {getattr(config, name)}; OpenAI's format implies {value} at width {width}, "
                "so it would load and compute something else. Export with --to hf."
            )


def _tree(state: dict[str, Tensor]) -> nn.Module:
    """Return modules without code whose state dict is `state`."""
    root = nn.Module()
    for name, value in state.items():
        *path, leaf = name.split(".")
        node = root
        for part in path:
            if part not in node._modules:
                node.add_module(part, nn.Module())
            node = node._modules[part]
        node.register_parameter(leaf, nn.Parameter(value, requires_grad=False))
    return root
