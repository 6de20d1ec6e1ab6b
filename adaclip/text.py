"""Tokenisation of prompts: for CLIP exactly as OpenAI does it, for other families as their own tokenizer does it."""

from __future__ import annotations

import html
import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import ftfy
import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LongPrompts = Literal["warn", "error", "chunk"]
CHARACTERS = 100_000  # of one prompt: thousands of times what CLIP reads, and a fraction of a second to tokenise

# Ends of sentences, and words that introduce the next action in a motion prompt.
_PIECE = re.compile(r"(?<=[.!?;])\s+|\s+(?=(?:and )?then\b)")


def clean(text: str) -> str:
    """Clean a prompt as openai/CLIP does (`clip/simple_tokenizer.py`).

    Case is lowered by Python's rules, because the tokenizers library has others for a few characters, such as a Greek
    sigma at the end of a word.
    """
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return re.sub(r"\s+", " ", text).strip().lower()


def cleans(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Tell whether a tokenizer is CLIP's, whose prompts are cleaned first; others take prompts as they are."""
    return type(tokenizer).__name__.startswith("CLIPTokenizer")


def affixes(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Return the special tokens that a tokenizer puts before and after every prompt."""
    bare = tokenizer("a", add_special_tokens=False, verbose=False)["input_ids"]
    full = tokenizer("a", verbose=False)["input_ids"]
    before = next(i for i in range(len(full)) if full[i : i + len(bare)] == bare)
    return full[:before], full[before + len(bare) :]


def check_texts(texts: Sequence[str]) -> list[str]:
    """Return prompts as a list; raise TypeError or ValueError if one is not a string, or is far too long.

    Beside sequences these may be numpy arrays, pandas Series and the like, which have `tolist`.
    """
    if not isinstance(texts, str | bytes) and hasattr(texts, "tolist"):
        texts = texts.tolist()
    if isinstance(texts, str | bytes) or not isinstance(texts, Sequence):
        raise TypeError(f"Expected a sequence of prompts (str), got {type(texts).__name__}.")
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"Prompt {position} is {type(text).__name__}, expected str: {text!r:.60}.")
        if len(text) > CHARACTERS:
            raise ValueError(
                f"Prompt {position} has {len(text):,} characters ({text[:40]!r}…); at most {CHARACTERS:,} are read. "
                "Divide it, or give one prompt per line."
            )
    return list(map(str, texts))


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Tokenise prompts and pad them to the longest; one over the tokenizer's limit loses its end, with a warning.

    Returns ids (B, L) long with start and end token, and their mask (B, L) bool, True = real token.
    """
    pieces = token_ids(tokenizer, texts, "warn", stacklevel=4)
    return pad([ids for (ids,) in pieces], tokenizer.pad_token_id)


def pad(
    rows: Sequence[Sequence[int]], padding: int, *, multiple: int = 1, limit: int | None = None
) -> tuple[Tensor, Tensor]:
    """Pad rows of ids on the right to (B, L), L a multiple up to the limit; also return the mask, True = real token."""
    options = {"dtype": torch.long, "device": "cpu"}  # whatever torch's default device
    lengths = torch.tensor([len(row) for row in rows], **options)
    longest = int(lengths.max()) if rows else 0
    rounded = -(-longest // multiple) * multiple
    longest = max(longest, rounded if limit is None else min(rounded, limit))
    ids = torch.tensor([[*row, *[padding] * (longest - len(row))] for row in rows], **options)
    return ids.view(len(rows), longest), torch.arange(longest, device="cpu") < lengths[:, None]


def token_ids(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], long: LongPrompts = "warn", *, stacklevel: int = 2
) -> list[list[list[int]]]:
    """Return for each prompt its pieces with start and end token; a prompt that fits is one piece.

    `long` says what happens to a prompt over the tokenizer's limit (CLIP: 77 tokens): "warn" cuts its end off and names
    the lost words; "error" raises ValueError with the same words; "chunk" makes several pieces, divided at ends of
    sentences and between actions, and within a sentence only if it is too long by itself.
    """
    pieces, lost = divided(tokenizer, check_texts(texts), long)
    report_lost(lost, len(pieces), long, stacklevel=stacklevel + 1)
    return pieces


def check_padding(ids: Tensor, mask: Tensor, end_token_id: int | None, never_first: int | None) -> None:
    """Raise ValueError unless rows are padded on the right and the mask (B, L) covers a prompt with its end token.

    never_first: token that no prompt begins with, so that a row which does is padded on the left.
    """
    real = mask.bool()
    if not (mask == real).all():
        raise ValueError("attention_mask must be 1 for tokens and 0 for padding.")
    if not real[:, 0].all() or (real[:, 1:] & ~real[:, :-1]).any():
        raise ValueError("attention_mask must be ones and then zeros: pad input_ids on the right, as .tokenize() does.")
    is_end = ids == end_token_id if end_token_id is not None else torch.zeros_like(real)
    row = is_end.any(dim=-1) & ~(is_end & real).any(dim=-1)
    if never_first is not None and ids.shape[1] > 1:
        row |= ids[:, 0] == never_first
    if row.any():
        raise ValueError(
            f"Row {int(row.int().argmax())} of input_ids is padded on the left, or its mask leaves out the end token: "
            "use .tokenize()."
        )


class Lost(NamedTuple):
    """Prompts over the limit."""

    count: int
    example: str  # the words that the encoder does not see of the first one, and the limit


def divided(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], long: LongPrompts
) -> tuple[list[list[list[int]]], Lost | None]:
    """Return the pieces of `token_ids`, and which prompts were cut (None: none, or in pieces)."""
    if long not in ("warn", "error", "chunk"):
        raise ValueError(f"long must be 'warn', 'error' or 'chunk', got {long!r}.")
    cleaned = [clean(text) for text in texts] if cleans(tokenizer) else texts
    if not cleaned:
        return [], None
    limit = tokenizer.model_max_length
    # Truncation is done here, so that the lost words can be named.
    rows = tokenizer(cleaned, verbose=False)["input_ids"]  # its own warning does not name the words
    too_long = [row for row, ids in enumerate(rows) if len(ids) > limit]
    if long == "chunk":
        return [
            _chunks(tokenizer, cleaned[i], limit) if len(ids) > limit else [ids] for i, ids in enumerate(rows)
        ], None
    lost = None
    if too_long:
        first, end = too_long[0], affixes(tokenizer)[1]
        words = tokenizer.decode(rows[first][limit - len(end) : len(rows[first]) - len(end)]).strip()
        example = (
            f"exceed {limit} tokens; of {_shorten(cleaned[first], 40)!r} "
            f"({len(rows[first])} tokens) the encoder does not see {_shorten(words, 200)!r}"
        )
        rows = [ids if len(ids) <= limit else [*ids[: limit - len(end)], *end] for ids in rows]
        lost = Lost(len(too_long), example)
    return [[ids] for ids in rows], lost


def report_lost(lost: Lost | None, prompts: int, long: LongPrompts, *, stacklevel: int) -> None:
    """Warn of prompts that lose their end, or raise ValueError with `long="error"`."""
    if lost is None:
        return
    message = (
        f"{lost.count} of {prompts} prompts {lost.example}. Shorten such prompts, or encode them with long='chunk'."
    )
    if long == "error":
        raise ValueError(message)
    warnings.warn(message, stacklevel=stacklevel)


def _chunks(tokenizer: PreTrainedTokenizerBase, text: str, limit: int) -> list[list[int]]:
    """Return few pieces of whole sentences; a sentence that is too long is divided into words, a word into tokens."""
    start, end = affixes(tokenizer)
    room = limit - len(start) - len(end)
    parts: list[list[int]] = []
    for sentence in _PIECE.split(text):
        ids = tokenizer(sentence, add_special_tokens=False, verbose=False)["input_ids"]
        if len(ids) <= room:
            parts.append(ids)
            continue
        for word in tokenizer(sentence.split(), add_special_tokens=False, verbose=False)["input_ids"]:
            parts += [word[i : i + room] for i in range(0, len(word), room)]
    pieces: list[list[int]] = [[]]
    for part in parts:
        if len(pieces[-1]) + len(part) > room:
            pieces.append([])
        pieces[-1] += part
    return [[*start, *piece, *end] for piece in pieces]


def _shorten(words: str, limit: int) -> str:
    return words if len(words) <= limit else f"{words[: limit - 1]}…"
