"""From any number of prompts to their features: each distinct one once, neighbours in length together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from adaclip.batching import sub_batches
from adaclip.inference import CachedPrompt, PromptCache
from adaclip.text import pad

if TYPE_CHECKING:
    from transformers import CLIPTextModelWithProjection

CPU_TOKENS = 384  # computed at once: best of 128 to 4096, on one and on two threads; more leaves the cache and pads
TOKENS_PER_THREAD = 128  # but many threads want work each
ACCELERATOR_TOKENS = 8192  # an accelerator wants to be filled
BAR_FROM = 1000  # prompts to encode from which a progress bar is shown unasked


class TextFeatures(NamedTuple):
    """What a generator is conditioned on."""

    pooled: Tensor  # (B, P): projected state of the end token
    tokens: Tensor  # (B, L, H): last hidden states, zero where mask is False
    mask: Tensor  # (B, L) bool, True = real token, start and end token included

    def to(self, device: torch.device | str) -> TextFeatures:
        """Move all three tensors to a device."""
        return TextFeatures(*(part.to(device) for part in self))


def end_positions(ids: Tensor, mask: Tensor, eos_token_id: int) -> Tensor:
    """Where CLIP reads a prompt's summary: the first real end token, or the last real token if there is none; (B,)."""
    is_end = (ids == eos_token_id) & mask
    last_real = (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).argmax(dim=-1)
    return torch.where(is_end.any(dim=-1), is_end.int().argmax(dim=-1), last_real)


class PromptEncoder:
    """Encodes rows of token ids with plain (merged) weights, remembering what it has encoded."""

    def __init__(
        self,
        model: CLIPTextModelWithProjection,
        state: int,
        cache: PromptCache,
        *,
        padding: int,
        eos_token_id: int,
        with_tokens: bool,
    ) -> None:
        """state: stands for the weights in the cache's keys."""
        self.model, self.state, self.cache = model, state, cache
        self.padding, self.eos_token_id, self.with_tokens = padding, eos_token_id, with_tokens

    def __call__(
        self, rows: Sequence[Sequence[int]], *, batch_size: int, show_progress_bar: bool | None
    ) -> list[CachedPrompt]:
        """Features of each row, in order; float32 on the CPU."""
        rows = [tuple(row) for row in rows]
        known = {ids: self.cache.get((self.state, ids), with_tokens=self.with_tokens) for ids in set(rows)}
        missing = [ids for ids in dict.fromkeys(rows) if known[ids] is None]
        device = self.model.device
        on_cpu = max(CPU_TOKENS, TOKENS_PER_THREAD * torch.get_num_threads())
        tokens = on_cpu if device.type == "cpu" else ACCELERATOR_TOKENS
        groups = sub_batches([len(ids) for ids in missing], rows=batch_size, tokens=tokens)
        bar = self._progress(len(missing), show_progress_bar)
        for group in groups:
            batch = [missing[i] for i in group]
            for ids, entry in zip(batch, self._encode(batch), strict=True):
                known[ids] = entry
                self.cache.put((self.state, ids), entry)
            bar.update(len(batch))
        bar.close()
        return [known[ids] for ids in rows]

    def _encode(self, batch: list[tuple[int, ...]]) -> list[CachedPrompt]:
        device = self.model.device
        ids, mask = (part.to(device) for part in pad(batch, self.padding))
        # What is remembered must not depend on who asked first: the weights' own precision counts, not autocast's.
        with torch.autocast(device.type, enabled=False):
            # CLIP's attention is causal: padding on the right cannot reach a real token, so no mask is needed inside.
            states = self.model(input_ids=ids).last_hidden_state
            ends = end_positions(ids, mask, self.eos_token_id)
            pooled = self.model.text_projection(states[torch.arange(len(batch), device=device), ends]).float().cpu()
        # Rows are cloned: a view would keep its whole batch in memory as long as it is cached.
        if not self.with_tokens:
            return [CachedPrompt(len(row), vector.clone(), None) for row, vector in zip(batch, pooled, strict=True)]
        states = states.float().cpu()
        return [CachedPrompt(len(row), pooled[i].clone(), states[i, : len(row)].clone()) for i, row in enumerate(batch)]

    @staticmethod
    def _progress(prompts: int, show: bool | None) -> object:
        from tqdm.auto import tqdm

        hidden = not show if show is not None else prompts < BAR_FROM
        return tqdm(total=prompts, desc="Encoding", unit="prompt", disable=hidden)


def join_pieces(pieces: Sequence[CachedPrompt]) -> CachedPrompt:
    """One prompt from the pieces it was divided into.

    Pooled: the mean of the pieces' vectors weighted by their tokens, at the mean of their lengths (averaging
    directions alone would shorten the vector). Tokens: one piece after another, each with its start and end token.
    """
    if len(pieces) == 1:
        return pieces[0]
    lengths = [piece.length for piece in pieces]
    weights = torch.tensor(lengths, device="cpu") / sum(lengths)
    vectors = torch.stack([piece.pooled for piece in pieces])
    direction = nn.functional.normalize(weights @ vectors, dim=-1)
    tokens = None if pieces[0].tokens is None else torch.cat([piece.tokens for piece in pieces])
    return CachedPrompt(sum(lengths), direction * (weights @ vectors.norm(dim=-1)), tokens)


def stack(entries: Sequence[CachedPrompt], projection_size: int, hidden_size: int) -> TextFeatures:
    """Prompts of different lengths as one batch, zero-padded; on the CPU, whatever torch's default device."""
    if not entries:
        empty = (torch.zeros(shape, device="cpu") for shape in ((0, projection_size), (0, 0, hidden_size), (0, 0)))
        pooled, tokens, mask = empty
        return TextFeatures(pooled, tokens, mask.bool())
    lengths = torch.tensor([entry.length for entry in entries], device="cpu")
    return TextFeatures(
        torch.stack([entry.pooled for entry in entries]),
        nn.utils.rnn.pad_sequence([entry.tokens for entry in entries], batch_first=True),
        torch.arange(int(lengths.max()), device="cpu") < lengths[:, None],
    )
