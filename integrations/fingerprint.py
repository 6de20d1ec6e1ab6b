"""Record in checkpoints which text encoder they were trained with, and compare the record when they are loaded.

A generator works with its own encoder only, and checkpoints of the field do not name it: they leave the encoder's
weights out. The record is part of the metadata that torch keeps for every module in a state dict
(`state_dict()._metadata`), so it adds no keys and survives filters by name. `checkpoints` records where the encoder is
no part of the saved model.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import torch
from adaclip_integrations import OtherEncoderError
from torch import nn

from adaclip.inference import is_of
from adaclip.model import AdaCLIP
from adaclip.text import clean

NOTE = "adaclip_encoder.json"  # beside checkpoints, for people: file -> record
OVERRIDE = "ADACLIP_ALLOW_OTHER_ENCODER"  # environment: any value except 0 permits another encoder
TOKENS = "ADACLIP_TOKENS"  # environment: tokens kept of a prompt, instead of the script's own limit
KEY = "adaclip"  # in a module's metadata
SCHEME = "2"  # what the hash covers; records of other schemes cannot be compared
# Settings of a text tower that change its output and no shape. Settings that are absent do not count.
_SETTINGS = (
    *("model_type", "hidden_act", "activation", "activation_function", "layer_norm_eps", "layer_norm_epsilon"),
    *("num_attention_heads", "num_heads", "n_heads", "max_position_embeddings", "eos_token_id"),
    *("position_embedding_type", "relative_attention_num_buckets", "relative_attention_max_distance"),
    *("feed_forward_proj", "rope_theta", "global_rope_theta", "local_rope_theta", "local_attention"),
    "global_attn_every_n_layers",
)
_PROBES = ("a person walks, then jumps!", "Café naïve — 3½ turns & 10 TIMES", "", "he's <|endoftext|> </s> [SEP] ünï")
_compared: ContextVar[bool] = ContextVar("compared", default=False)


def of(adaclip: AdaCLIP) -> dict[str, str]:
    """Describe an encoder with its active adapter by a hash of everything that changes its vectors.

    That is: the weights, how strongly each layer adds the adapter, the settings of the text tower, the pooling, and
    the tokenizer. The hash covers the base and the adapter separately, because the last digits of their sum depend on
    the device.
    """
    from adaclip import __version__

    adapter = adaclip.active_adapter
    digest = hashlib.sha256(json.dumps(_settings(adaclip, adapter), sort_keys=True).encode())
    dense = {f"pooling.{name}": value for name, value in adaclip.pooling.state_dict().items()}
    for name, value in sorted((adaclip.text_model.state_dict() | dense).items()):
        if "lora_" in name:
            if not is_of(name, adapter):
                continue
            name = name.replace(f".{adapter}.", ".")
        value = value.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return {
        "encoder": f"sha256:{digest.hexdigest()[:32]}",
        "base": Path(adaclip.base).name if Path(adaclip.base).is_dir() else adaclip.base,
        "adaclip_version": __version__,
        "tokens": os.environ.get(TOKENS, ""),
        "scheme": SCHEME,
    }


def _settings(adaclip: AdaCLIP, adapter: str) -> dict[str, object]:
    """What changes vectors besides weights, in values that JSON has."""
    model, tokenizer = adaclip.text_model, adaclip.tokenizer
    config = model.config.to_dict() if hasattr(model.config, "to_dict") else dict(model.config)
    layers = {}
    for name, module in model.named_modules():
        scaling = getattr(module, "scaling", None)  # of T5's and DistilBERT's attention: a number
        if isinstance(scaling, dict) and adapter in scaling:
            variant = type(getattr(module, "lora_variant", {}).get(adapter)).__name__
            layers[name] = [repr(float(scaling[adapter])), variant, bool(module.disable_adapters)]
    lora = model.peft_config[adapter]
    vocabulary = "\n".join(f"{token} {number}" for token, number in sorted(tokenizer.get_vocab().items()))
    return {
        "config": {name: config[name] for name in _SETTINGS if config.get(name) is not None},
        "pooling": adaclip.pooling.facts(),
        "adapter": [lora.lora_alpha, lora.use_rslora],
        "scaling": layers,
        "vocabulary": hashlib.sha256(vocabulary.encode("utf-8", "backslashreplace")).hexdigest(),
        "ids": [list(map(int, tokenizer(clean(text))["input_ids"])) for text in _PROBES],
        "length": int(tokenizer.model_max_length) if tokenizer.model_max_length < 1e6 else None,
    }


def guard(encoder: nn.Module, record: Mapping[str, str] | None) -> None:
    """Add the record to checkpoints of the model that contains `encoder`, and compare it when they are loaded.

    Copies of the module are guarded too.
    """
    if record is not None:
        encoder._register_state_dict_hook(functools.partial(_write, record))
    encoder.register_load_state_dict_pre_hook(functools.partial(_check, record))
    encoder._adaclip_record = (record,)  # type: ignore[assignment]


def guards_in(module: nn.Module) -> Iterator[Mapping[str, str] | None]:
    """Yield the records of the guarded encoders inside a module."""
    for part in module.modules():
        if "_adaclip_record" in vars(part):
            yield vars(part)["_adaclip_record"][0]


def recorded_in(checkpoint: object, depth: int = 3) -> dict[str, str] | None:
    """Find the record in a checkpoint."""
    for metadata in (getattr(checkpoint, "_metadata", None) or {}).values():
        if isinstance(metadata, dict) and KEY in metadata:
            return metadata[KEY]
    parts = checkpoint.values() if depth and isinstance(checkpoint, Mapping) else ()
    found = (recorded_in(part, depth - 1) for part in parts if isinstance(part, Mapping))
    return next((record for record in found if record is not None), None)


def compare(theirs: Mapping[str, str] | None, ours: Mapping[str, str] | None) -> None:
    """Raise OtherEncoderError, or warn if that is overridden, unless both records name the same encoder."""
    found, running = theirs or {}, ours or {}
    if all(found.get(name, "") == running.get(name, "") for name in ("encoder", "tokens")):
        return
    problem = f"This checkpoint was trained with {_described(theirs)}, and now runs with {_described(ours)}."
    if found and running and found.get("scheme", "1") != running.get("scheme", "1"):
        warnings.warn(f"{problem} The records are of different versions of adaclip and say nothing.", stacklevel=3)
        return
    if not overridden():
        raise OtherEncoderError(
            f"{problem} A generator works with its own encoder only: select that one (--weights or ADACLIP_WEIGHTS), "
            f"retrain, or set {OVERRIDE}=1 to load it anyway."
        )
    warnings.warn(problem, stacklevel=3)


def overridden() -> bool:
    """Tell whether the environment permits checkpoints of another encoder."""
    return os.environ.get(OVERRIDE, "0") not in ("", "0")


@contextmanager
def compared() -> Iterator[None]:
    """Skip the comparison by the guards inside: the record of the whole checkpoint was compared already."""
    token = _compared.set(True)
    try:
        yield
    finally:
        _compared.reset(token)


def is_compared() -> bool:
    """Tell whether this code runs inside `compared`."""
    return _compared.get()


def _write(record: Mapping[str, str], module: nn.Module, state: dict, prefix: str, metadata: dict) -> None:
    metadata[KEY] = dict(record)


def _check(
    record: Mapping[str, str] | None, module: nn.Module, state: dict, prefix: str, metadata: dict, *_: object
) -> None:
    held = {key: value for key, value in state.items() if key.startswith(prefix)}
    ours = {f"{prefix}{key}": value for key, value in module.state_dict().items()} if held else {}
    if not _compared.get():
        foreign = any(key not in ours or not _equal(value, ours[key]) for key, value in held.items())
        if record is not None and not metadata and not foreign:
            warnings.warn(
                "This checkpoint does not record its text encoder. Make sure that it was trained with this one.",
                stacklevel=3,
            )
        else:
            compare(metadata.get(KEY), record)
    if record is not None and held:  # a checkpoint with weights of an encoder: ours stay as they are
        for key in held:
            del state[key]
        state.update(ours)


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.to(b.device, b.dtype), b)


def _described(record: Mapping[str, str] | None) -> str:
    if record is None:
        return "CLIP or another encoder that is not AdaCLIP"
    tokens = f", {TOKENS}={record['tokens']}" if record.get("tokens") else ""
    return f"AdaCLIP {record.get('encoder', '?')[:19]} (base {record.get('base', '?')}{tokens})"
