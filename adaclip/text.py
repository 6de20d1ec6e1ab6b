"""From a prompt to token ids, exactly as OpenAI's CLIP does it."""

from __future__ import annotations

import html
import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import ftfy
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def clean(text: str) -> str:
    """Repairs mojibake, unescapes HTML twice and collapses white space (`clip/simple_tokenizer.py` of openai/CLIP)."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return re.sub(r"\s+", " ", text).strip()


def check_texts(texts: Sequence[str]) -> list[str]:
    """The prompts as a list of strings; TypeError names the first that is none."""
    if isinstance(texts, str | bytes) or not isinstance(texts, Sequence):
        raise TypeError(f"Expected a sequence of prompts (str), got {type(texts).__name__}.")
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"Prompt {position} is {type(text).__name__}, expected str: {text!r:.60}.")
    return list(texts)


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, padded to the longest prompt: (B, L) long, (B, L) bool, True = real token.

    Start and end token included. A prompt over the tokenizer's limit (CLIP: 77) loses its end and warns.
    """
    cleaned = [clean(text) for text in check_texts(texts)]
    # Truncation is done here, so that what is cut can be counted and said.
    encoded = [tokenizer(text)["input_ids"] for text in cleaned]
    limit = tokenizer.model_max_length
    too_long = [ids for ids in encoded if len(ids) > limit]
    if too_long:
        warnings.warn(
            f"{len(too_long)} of {len(encoded)} prompts exceed {limit} tokens (the longest has "
            f"{max(map(len, too_long))}); the encoder does not see their ends. Shorten them.",
            stacklevel=3,
        )
    encoded = [ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]] for ids in encoded]
    batch = tokenizer.pad({"input_ids": encoded}, padding=True, padding_side="right", return_tensors="pt")
    return batch["input_ids"], batch["attention_mask"].bool()
