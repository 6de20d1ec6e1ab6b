"""Encoding of many prompts: compact token ids, and results written in their place block by block."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from adaclip.encoding import BAR_FROM, PromptEncoder, TextFeatures
from adaclip.text import LongPrompts, Lost, divided, report_lost

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BLOCK = 4096  # prompts per block: enough to group prompts of similar length, and few enough to weigh little
Pieces = list[list[int]]


class TokenTable:
    """Token ids of prompts, each distinct one once, in 4 bytes per token.

    Lists of Python integers take eight times as much, and with other objects per prompt they outweigh the results.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], long: LongPrompts) -> None:
        self._ids, self._ends = array("i"), array("q", [0])  # of pieces
        self._prompts = array("q", [0])  # ends of prompts, in pieces
        self.rows = array("q")  # number of each text's prompt among the distinct ones
        self.lost: Lost | None = None
        known: dict[bytes, int] = {}
        for start in range(0, len(texts), BLOCK):
            found, lost = divided(tokenizer, list(texts[start : start + BLOCK]), long)
            for pieces in found:
                key = b"|".join(array("i", ids).tobytes() for ids in pieces)
                if key not in known:
                    known[key] = len(known)
                    self._add(pieces)
                self.rows.append(known[key])
            if lost is not None:
                self.lost = lost if self.lost is None else self.lost._replace(count=self.lost.count + lost.count)

    def _add(self, pieces: Pieces) -> None:
        for ids in pieces:
            self._ids.extend(ids)
            self._ends.append(len(self._ids))
        self._prompts.append(len(self._ends) - 1)

    def __len__(self) -> int:
        return len(self._prompts) - 1

    def pieces(self, row: int) -> Pieces:
        """Return the pieces of a distinct prompt."""
        spans = range(self._prompts[row], self._prompts[row + 1])
        return [self._ids[self._ends[i] : self._ends[i + 1]].tolist() for i in spans]

    def lengths(self) -> Tensor:
        """Return the tokens of each distinct prompt, all its pieces together."""
        ends = torch.tensor(self._ends)[torch.tensor(self._prompts)]
        return ends.diff()

    def blocks(self) -> Iterator[list[int]]:
        """Iterate over blocks of distinct prompts, the longest first."""
        order = self.lengths().argsort(descending=True, stable=True).tolist()
        for start in range(0, len(order), BLOCK):
            yield order[start : start + BLOCK]


def check_out(out: Tensor | np.ndarray, shape: tuple[int, int], output: str, on_device: bool) -> Tensor:
    """Return the place for pooled vectors as a tensor that shares its memory; raise ValueError if it does not fit."""
    if output != "pooled" or on_device:
        raise ValueError("out goes with output='pooled' only, and not with convert_to_tensor.")
    if not isinstance(out, torch.Tensor | np.ndarray) or tuple(out.shape) != shape or "float32" not in str(out.dtype):
        found = f"{out.dtype} {tuple(out.shape)}" if hasattr(out, "shape") else type(out).__name__
        raise ValueError(f"out must be a float32 array or tensor of shape {shape}, got {found}.")
    # torch would write to the pages of a read-only file, and the process would crash.
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise ValueError("out is read-only: open a memory-mapped file with mmap_mode='r+'.")
    if isinstance(out, np.ndarray) and min(out.strides) < 0:
        raise ValueError("out has a negative stride, which torch does not write to: give an array in its usual order.")
    target = out if isinstance(out, torch.Tensor) else torch.from_numpy(out)
    if any(size > 1 and stride == 0 for size, stride in zip(shape, target.stride(), strict=True)):
        raise ValueError(
            "out has rows or columns that share memory, as expand() makes them: give it memory of its own."
        )
    if target.device.type != "cpu":
        raise ValueError(f"out must be in the CPU's memory, is on {target.device}.")
    return target


def encode_many(
    encoder: PromptEncoder,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    long: LongPrompts,
    batch_size: int,
    *,
    normalize: bool,
    show_progress_bar: bool | None,
    out: Tensor | None = None,
    stacklevel: int,
) -> TextFeatures:
    """Return the features of `PromptEncoder.features` of any number of prompts.

    Beside the result, memory is needed for the ids and for one block; if prompts repeat, also for one copy of the
    distinct results.

    Args:
        encoder: The encoder.
        tokenizer: Its tokenizer.
        texts: Prompts.
        long: Treatment of prompts over the limit.
        batch_size: Largest number of prompts per pass.
        normalize: Scale pooled vectors to unit length.
        show_progress_bar: None shows one for a thousand prompts or more.
        out: Tensor (N, P) for the pooled vectors.
        stacklevel: Frame that a warning names.
    """
    from tqdm.auto import tqdm

    table = TokenTable(tokenizer, texts, long)
    report_lost(table.lost, len(texts), long, stacklevel=stacklevel + 1)
    distinct = len(table) == len(texts)
    width, hidden = encoder.pooling.width, encoder.model.config.hidden_size
    lengths = table.lengths().to(encoder.place) if encoder.with_tokens else torch.zeros(len(table), dtype=torch.long)
    longest = int(lengths.max()) if len(lengths) else 0
    pooled = out if distinct and out is not None else torch.empty(len(table), width, device=encoder.place)
    tokens = torch.zeros(len(table), longest, hidden, device=encoder.place)
    no_bar = not show_progress_bar if show_progress_bar is not None else len(table) < BAR_FROM
    with tqdm(total=len(table), desc="Encoding", unit="prompt", disable=no_bar) as bar:
        for block in table.blocks():
            found = encoder.features(
                [table.pieces(row) for row in block], batch_size, normalize=normalize, show_progress_bar=False
            )
            rows = torch.tensor(block, device=encoder.place)
            pooled[rows] = found.pooled
            if encoder.with_tokens:
                tokens[rows, : found.tokens.shape[1]] = found.tokens
            bar.update(len(block))
    if not distinct:
        rows = torch.tensor(table.rows, device=encoder.place)
        pooled = torch.index_select(pooled, 0, rows, out=out) if out is not None else pooled[rows]
        tokens, lengths = tokens[rows], lengths.to(encoder.place)[rows]
    lengths = lengths.to(encoder.place)
    return TextFeatures(pooled, tokens, torch.arange(longest, device=encoder.place) < lengths[:, None])
