"""Bases in OpenAI's format: `.pt` files, such as ViT-B-32.pt, and folders of open_clip.

Weight names and sizes: `clip/model.py` of openai/CLIP; `open_clip_config.json` and file names: `open_clip/factory.py`.
Only tensors are read: TorchScript's code is not called, and other files are loaded with `weights_only`.
"""

from __future__ import annotations

import gzip
import importlib.util
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adaclip.config import DEFAULT_BASE, AdaCLIPError
from adaclip.exports import openai_weights
from adaclip.files import check_unpacked, read_json

if TYPE_CHECKING:
    from transformers import CLIPConfig, CLIPTextConfig, CLIPTokenizer

OPEN_CLIP = "open_clip_config.json"
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
FILES = (".pt", ".pth", ".bin", ".safetensors")
BPE = "bpe_simple_vocab_16e6.txt.gz"  # CLIP's merges, a file of the packages openai-clip and open-clip-torch
HEAD = 64  # channels of an attention head in OpenAI's models


def weights_of(base: str) -> Path | None:
    """Return the file of weights if a base is a file or a folder of open_clip; None for other bases."""
    path = Path(base)
    if path.is_dir() and (path / OPEN_CLIP).is_file() and not (path / "config.json").is_file():
        found = [path / name for name in OPEN_CLIP_WEIGHTS if (path / name).is_file()]
        if not found:
            raise AdaCLIPError(f"{base}: has {OPEN_CLIP}, but none of {', '.join(OPEN_CLIP_WEIGHTS)}.")
        return found[0]
    if path.is_file() and path.suffix not in FILES:
        raise AdaCLIPError(f"{base}: no file that can be a base; give a folder, a Hub id or one of {', '.join(FILES)}.")
    return path if path.is_file() else None


def read(weights: Path, *, vision: bool) -> tuple[CLIPTextConfig | CLIPConfig, dict[str, Tensor]]:
    """Read weights in OpenAI's format.

    Args:
        weights: A TorchScript archive, a checkpoint of open_clip, or a state dict.
        vision: Return both towers, for CLIPModel; else the text tower, for CLIPTextModelWithProjection.

    Returns:
        The configuration, and float32 tensors under transformers' names. The heads are OpenAI's (64 channels each), and
        the activation is `quick_gelu`, unless an `open_clip_config.json` beside the file records others.

    Raises:
        AdaCLIPError: The file cannot be read, is no CLIP, or transformers' CLIP cannot compute it.
    """
    state = {name: value.float() for name, value in _state(weights).items() if isinstance(value, Tensor)}
    text = {name: value for name, value in state.items() if not name.startswith("visual.")}
    kept = state if vision else text
    if "token_embedding.weight" not in text:
        raise AdaCLIPError(f"{weights}: holds no CLIP text encoder in OpenAI's or open_clip's format.")
    try:
        converted = openai_weights.to_hf(kept)
    except AdaCLIPError as error:
        raise AdaCLIPError(f"{weights}: {error}") from error
    converted = {name: value for name, value in converted.items() if vision or name != "logit_scale"}
    return _config(weights, state, vision=vision), converted


def _state(weights: Path) -> Mapping[str, Tensor]:
    """Return the state dict in a file, without the wrappings of training checkpoints."""
    from safetensors.torch import load_file

    try:
        check_unpacked(weights)
        if weights.suffix == ".safetensors":
            state = load_file(weights)
        elif _is_torchscript(weights):
            state = torch.jit.load(str(weights), map_location="cpu").state_dict()
        else:
            state = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, pickle and zipfile have no common root
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise AdaCLIPError(f"{weights}: cannot be read as weights ({reason[:200]}). Download it again.") from error
    state = state.get("state_dict", state) if isinstance(state, Mapping) else {}
    names = {name: re.sub(r"^(?:module\.)?(?:text\.)?", "", name) for name in state if isinstance(name, str)}
    return {short: state[name] for name, short in names.items() if short != "attn_mask"}


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        for name in names:
            # A scripted module may bring code that torch runs while it loads, and that may write files.
            if name.endswith(".py") and b"__setstate__" in archive.read(name):
                raise ValueError(f"{name} in it has code that runs while it is loaded")
        return any(name.endswith("/constants.pkl") for name in names)


def _config(weights: Path, state: Mapping[str, Tensor], *, vision: bool) -> CLIPTextConfig | CLIPConfig:
    from transformers import CLIPConfig, CLIPTextConfig

    recorded = _recorded(weights)
    activation = "quick_gelu" if recorded is None or recorded.get("quick_gelu") else "gelu"
    settings = (recorded or {}).get("text_cfg", {})
    vocabulary, width = state["token_embedding.weight"].shape
    projection = state["text_projection"].shape[1]
    text = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        projection_dim=projection,
        max_position_embeddings=len(state["positional_embedding"]),
        num_hidden_layers=_layers(state, r"transformer\.resblocks\.(\d+)\."),
        num_attention_heads=settings.get("heads") or max(1, width // HEAD),
        intermediate_size=len(state["transformer.resblocks.0.mlp.c_fc.weight"]),
        hidden_act=activation,
        bos_token_id=vocabulary - 2,  # OpenAI's pooling finds the end token as the highest id
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )
    if not vision:
        return text
    filters = state["visual.conv1.weight"]
    channels, patch = filters.shape[0], filters.shape[-1]
    positions = len(state["visual.positional_embedding"]) - 1
    images = {
        "hidden_size": channels,
        "num_hidden_layers": _layers(state, r"visual\.transformer\.resblocks\.(\d+)\."),
        "num_attention_heads": max(1, channels // ((recorded or {}).get("vision_cfg", {}).get("head_width") or HEAD)),
        "intermediate_size": len(state["visual.transformer.resblocks.0.mlp.c_fc.weight"]),
        "image_size": patch * round(positions**0.5),
        "patch_size": patch,
        "hidden_act": activation,
    }
    images["projection_dim"] = projection
    return CLIPConfig(text_config=text.to_dict(), vision_config=images, projection_dim=projection)


def _recorded(weights: Path) -> dict[str, Any] | None:
    """Return the `model_cfg` of open_clip beside a file; None for a file of OpenAI's."""
    path = weights.with_name(OPEN_CLIP)
    if not path.is_file():
        if weights.name.startswith("open_clip"):
            raise AdaCLIPError(
                f"{weights}: {OPEN_CLIP} is missing beside it, which records the activation and the heads."
            )
        return None
    config = read_json(path).get("model_cfg")
    if not isinstance(config, dict) or not isinstance(config.get("text_cfg"), dict):
        raise AdaCLIPError(f"{path}: records no model_cfg with text_cfg. Download it again.")
    foreign = [name for name in ("hf_model_name", "act_kwargs", "norm_kwargs") if config["text_cfg"].get(name)]
    if foreign or config["text_cfg"].get("pool_type", "argmax") != "argmax":
        raise AdaCLIPError(
            f"{path}: text_cfg differs from OpenAI's text encoder ({', '.join(foreign) or 'pool_type'})."
        )
    return config


def _layers(state: Mapping[str, Tensor], pattern: str) -> int:
    return 1 + max((int(match[1]) for match in map(re.compile(pattern).match, state) if match), default=-1)


def tokenizer_source(weights: Path) -> Path | CLIPTokenizer | str:
    """Return the tokenizer for OpenAI's weights: a folder, the tokenizer itself, or a Hub id.

    In this order: tokenizer files beside the weights; the merges of CLIP beside them or in an installed package; the
    tokenizer of the default base, cached or on the Hub.
    """
    folder = weights.parent
    if any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        return folder
    merges = next((path for path in (folder / BPE, *_packaged()) if path.is_file()), None)
    return DEFAULT_BASE if merges is None else bpe_tokenizer(merges)


def _packaged() -> Iterator[Path]:
    for package in ("clip", "open_clip"):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            yield Path(spec.origin).with_name(BPE)


def bpe_tokenizer(merges_file: Path) -> CLIPTokenizer:
    """Build CLIP's tokenizer from its merges (`clip/simple_tokenizer.py` of openai/CLIP)."""
    from transformers import CLIPTokenizer

    lines = gzip.decompress(merges_file.read_bytes()).decode("utf-8").split("\n")
    merges = [tuple(line.split()) for line in lines[1 : 49152 - 256 - 2 + 1]]
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = [chr(i) for i in visible] + [chr(256 + i) for i in range(256 - len(visible))]
    entries = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges)]
    entries += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={entry: i for i, entry in enumerate(entries)}, merges=merges, model_max_length=77)
