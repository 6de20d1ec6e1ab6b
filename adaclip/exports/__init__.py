"""The adapted encoder in other formats, with the adapter merged into the weights.

    hf            a `model_type: clip` folder, for AutoModel and AutoTokenizer of transformers 4.38 and later
    text-encoder  a CLIPTextModelWithProjection folder
    openai        a TorchScript archive, for `clip.load(path, jit=False)` of openai-clip, and open_clip
    onnx          pooled and token outputs in one file, for ONNX Runtime; needs the extra `onnx`
    onnx-folder   the same with tokenizer and config.json beside it
    flat-adapter  the adapter alone, with the names of transformers' CLIPTextModel

Every export appears complete or not at all, and records its base and whether its vision tower is real.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from adaclip._startup import lazy

if TYPE_CHECKING:
    from adaclip.exports.flat import to_flat_adapter
    from adaclip.exports.hf import to_hf, to_text_encoder
    from adaclip.exports.onnx import to_onnx, to_onnx_folder
    from adaclip.exports.openai import to_openai
    from adaclip.model import AdaCLIP

__all__ = ["FORMATS", "to_flat_adapter", "to_hf", "to_onnx", "to_onnx_folder", "to_openai", "to_text_encoder", "write"]

# Formats of `adaclip export ADAPTER --to FORMAT OUT`, and the functions that write them.
FORMATS = {"hf": "to_hf", "openai": "to_openai", "text-encoder": "to_text_encoder", "onnx": "to_onnx"}
FORMATS |= {"onnx-folder": "to_onnx_folder", "flat-adapter": "to_flat_adapter"}
FILES = ("openai", "onnx")  # those that are one file
__getattr__ = lazy(
    __name__,
    to_hf="adaclip.exports.hf",
    to_text_encoder="adaclip.exports.hf",
    to_openai="adaclip.exports.openai",
    to_onnx="adaclip.exports.onnx",
    to_onnx_folder="adaclip.exports.onnx",
    to_flat_adapter="adaclip.exports.flat",
)


def write(adaclip: AdaCLIP, out: str | Path, form: str, *, force: bool = False, **options: str) -> Path:
    """Write the encoder in one of `FORMATS`, and return `out`; raise ValueError for another format.

    force: replace any file; folders that are no export are never replaced.
    options: precision and ids of the ONNX formats; see `to_onnx`.
    """
    if form not in FORMATS:
        raise ValueError(f"{form}: no such format. Choose from {', '.join(FORMATS)}.")
    if options and not form.startswith("onnx"):
        raise ValueError(f"{', '.join(options)}: goes with --to onnx and onnx-folder only, not with {form}.")
    replacing = {"force": force} if form in FILES else {}
    return __getattr__(FORMATS[form])(adaclip, out, **replacing, **options)
