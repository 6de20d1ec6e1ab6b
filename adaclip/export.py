"""The adapted encoder in other people's formats, the adapter merged into the weights.

    hf            a `model_type: clip` folder, for AutoModel and AutoTokenizer of transformers 4.38 and later, and SALAD
    text-encoder  a CLIPTextModelWithProjection folder
    openai        a TorchScript archive, for `clip.load(path, jit=False)` of openai-clip, and open_clip
    onnx          pooled and token outputs, for ONNX Runtime; needs the extra `onnx`

Everything is written whole or not at all. Folders and archives record what they were made from and whether the vision
tower in them is real.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from adaclip import openai_weights
from adaclip.adapter import first_line
from adaclip.config import AdaCLIPError
from adaclip.files import atomic_file, atomic_folder, write_json
from adaclip.hub import load_clip
from adaclip.openai_clip import check_end_token

if TYPE_CHECKING:
    from transformers import CLIPModel, CLIPTextModelWithProjection

    from adaclip.model import AdaCLIP

__all__ = ["FORMATS", "to_hf", "to_onnx", "to_openai", "to_text_encoder"]

RECORD = "adaclip_export.json"  # marks a folder as ours to replace
# What a text-only base gets where a format insists on a vision tower: no layers, and zeros, so that every image
# becomes the zero vector instead of something plausible. The image size is what callers expect of ViT-B/32.
STUB_VISION = {
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 0,
    "num_attention_heads": 1,
    "image_size": 224,
    "patch_size": 32,
}
_WITH_STUB = "a stub without layers, because the base has none: every image becomes the zero vector"

_README = """\
# CLIP with a text encoder adapted to motion

AdaCLIP {version}, made from the base `{base}`; the adapter is merged into the weights.

- Text tower: adapted.
- Vision tower: {vision}.

Tokens equal OpenAI CLIP's when prompts are cleaned as its tokenizer does before they reach the one in this folder:
`adaclip.text.clean` (mojibake repaired, HTML unescaped twice, white space collapsed).

The licence terms of the base and of the motion data the adapter was trained on apply.
"""

_IMAGES = {  # CLIP's: `_transform` in `clip/clip.py` of openai/CLIP
    "image_processor_type": "CLIPImageProcessor",
    "do_resize": True,
    "resample": 3,
    "do_center_crop": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "do_convert_rgb": True,
}


def to_hf(adaclip: AdaCLIP, folder: str | Path) -> Path:
    """A complete Hugging Face CLIP folder (CLIPModel, tokenizer); returns its path.

    The vision tower is the base's, or a stub when the base has none; config.json (`adaclip.vision`) and README.md
    say which. AdaCLIPError when the base's vision tower cannot be loaded or the folder holds something else.
    """
    merged = _merged(adaclip)
    full, real = _full_clip(adaclip, merged)
    full.config.adaclip = {"vision": "base" if real else "stub"}
    with _export_folder(adaclip, Path(folder), "hf", "the base's, untouched" if real else _WITH_STUB) as staging:
        full.save_pretrained(str(staging))
        _write_tokenizer(adaclip, staging)
        if real:
            size = full.config.vision_config.image_size
            images = {"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}}
            write_json(staging / "preprocessor_config.json", _IMAGES | images)
    return Path(folder)


def to_text_encoder(adaclip: AdaCLIP, folder: str | Path) -> Path:
    """A CLIPTextModelWithProjection folder with its tokenizer; returns its path. AdaCLIPError as for `to_hf`."""
    merged = _merged(adaclip)
    with _export_folder(adaclip, Path(folder), "text-encoder", "none in this folder") as staging:
        merged.save_pretrained(str(staging))
        _write_tokenizer(adaclip, staging)
    return Path(folder)


def to_openai(adaclip: AdaCLIP, path: str | Path) -> Path:
    """A TorchScript archive under OpenAI's weight names, float32, that `clip.load(path, jit=False)` reads.

    The vision tower is the base's, or a stub when the base has none; `adaclip_export.json` in the archive says which.
    openai-clip rounds the matrices to float16 as it loads. For the full precision, load them again afterwards:
    `model.float().load_state_dict(torch.jit.load(path).state_dict())`.
    AdaCLIPError for an architecture that OpenAI's format cannot express.
    """
    path = _free_file(Path(path))
    merged = _merged(adaclip)
    check_end_token(adaclip)
    _check_openai_shape(merged.config, f"The text tower of {adaclip.base}")
    full, real = _full_clip(adaclip, merged)
    if real:
        _check_openai_shape(full.config.vision_config, f"The vision tower of {adaclip.base}")
    state = openai_weights.to_openai(full.float().state_dict())
    record = _record(adaclip, "openai", "the base's, untouched" if real else _WITH_STUB)
    with atomic_file(path) as staging, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is deprecated; openai-clip reads nothing else
        torch.jit.save(torch.jit.script(_tree(state)), str(staging), _extra_files={RECORD: json.dumps(record)})
    return path


def to_onnx(adaclip: AdaCLIP, path: str | Path) -> Path:
    """An ONNX model: input_ids, attention_mask (B, L) int64 -> pooled (B, P), tokens (B, L, H), float32.

    B and L (up to the context length) are dynamic; outputs mean what `AdaCLIP.forward` says. The file is compared
    with the encoder in ONNX Runtime before it appears. AdaCLIPError when the extra is missing or they disagree.
    """
    from adaclip.onnx_graph import write_onnx

    path = _free_file(Path(path))
    with atomic_file(path) as staging:
        write_onnx(adaclip, staging, _record(adaclip, "onnx", "none in this file"))
    return path


# What `adaclip export ADAPTER --to FORMAT OUT` offers. Each takes the encoder and OUT, and returns OUT.
FORMATS: dict[str, Callable[[AdaCLIP, str | Path], Path]] = {
    "hf": to_hf,
    "openai": to_openai,
    "text-encoder": to_text_encoder,
    "onnx": to_onnx,
}


def _merged(adaclip: AdaCLIP) -> CLIPTextModelWithProjection:
    """The merged text model on the CPU, its special tokens the tokenizer's: OpenAI's configs name a wrong end token."""
    merged = adaclip.merged().cpu()
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(merged.config, name, getattr(adaclip.tokenizer, name))
    return merged


def _full_clip(adaclip: AdaCLIP, merged: CLIPTextModelWithProjection) -> tuple[CLIPModel, bool]:
    """Both towers with the adapted text tower, and whether the vision tower is the base's."""
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
    """The base with both towers; None when it holds a text tower only."""
    from transformers import CLIPConfig, CLIPModel

    base, load = adaclip.base, replace(adaclip.base_options, dtype=dtype)
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


def _with_stub(merged: CLIPTextModelWithProjection) -> CLIPModel:
    from transformers import CLIPConfig, CLIPModel

    size = merged.config.projection_dim
    text = merged.config.to_dict()
    for name in ("_name_or_path", "architectures", "dtype"):  # where and how the text tower was stored
        text.pop(name, None)
    vision = STUB_VISION | {"projection_dim": size}
    with torch.random.fork_rng(devices=[]):  # its initial values are thrown away; the caller's random numbers are not
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=size)).to(merged.dtype)
    for name, parameter in model.named_parameters():
        if name.startswith("vis"):
            nn.init.constant_(parameter, float("norm" in name and name.endswith("weight")))
    return model


def _check_openai_shape(config: object, whose: str) -> None:
    """OpenAI's format stores weights only: its loader takes the rest for granted."""
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
    """Modules without code whose state dict is `state`."""
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


def _record(adaclip: AdaCLIP, form: str, vision: str) -> dict[str, str]:
    from adaclip import __version__

    # A local base is named, not located: where it lay on one machine tells nobody anything.
    base = Path(adaclip.base).name if Path(adaclip.base).is_dir() else adaclip.base
    return {"format": form, "adaclip_version": __version__, "base": base, "vision": vision}


@contextmanager
def _export_folder(adaclip: AdaCLIP, folder: Path, form: str, vision: str) -> Iterator[Path]:
    """A folder to fill that replaces an earlier export, and nothing else."""
    if folder.exists() and not folder.is_dir():
        raise AdaCLIPError(f"{folder}: is a file; --to {form} writes a folder. Give another name.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / RECORD).is_file():
        raise AdaCLIPError(f"{folder}: holds something that is not an export and would be lost. Give another folder.")
    record = _record(adaclip, form, vision)
    with atomic_folder(folder) as staging:
        yield staging
        write_json(staging / RECORD, record)
        readme = _README.format(version=record["adaclip_version"], base=record["base"], vision=vision)
        (staging / "README.md").write_text(readme, encoding="utf-8")


def _free_file(path: Path) -> Path:
    if path.is_dir():
        raise AdaCLIPError(f"{path}: is a folder; this format is one file. Give a file name.")
    return path


def _write_tokenizer(adaclip: AdaCLIP, folder: Path) -> None:
    """The tokenizer as the four files every version of transformers reads; save_pretrained writes its own's only."""
    tokenizer = adaclip.tokenizer
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    merges = (pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"])
    vocab = dict(sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1]))
    special = {
        "bos_token": tokenizer.bos_token,
        "eos_token": tokenizer.eos_token,
        "unk_token": tokenizer.unk_token or tokenizer.eos_token,  # bytes cover everything, so it never appears
        "pad_token": tokenizer.pad_token or tokenizer.eos_token,
    }
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": adaclip.text_model.config.max_position_embeddings,
        "do_lower_case": True,
        "add_prefix_space": False,
        "errors": "replace",
        **special,
    }
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(("#version: 0.2", *merges)) + "\n", encoding="utf-8")
    write_json(folder / "special_tokens_map.json", special)
    write_json(folder / "tokenizer_config.json", config)
