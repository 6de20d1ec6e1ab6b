"""AdaCLIP for training loops that were written around a frozen CLIP.

Such loops move the whole model to the device, switch it to train mode, pass all parameters to an optimiser, copy the
model for a moving average, and filter the encoder out of their checkpoints by its name. `FrozenEncoder` is unaffected:
torch finds no parameters in it, its adapter is merged, and its deep copy is the same object. It encodes each distinct
prompt once, without padding, and caches the result.
"""

from __future__ import annotations

import os
import threading
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from adaclip_integrations import IntegrationError, fingerprint, patches, towers
from torch import Tensor, nn

from adaclip.encoding import PromptEncoder, TextFeatures
from adaclip.inference import PromptCache
from adaclip.model import AdaCLIP
from adaclip.openai_clip import TextTower, check_end_token, id_rows, prompt_ids, refuse_image

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CACHE = "ADACLIP_CACHE_MB"  # environment: memory for encoded prompts
CACHE_MB = 512  # all pooled vectors of HumanML3D's captions take about 270
TOKENIZED = 2**17  # prompts whose token ids are cached: HumanML3D has 87,384 captions
CONTEXT = 77  # positions CLIP has
# Parts of OpenAI's model that other code accesses.
PARTS = frozenset({"token_embedding", "positional_embedding", "transformer", "ln_final", "text_projection"})


_lock = threading.RLock()


class FrozenEncoder(nn.Module):
    """A copy of an encoder with the interface of OpenAI's model: `encode_text`, and the parts under OpenAI's names."""

    _replica = False  # made by DataParallel, for a thread of its own

    def __init__(self, adaclip: AdaCLIP, *sizes: object, **settings: object) -> None:
        if not isinstance(adaclip, AdaCLIP) or sizes or settings:
            raise IntegrationError(
                "The program builds OpenAI's class CLIP by itself, which AdaCLIP does not replace. Name the program's "
                "class or function that does so with adaclip-run's --seam MODULE:NAME."
            )
        super().__init__()
        check_end_token(adaclip)
        merged = adaclip.merged().requires_grad_(False)
        self._hidden = {"model": merged, "pooling": adaclip.pooling}  # in a dict, where torch does not look for modules
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
        """Return pooled vectors (B, P), float32, of prompts or token ids (B, L), on the device of the ids."""
        return self._features(text, with_tokens=False).pooled

    def hidden_states(self, text: Tensor | Sequence[str]) -> Tensor:
        """Return last hidden states (B, L, H), float32, of token ids (B, L) or prompts; zero after the end token."""
        length = text.shape[1] if isinstance(text, Tensor) else kept_tokens(CONTEXT)
        states = self._features(text, with_tokens=True).tokens
        return nn.functional.pad(states, (0, 0, 0, length - states.shape[1]))

    forward = encode_text
    encode_image = staticmethod(refuse_image)

    def initialize_parameters(self) -> None:
        """Keep the weights, with a warning: OpenAI's method draws new ones, to train an encoder from the start."""
        warnings.warn(
            "The code draws new weights for its text encoder (initialize_parameters). AdaCLIP keeps its own and stays "
            "frozen. To train an encoder from the start, run without AdaCLIP.",
            stacklevel=2,
        )

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Yield the frozen weights to code that reads their device or precision; surrounding models do not see them."""
        return self._hidden["model"].parameters(recurse)

    @property
    def output_size(self) -> int:
        """Width of the features that the surrounding model reads."""
        return self.projection_size

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the result of `encode_text`."""
        return torch.float32

    @property
    def device(self) -> torch.device:
        """Device of the encoder."""
        return self._hidden["model"].device

    @property
    def _used_on(self) -> torch.device:
        """Device that uses the parts: of a DataParallel replica the one of its thread."""
        here = self.device
        return torch.device(here.type, torch.cuda.current_device()) if self._replica and here.type == "cuda" else here

    def _replicate_for_data_parallel(self) -> FrozenEncoder:
        replica = super()._replicate_for_data_parallel()
        replica._replica = True
        return replica

    @patches.uncompiled
    @torch.no_grad()
    def _features(self, text: Tensor | Sequence[str], *, with_tokens: bool) -> TextFeatures:
        """Return the features on the device of the ids; of prompts, on the encoder's device."""
        ids = text if isinstance(text, Tensor) else self.tokenize(text, truncate=True)
        ends = ids.argmax(dim=-1).tolist() if ids.numel() else []  # as OpenAI's pooling finds the end token
        rows = [row[: end + 1] for row, end in zip(ids.tolist(), ends, strict=False)]
        padding, model = self.tokenizer.pad_token_id or 0, self._hidden["model"]
        encode = PromptEncoder(model, self._hidden["pooling"], 0, self.cache, padding, self.context_length, with_tokens)
        with _lock:  # replicas share the encoder and its cache
            features = encode.features([[row] for row in rows], 64, show_progress_bar=False)
        return features.to(ids.device if isinstance(text, Tensor) else self.device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FrozenEncoder:
        """Move to another device with the surrounding model, and keep its precision."""
        moved = fn(torch.zeros(1, device=self.device))
        if moved.device != self.device:
            self._hidden |= {"model": self._hidden["model"].to(moved.device)}
            for part in [key for key in self._hidden if isinstance(key, tuple)]:
                del self._hidden[part]  # made again where they are used
        return self

    def __getattr__(self, name: str) -> object:
        if name in PARTS:
            with _lock:  # replicas run in threads
                parts = self._hidden.get(("parts", self._used_on)) or self._make_parts()
            return getattr(parts, name)
        return super().__getattr__(name)

    def __delattr__(self, name: str) -> None:
        if name != "visual":  # code deletes the vision tower to save memory; here is none
            super().__delattr__(name)

    def _make_parts(self) -> TextTower:
        """Copy the encoder to where its parts are used, under OpenAI's names."""
        parts = TextTower(types.SimpleNamespace(merged=lambda: self._hidden["model"])).requires_grad_(False)
        towers.mark(parts)
        self._hidden["parts", self._used_on] = parts.to(self._used_on)
        return parts

    def __deepcopy__(self, memo: dict) -> FrozenEncoder:
        return self  # it never changes, so a second copy would waste memory


class PromptIds:
    """Tokenise like OpenAI's `clip.tokenize`, cache the ids, and warn once when prompts lose words."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.cut: set[int] = set()  # context lengths at which a cut was reported
        self._known: dict[str, list[int]] = {}

    @patches.uncompiled
    def __call__(self, texts: str | Sequence[str], context_length: int = CONTEXT, truncate: bool = False) -> Tensor:
        """Return token ids (B, context_length) int32, zero-padded; ADACLIP_TOKENS overrides the length."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        length, ids = kept_tokens(context_length), [self._ids(text) for text in texts]
        if truncate and length not in self.cut:
            self._report([row for row in ids if len(row) > length], len(ids), length)
        return id_rows(texts, length, truncate, ids)

    def _ids(self, text: str) -> list[int]:
        if text not in self._known:
            self._known[text] = prompt_ids(text, self.tokenizer)
            if len(self._known) > TOKENIZED:
                del self._known[next(iter(self._known))]
        return self._known[text]

    def _report(self, rows: list[list[int]], of: int, length: int) -> None:
        if not rows:
            return
        self.cut.add(length)
        lost = [self.tokenizer.decode(ids[length - 1 : -1]).split() for ids in rows]
        more = f" Set {fingerprint.TOKENS}={CONTEXT} to keep as many as CLIP allows." if length < CONTEXT else ""
        warnings.warn(
            f"Prompts are cut at {length} tokens: {len(rows)} of these {of} lose {sum(map(len, lost))} words "
            f"(the first: '{' '.join(lost[0]):.60}').{more}",
            stacklevel=4,
        )


def kept_tokens(asked: int) -> int:
    """Return the number of tokens to keep of a prompt: the environment's limit, else the caller's."""
    wanted = os.environ.get(fingerprint.TOKENS, "")
    if not wanted:
        return asked
    if not wanted.isdigit() or not 3 <= int(wanted) <= CONTEXT:
        raise ValueError(f"{fingerprint.TOKENS}={wanted}: give a number of tokens from 3 to {CONTEXT}.")
    return int(wanted)
