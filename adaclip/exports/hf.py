"""The encoder as folders for Hugging Face's transformers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from adaclip.config import AdaCLIPError
from adaclip.exports.towers import RECORD, STUB_NOTE, export_record, full_clip, merged_text
from adaclip.files import atomic_folder, read_json, write_json
from adaclip.model import AdaCLIP
from adaclip.sentence import MODULES, TYPES, write_sentence_files
from adaclip.towers import CLIP

if TYPE_CHECKING:
    from tokenizers import AddedToken

_README = Path(__file__).with_name("readme_template.md").read_text(encoding="utf-8")
# CLIP's image preprocessing, apart from the size: `_transform` in `clip/clip.py` of openai/CLIP.
_IMAGES = Path(__file__).with_name("preprocessor_config.json")


def to_hf(adaclip: AdaCLIP, folder: str | Path) -> Path:
    """Write a complete Hugging Face folder: for CLIP both towers (CLIPModel), for other families as `to_text_encoder`.

    The vision tower is the base's, or a stub if the base has none; config.json (`adaclip.vision`)
    and README.md name it. `SentenceTransformer(folder)` gives the encoder's vectors; for CLIP's pooler_output use
    `to_text_encoder`, because sentence-transformers reads the projected vectors of both towers.

    Args:
        adaclip: The encoder.
        folder: Folder to write; it replaces an earlier export.

    Returns:
        The folder.

    Raises:
        AdaCLIPError: The base's vision tower cannot be loaded, or the folder contains something else.
    """
    merged = merged_text(adaclip)
    if not hasattr(merged, "text_projection"):
        return to_text_encoder(adaclip, folder)
    full, real = full_clip(adaclip, merged)
    full.config.adaclip = {"vision": "base" if real else "stub"}
    with export_folder(adaclip, Path(folder), "hf", "the base's, untouched" if real else STUB_NOTE) as staging:
        full.save_pretrained(str(staging))
        write_tokenizer(adaclip, staging)
        if adaclip.pooling.mode == "text_embeds":
            write_json(staging / MODULES, [{"idx": 0, "name": "0", "path": "", "type": f"{TYPES}CLIPModel"}])
        size = full.config.vision_config.image_size
        images = {"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}}
        write_json(staging / _IMAGES.name, read_json(_IMAGES) | images)
    return Path(folder)


def to_text_encoder(adaclip: AdaCLIP, folder: str | Path) -> Path:
    """Write the text model (CLIP: CLIPTextModelWithProjection) and its tokenizer; otherwise like `to_hf`."""
    merged = merged_text(adaclip)
    with export_folder(adaclip, Path(folder), "text-encoder", "none in this folder") as staging:
        merged.save_pretrained(str(staging))
        write_tokenizer(adaclip, staging)
        if adaclip.pooling.mode != "pooler":
            write_sentence_files(staging, merged, adaclip.tokenizer, adaclip.pooling)
    return Path(folder)


@contextmanager
def export_folder(adaclip: AdaCLIP, folder: Path, form: str, vision: str) -> Iterator[Path]:
    """Yield a temporary folder that takes the place of `folder`, which may be an earlier export only."""
    if folder.exists() and not folder.is_dir():
        raise AdaCLIPError(f"{folder}: is a file; --to {form} writes a folder. Give another name.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / RECORD).is_file():
        raise AdaCLIPError(f"{folder}: holds something that is not an export and would be lost. Give another folder.")
    record = export_record(adaclip, form, vision)
    with atomic_folder(folder) as staging:
        yield staging
        write_json(staging / RECORD, record)
        readme = _README.format(version=record["adaclip_version"], base=record["base"], vision=vision)
        (staging / "README.md").write_text(readme, encoding="utf-8")


def write_tokenizer(adaclip: AdaCLIP, folder: Path) -> None:
    """Write CLIP's four files that every version of transformers reads; save_pretrained writes the newest format."""
    tokenizer = adaclip.tokenizer
    if adaclip.tower is not CLIP:
        tokenizer.save_pretrained(str(folder))
        return
    tokenizer.backend_tokenizer.model.save(str(folder))  # vocab.json and merges.txt
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
    added = {str(i): _token_fields(token) for i, token in tokenizer.added_tokens_decoder.items()}
    config["added_tokens_decoder"] = added  # the vocabulary's files lack tokens that were added to it
    write_json(folder / "special_tokens_map.json", special)
    write_json(folder / "tokenizer_config.json", config)


def _token_fields(token: AddedToken) -> dict[str, object]:
    return {
        name: getattr(token, name) for name in ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    }
