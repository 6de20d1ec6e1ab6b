"""AdaCLIP for training loops that were written around a frozen CLIP.

Such loops move everything they hold to the device, switch it to train mode, hand all parameters to an optimiser, copy
the model for a moving average, and leave the encoder out of their checkpoints by its name. `FrozenEncoder` keeps out of
their way: to torch it has no parameters and no weights, its adapter is merged, a copy of it is itself. It encodes each
distinct prompt once, without padding, and remembers.
"""

from __future__ import annotations

import os
import types
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from adaclip import fingerprint
from adaclip.encoding import PromptEncoder
from adaclip.inference import PromptCache
from adaclip.openai_clip import TextTower, check_end_token, refuse_image, tokenize

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from adaclip.inference import CachedPrompt
    from adaclip.model import AdaCLIP

CACHE = "ADACLIP_CACHE_MB"  # environment: memory for prompts that were encoded
CACHE_MB = 512  # all pooled vectors of HumanML3D's captions take about 270
TOKENIZED = 2**17  # prompts whose token ids are remembered: HumanML3D has 87,384 captions
CONTEXT = 77  # positions CLIP has
MOST = 4096  # tokens: longer than any prompt, to see how much is cut
# What other code reaches into OpenAI's model for.
PARTS = frozenset({"token_embedding", "positional_embedding", "transformer", "ln_final", "text_projection"})


class FrozenEncoder(nn.Module):
    """AdaCLIP with the interface of OpenAI's model: `encode_text`, and its parts with their names."""

    def __init__(self, adaclip: AdaCLIP) -> None:
        """Takes a copy of the weights, on their device and in their precision; `adaclip` is left as it is."""
        super().__init__()
        check_end_token(adaclip)
        merged = adaclip.merged().requires_grad_(False)
        self._hidden = {"model": merged}  # in a dict, where torch does not look for modules
        self.tokenizer = adaclip.tokenizer
        self.tokenize = PromptIds(adaclip.tokenizer)
        self.record = fingerprint.of(adaclip)
        self.cache = PromptCache(int(float(os.environ.get(CACHE, CACHE_MB)) * 2**20))
        self.context_length: int = merged.config.max_position_embeddings
        self.vocab_size: int = merged.config.vocab_size
        self.width: int = merged.config.hidden_size
        self.projection_size: int = merged.config.projection_dim
        fingerprint.guard(self, self.record)

    def encode_text(self, text: Tensor | Sequence[str]) -> Tensor:
        """Pooled vectors (B, P), float32, of token ids (B, L) or prompts, on the device of the ids or the encoder."""
        device = text.device if isinstance(text, Tensor) else self.device
        entries = self._entries(text, with_tokens=False)
        pooled = [entry.pooled for entry in entries]
        return (torch.stack(pooled) if pooled else torch.zeros(0, self.projection_size)).to(device)

    def hidden_states(self, text: Tensor | Sequence[str]) -> Tensor:
        """Last hidden states (B, L, H), float32, of token ids (B, L) or of prompts; zero after the end token."""
        ids = text if isinstance(text, Tensor) else self.tokenize(text, truncate=True)
        states = torch.zeros(*ids.shape, self.width)
        for row, entry in zip(states, self._entries(ids, with_tokens=True), strict=True):
            row[: entry.length] = entry.tokens
        return states.to(text.device if isinstance(text, Tensor) else self.device)

    def forward(self, text: Tensor | Sequence[str]) -> Tensor:
        """The same as `encode_text`."""
        return self.encode_text(text)

    def encode_image(self, image: object) -> Tensor:
        """Always raises NotImplementedError: AdaCLIP encodes text."""
        return refuse_image(image)

    @property
    def dtype(self) -> torch.dtype:
        """Of what `encode_text` returns."""
        return torch.float32

    @property
    def device(self) -> torch.device:
        return self._hidden["model"].device

    @torch.no_grad()
    def _entries(self, text: Tensor | Sequence[str], *, with_tokens: bool) -> list[CachedPrompt]:
        ids = text if isinstance(text, Tensor) else self.tokenize(text, truncate=True)
        ends = ids.argmax(dim=-1).tolist() if ids.numel() else []  # as OpenAI's pooling finds the end token
        rows = [row[: end + 1] for row, end in zip(ids.tolist(), ends, strict=False)]
        encode = PromptEncoder(
            self._hidden["model"],
            0,
            self.cache,
            padding=self.tokenizer.pad_token_id or 0,
            eos_token_id=self.tokenizer.eos_token_id,
            with_tokens=with_tokens,
        )
        return encode(rows, batch_size=64, show_progress_bar=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FrozenEncoder:
        """Follows the model it is a part of to another device, and keeps its precision."""
        moved = fn(torch.zeros(1, device=self.device))
        if moved.device != self.device:
            for part in self._hidden.values():
                part.to(moved.device)
        return self

    def __getattr__(self, name: str) -> object:
        if name in PARTS:
            if "parts" not in self._hidden:
                self._hidden["parts"] = TextTower(types.SimpleNamespace(merged=lambda: self._hidden["model"]))
                self._hidden["parts"].requires_grad_(False)
            return getattr(self._hidden["parts"], name)
        return super().__getattr__(name)

    def __deepcopy__(self, memo: dict) -> FrozenEncoder:
        return self  # it never changes, and a second copy would only take memory


class PromptIds:
    """Tokenises as OpenAI's `clip.tokenize`, remembers, and says once when prompts lose words."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.cut: set[int] = set()  # context lengths at which a cut was reported
        self._known: OrderedDict[str, tuple[int, ...]] = OrderedDict()

    def __call__(self, texts: str | Sequence[str], context_length: int = CONTEXT, truncate: bool = False) -> Tensor:
        """Token ids (B, context_length) int32, zero-padded; ADACLIP_TOKENS in the environment sets another length."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        length = kept_tokens(context_length)
        rows = [self._ids(text) for text in texts]
        too_long = [i for i, ids in enumerate(rows) if len(ids) > length]
        if too_long and not truncate:
            return tokenize(texts, length, truncate, tokenizer=self.tokenizer)  # which says what is wrong
        if too_long:
            self._report([rows[i] for i in too_long], len(rows), length)
        out = torch.zeros(len(rows), length, dtype=torch.int32)
        for i, ids in enumerate(rows):
            ids = ids if len(ids) <= length else (*ids[: length - 1], ids[-1])
            out[i, : len(ids)] = torch.tensor(ids, dtype=torch.int32)
        return out

    def _ids(self, text: str) -> tuple[int, ...]:
        known = self._known.get(text)
        if known is None:
            ids = tokenize([text], MOST, truncate=True, tokenizer=self.tokenizer)[0]
            known = self._known[text] = tuple(ids[: int(ids.argmax()) + 1].tolist())
            while len(self._known) > TOKENIZED:
                self._known.popitem(last=False)
        return known

    def _report(self, rows: list[tuple[int, ...]], of: int, length: int) -> None:
        if length in self.cut:
            return
        self.cut.add(length)
        lost = [self.tokenizer.decode(ids[length - 1 : -1]).split() for ids in rows]
        more = f" Set {fingerprint.TOKENS}={CONTEXT} to keep what CLIP can." if length < CONTEXT else ""
        warnings.warn(
            f"Prompts are cut at {length} tokens: {len(rows)} of these {of} lose {sum(map(len, lost))} words "
            f"(the first: '{' '.join(lost[0]):.60}').{more}",
            stacklevel=4,
        )


def kept_tokens(asked: int) -> int:
    """How many tokens of a prompt are kept: what the environment says, or what was asked for."""
    wanted = os.environ.get(fingerprint.TOKENS, "")
    if not wanted:
        return asked
    if not wanted.isdigit() or not 3 <= int(wanted) <= CONTEXT:
        raise ValueError(f"{fingerprint.TOKENS}={wanted}: give a number of tokens from 3 to {CONTEXT}.")
    return int(wanted)
