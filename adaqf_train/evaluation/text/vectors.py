"""Vectors of texts from any encoder: an AdaCLIP adapter, a model of transformers or sentence-transformers, a file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from adaclip import AdaCLIP, AdaCLIPError
from adaqf_train.data.clips import BROKEN_ARRAY, check_array_size
from adaqf_train.errors import DataError

WORDS = "words"  # in the place of a model: counts of words, a control that reads no meaning
BATCH = 64


def vectors_of(model: str, texts: Sequence[str]) -> np.ndarray:
    """Encode texts: (N, E) float32, a row for each text.

    Args:
        model: A folder or Hub repository of an adapter, of a text model that `AdaCLIP.from_base` takes, of
            sentence-transformers (needs that package), or of any other encoder of transformers, whose states are
            averaged over real tokens; a .npy file with a row for each text; or "words".
        texts: The texts.

    Raises:
        DataError: The file has other rows, or vectors that are zero or not finite.
        AdaCLIPError: The model cannot be loaded.
    """
    if model == WORDS:
        return counted_words(texts)
    path = Path(model).expanduser()
    found = _read(path, len(texts)) if path.suffix == ".npy" else np.asarray(_encoded(str(path), texts), np.float32)
    if not np.isfinite(found).all() or not np.linalg.norm(found, axis=1).all():
        raise DataError(f"{model}: vectors that are zero, NaN or infinite. Encode the texts again.")
    return found


def counted_words(texts: Sequence[str]) -> np.ndarray:
    """Count the words of each text: (N, words)."""
    counts = [Counter(re.findall(r"[\w'-]+", text.lower())) for text in texts]
    words = {word: place for place, word in enumerate(sorted({word for each in counts for word in each}))}
    found = np.zeros((len(texts), len(words)), np.float32)
    for row, each in zip(found, counts, strict=True):
        for word, number in each.items():
            row[words[word]] = number
    return found


def _read(path: Path, count: int) -> np.ndarray:
    try:
        check_array_size(path)
        found = np.load(path, allow_pickle=False)
    except BROKEN_ARRAY as error:
        raise DataError(f"{path}: not a .npy file of numbers ({error}). Save the vectors with numpy.save.") from error
    if found.ndim != 2 or len(found) != count or found.dtype.kind not in "fiu":
        raise DataError(
            f"{path}: {found.dtype} of shape {found.shape}, expected ({count}, E): a vector for each line that "
            "--write-texts writes, in that order."
        )
    return found.astype(np.float32)


def _encoded(model: str, texts: Sequence[str]) -> np.ndarray:
    folder = Path(model)
    if (folder / "modules.json").is_file():
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            pass  # its text model alone may be one that AdaCLIP takes
        else:
            return SentenceTransformer(model, device="cpu").encode(list(texts), batch_size=BATCH)
    try:
        return AdaCLIP.from_pretrained(model).encode(texts, batch_size=BATCH, convert_to_numpy=True)
    except AdaCLIPError:
        if (folder / "adapter_config.json").is_file():
            raise
    try:
        return AdaCLIP.from_base(model).eval().encode(texts, batch_size=BATCH, convert_to_numpy=True)
    except AdaCLIPError:
        found = _averaged(model, texts)
        if found is None:
            raise
        return found


def _averaged(folder: str, texts: Sequence[str]) -> np.ndarray | None:
    """Last states of any model of transformers, averaged over real tokens; None if it is none."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    try:
        tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    except (OSError, ValueError, KeyError):
        return None
    model = getattr(model, "encoder", model) if model.config.is_encoder_decoder else model
    rows = []
    with torch.no_grad():
        for start in range(0, len(texts), BATCH):
            inputs = tokenizer(list(texts[start : start + BATCH]), padding=True, truncation=True, return_tensors="pt")
            states, mask = model(**inputs).last_hidden_state, inputs["attention_mask"][..., None]
            rows.append((states * mask).sum(dim=1) / mask.sum(dim=1))
    return torch.cat(rows).numpy()
