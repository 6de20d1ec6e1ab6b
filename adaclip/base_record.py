"""Record of the base's text weights beside an adapter, and its comparison with the base in use.

Another base of the same shapes would give other vectors without a word. The record is a hash of all values and the
settings that weights do not show. It does not depend on the files that hold the weights.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from adaclip.config import AdaCLIPError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

RECORD = "base_text"  # in adaclip.json
# Values are hashed in half precision: every training changes some of them, half as many bytes are hashed, and a base
# can be compared in whatever precision it is loaded, because rounding is repeatable.
PRECISIONS = (torch.float16, torch.bfloat16)
# Settings that change the vectors, and not the shapes of weights; each family has some of them.
SETTINGS = ("model_type", "hidden_act", "activation", "dense_act_fn", "layer_norm_eps", "layer_norm_epsilon")
SETTINGS += ("num_attention_heads", "num_heads", "n_heads", "is_gated_act", "max_position_embeddings")


def check_base_model(model: PreTrainedModel, base: str) -> None:
    """Raise AdaCLIPError if a base holds NaN or infinity, or if transformers loaded an adapter into it."""
    if getattr(model, "_hf_peft_config_loaded", False):
        raise refused_adapter(base)
    for name, tensor in model.state_dict().items():
        # A sum is quick, and is finite only if all values are; it may be infinite for large ones.
        quick = not tensor.is_floating_point() or tensor.is_meta or math.isfinite(tensor.sum(dtype=torch.float32))
        if not quick and not tensor.isfinite().all():
            raise AdaCLIPError(
                f"{base}: tensor {name} holds NaN or infinity. Download it again, or pass another base=."
            )


def refused_adapter(base: str) -> AdaCLIPError:
    """Return the error for an adapter in the place of a base."""
    return AdaCLIPError(
        f"{base}: is a trained adapter, not a base, so its training would be lost. Load it with "
        "AdaCLIP.from_pretrained, or name its base."
    )


def base_record(model: PreTrainedModel) -> dict[str, object]:
    """Return the record of a model without adapters: a hash for each half precision, and settings."""
    state = model.state_dict()
    return {"sha256": {_name(kind): digest(state, kind) for kind in _exact(model)}, "settings": _settings(model)}


def check_record(record: object, model: PreTrainedModel, base: str, adapter: Path | str) -> None:
    """Raise AdaCLIPError if the model is not the recorded one; records of other versions have no effect."""
    hashes = record.get("sha256") if isinstance(record, Mapping) else None
    if not isinstance(hashes, Mapping) or model.device.type == "meta":
        return
    found, recorded = _settings(model), record.get("settings")  # type: ignore[attr-defined]
    recorded = recorded if isinstance(recorded, Mapping) else {}
    differing = [
        f"{n} is {found[n]!r} instead of {v!r:.40}" for n, v in recorded.items() if n in found and found[n] != v
    ]
    precision = next((kind for kind in _exact(model) if _name(kind) in hashes), None)
    if precision is not None:
        ours, theirs = digest(model.state_dict(), precision), str(hashes[_name(precision)])
        if ours != theirs:
            differing.append(f"its text weights have sha256 {ours[:12]}… instead of {theirs[:12]}…")
    if differing:
        raise AdaCLIPError(
            f"{adapter}: this adapter was made for another base than {base}: {'; '.join(differing)}. Pass the right "
            "base=, or check_base=False to use this one all the same."
        )


def _exact(model: PreTrainedModel) -> tuple[torch.dtype, ...]:
    """Return the precisions in which the model's values are those of the base as it is stored."""
    return (model.dtype,) if model.dtype in PRECISIONS else PRECISIONS


def digest(state: Mapping[str, Tensor], precision: torch.dtype) -> str:
    """Return a SHA-256 of names, shapes and values in a precision."""
    total = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        values = tensor.detach().to("cpu", precision if tensor.is_floating_point() else tensor.dtype).contiguous()
        total.update(f"{name} {tuple(values.shape)}".encode())
        total.update(memoryview(values.reshape(-1).view(torch.uint8).numpy()))
    return total.hexdigest()


def _settings(model: PreTrainedModel) -> dict[str, object]:
    config = model.config
    return {name: getattr(config, name) for name in SETTINGS if getattr(config, name, None) is not None}


def _name(precision: torch.dtype) -> str:
    return str(precision).removeprefix("torch.")
