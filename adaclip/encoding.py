"""Encoding of any number of prompts: each distinct one once, prompts of similar length together."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from adaclip.inference import CachedPrompt, PromptCache
from adaclip.pooling import Pooling
from adaclip.text import pad

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CPU = torch.device("cpu")
CPU_TOKENS = 384  # per pass on a CPU: best of 128 to 4096 on one and two threads; more leaves the cache and pads
TOKENS_PER_THREAD = 128  # per pass on a CPU with many threads
LENGTHS = 16  # on an accelerator, a batch is padded to a multiple of this, so that few shapes occur
BAR_FROM = 1000  # prompts from which a progress bar is shown by default


class TextFeatures(NamedTuple):
    """Text features that a generator is conditioned on."""

    pooled: Tensor  # (B, P): one vector for each prompt, as the family's pooling computes it
    tokens: Tensor  # (B, L, H): last hidden states, zero where mask is False
    mask: Tensor  # (B, L) bool, True = real token, special tokens included

    def to(self, device: torch.device | str) -> TextFeatures:
        """Move all three to a device."""
        return TextFeatures(*(part.to(device) for part in self))


def sub_batches(lengths: Sequence[int], *, rows: int, tokens: int | None) -> list[list[int]]:
    """Group prompts of similar length, the longest first, so that a lack of memory shows at once.

    Returns positions in `lengths`. A group has at most `rows` prompts and, padded to its longest prompt, at most
    `tokens` tokens (None: no limit); a single prompt may exceed the latter.
    """
    groups: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        # The first prompt of a group is its longest, to whose length the others are padded.
        full = not groups or len(groups[-1]) == rows
        if full or (tokens is not None and lengths[groups[-1][0]] * (len(groups[-1]) + 1) > tokens):
            groups.append([])
        groups[-1].append(position)
    return groups


@dataclass(frozen=True)
class PromptEncoder:
    """Encoder of token ids with plain (merged) weights and a cache."""

    model: PreTrainedModel
    pooling: Pooling
    state: Hashable  # identifies the weights in the cache
    cache: PromptCache
    padding: int  # token id
    longest: int  # tokens of a prompt that the model has positions for
    with_tokens: bool  # compute token states, not only pooled vectors
    place: torch.device = CPU  # device of the results

    def features(
        self,
        prompts: Sequence[Sequence[Sequence[int]]],
        batch_size: int,
        *,
        normalize: bool = False,
        show_progress_bar: bool | None = None,
    ) -> TextFeatures:
        """Return the features of prompts, each given as pieces of token ids; without token states L is 0."""
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be an integer of at least 1, got {batch_size!r}.")
        rows = [ids for pieces in prompts for ids in pieces]
        encoded = iter(self(rows, batch_size=batch_size, show_progress_bar=show_progress_bar))
        entries = [join_pieces([next(encoded) for _ in pieces]) for pieces in prompts]
        sizes = self.pooling.width, self.model.config.hidden_size
        features = stack(entries, *sizes, self.place, with_tokens=self.with_tokens)
        return features._replace(pooled=nn.functional.normalize(features.pooled, dim=-1)) if normalize else features

    def __call__(
        self, rows: Sequence[Sequence[int]], *, batch_size: int, show_progress_bar: bool | None
    ) -> list[CachedPrompt]:
        """Return the features of each row, in order, as float32."""
        keys = [(self.state, self.place, tuple(row)) for row in rows]
        known = {key: self.cache.get(key, with_tokens=self.with_tokens) for key in dict.fromkeys(keys)}
        missing = [key for key, entry in known.items() if entry is None]
        if missing:
            found = self._encode([ids for *_, ids in missing], batch_size, show_progress_bar)
            for key, entry in zip(missing, found, strict=True):
                known[key] = entry
                self.cache.put(key, entry)
        return [known[key] for key in keys]  # type: ignore[misc]

    def _encode(self, rows: list[tuple[int, ...]], batch_size: int, show: bool | None) -> list[CachedPrompt]:
        from tqdm.auto import tqdm

        lengths = [len(ids) for ids in rows]
        one_pass = is_accelerator(self.model.device)
        # An accelerator takes a whole batch in one pass; a CPU is faster with small groups of similar length.
        tokens = None if one_pass else max(CPU_TOKENS, TOKENS_PER_THREAD * torch.get_num_threads())
        groups = sub_batches(lengths, rows=batch_size, tokens=tokens)
        pooled: list[Tensor] = []
        states: dict[int, Tensor] = {}
        hidden = not show if show is not None else len(rows) < BAR_FROM
        with tqdm(total=len(rows), desc="Encoding", unit="prompt", disable=hidden) as bar:
            for group in groups:
                vectors, hidden_states = self._forward([rows[i] for i in group], LENGTHS if one_pass else 1)
                pooled.append(vectors)
                if self.with_tokens:
                    hidden_states = hidden_states.float().to(self.place)
                    # Clones: a view would keep the padding of its batch in memory as long as it is cached.
                    states |= {i: hidden_states[row, : lengths[i]].clone() for row, i in enumerate(group)}
                bar.update(len(group))
        # The vectors of all batches are copied at once: the device would be idle during one copy per batch.
        parts = torch.cat(pooled).to(self.place).split([len(group) for group in groups])
        vectors_of = {
            i: row
            for group, part in zip(groups, parts, strict=True)
            for i, row in zip(group, part.clone(), strict=True)
        }
        return [CachedPrompt(lengths[i], vectors_of[i], states.get(i)) for i in range(len(rows))]

    def _forward(self, batch: list[tuple[int, ...]], multiple: int) -> tuple[Tensor, Tensor]:
        """Return pooled vectors (B, P) float32 and last hidden states (B, L, H) on the model's device."""
        device = self.model.device
        ids, mask = (part.to(device) for part in pad(batch, self.padding, multiple=multiple, limit=self.longest))
        # Cached results must not depend on the first caller: the weights' own precision applies, not autocast's.
        with torch.autocast(device.type, enabled=False):
            pooled, states = self.pooling(self.model, ids, mask)
        return pooled.float(), states


def usable_device(device: torch.device | str) -> torch.device:
    """Return a device; raise ValueError if there is none of that name."""
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise ValueError(f"The device {device} cannot be used: {str(error).splitlines()[0]}") from error


def is_accelerator(device: torch.device) -> bool:
    """Tell whether a device prefers few large passes to many small ones."""
    return device.type != "cpu"


def join_pieces(pieces: Sequence[CachedPrompt]) -> CachedPrompt:
    """Combine the pieces of one prompt.

    Pooled: the mean of the pieces' vectors weighted by their tokens, scaled to the mean of their lengths (a mean of
    directions alone would be shorter). Tokens: one piece after another, each with its start and end token.
    """
    if len(pieces) == 1:
        return pieces[0]
    lengths = [piece.length for piece in pieces]
    vectors = torch.stack([piece.pooled for piece in pieces])
    weights = torch.tensor(lengths, device=vectors.device) / sum(lengths)
    direction = nn.functional.normalize(weights @ vectors, dim=-1)
    states = [piece.tokens for piece in pieces if piece.tokens is not None]
    tokens = torch.cat(states) if states else None
    return CachedPrompt(sum(lengths), direction * (weights @ vectors.norm(dim=-1)), tokens)


def stack(
    entries: Sequence[CachedPrompt],
    projection_size: int,
    hidden_size: int,
    device: torch.device | str = "cpu",
    *,
    with_tokens: bool = True,
) -> TextFeatures:
    """Return prompts of different lengths, all of them on `device`, as one batch, zero-padded."""
    shown = entries if with_tokens else []
    lengths = torch.tensor([e.length for e in shown] or [0] * len(entries), device="cpu")  # not torch's default device
    mask = torch.arange(max(lengths.tolist(), default=0), device="cpu") < lengths[:, None]
    pooled = [torch.zeros(0, projection_size, device=device), *(entry.pooled[None] for entry in entries)]
    states = [entry.tokens for entry in shown if entry.tokens is not None]
    empty = torch.zeros(len(entries), 0, hidden_size, device=device)
    tokens = nn.utils.rnn.pad_sequence(states, batch_first=True) if states else empty
    return TextFeatures(torch.cat(pooled), tokens, mask.to(device))
