"""What makes repeated encoding fast: weights with the adapter folded in, and prompts already encoded.

Both are kept only as long as the weights stay the same. The adapter's state is told from its bytes, so that every edit
counts, also one through `.data`. The base's is told from version counters, which every in-place operation raises but
an edit through `.data` does not: after such an edit of the base call `AdaCLIP.forget()`.
"""

from __future__ import annotations

import copy
import threading
import zlib
from collections import OrderedDict
from collections.abc import Hashable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import CLIPTextModelWithProjection

MERGED_COPIES = 2  # adapters whose merged weights are kept: a person compares two
CACHE_BYTES = 32 * 2**20  # about 10,000 pooled vectors of ViT-B/32, or 1,200 prompts with their token states
ENTRY_BYTES = 1024  # what a cached prompt costs beside its tensors: its ids as the key, and Python's objects


def merge(text_model: PeftModel, adapter: str | None, *, share: bool) -> CLIPTextModelWithProjection:
    """A plain transformers model with an adapter folded into its weights, in eval mode; `text_model` stays as it is.

    adapter: its name; None gives the base. share: the tensors that the adapter does not touch are the same ones as
    in `text_model`, not copies (at ViT-B/32 that leaves 138 of 254 MB to copy).
    """
    memo: dict[int, object] = {}
    if share:
        touched = _adapted_parameters(text_model) if adapter is not None else set()
        memo = {id(p): p for p in text_model.parameters() if id(p) not in touched}
    clone = copy.deepcopy(text_model, memo)
    with torch.autocast(text_model.device.type, enabled=False):  # it would round the product B A to half precision
        plain = clone.unload() if adapter is None else clone.merge_and_unload(adapter_names=[adapter])
    return plain.eval()


class InferenceWeights:
    """Merged weights of the adapters in use, made anew when an adapter has changed. Threads may share one."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str | None, tuple[tuple, int, CLIPTextModelWithProjection]] = OrderedDict()
        self._state = 0
        self._lock = threading.Lock()

    def get(self, text_model: PeftModel, adapter: str | None) -> tuple[CLIPTextModelWithProjection, int]:
        """The merged model (None: the base), and a number that stands for this state of the weights and no other."""
        with self._lock:
            return self._get(text_model, adapter)

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()

    def _get(self, text_model: PeftModel, adapter: str | None) -> tuple[CLIPTextModelWithProjection, int]:
        fingerprint = _fingerprint(text_model, adapter)
        if adapter not in self._kept or self._kept[adapter][0] != fingerprint:
            self._kept.pop(adapter, None)  # first, so that the old and the new copy never exist together
            while len(self._kept) >= MERGED_COPIES:
                self._kept.popitem(last=False)
            self._state += 1
            self._kept[adapter] = (fingerprint, self._state, merge(text_model, adapter, share=True))
        self._kept.move_to_end(adapter)
        _, state, model = self._kept[adapter]
        return model, state

    def __deepcopy__(self, memo: dict) -> InferenceWeights:
        return InferenceWeights()  # what is kept belongs to the original's parameters

    def __reduce__(self) -> tuple:
        return InferenceWeights, ()


class CachedPrompt(NamedTuple):
    """Features of one prompt, without padding."""

    length: int  # tokens, start and end token included
    pooled: Tensor  # (P,)
    tokens: Tensor | None  # (L, H) real tokens only; None when they were not asked for

    @property
    def nbytes(self) -> int:
        return ENTRY_BYTES + self.pooled.nbytes + (0 if self.tokens is None else self.tokens.nbytes)


class PromptCache:
    """The prompts used last, up to a number of bytes; set `max_bytes` to 0 to keep none. Threads may share one."""

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._entries: OrderedDict[Hashable, CachedPrompt] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable, *, with_tokens: bool) -> CachedPrompt | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or (with_tokens and entry.tokens is None):
                return None
            self._entries.move_to_end(key)
            return entry

    def put(self, key: Hashable, entry: CachedPrompt) -> None:
        with self._lock:
            old = self._entries.pop(key, None)
            self.nbytes += entry.nbytes - (old.nbytes if old else 0)
            self._entries[key] = entry
            while self._entries and self.nbytes > self.max_bytes:
                _, oldest = self._entries.popitem(last=False)
                self.nbytes -= oldest.nbytes

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self.nbytes = 0

    def __deepcopy__(self, memo: dict) -> PromptCache:
        return PromptCache(self.max_bytes)

    def __reduce__(self) -> tuple:
        return PromptCache, (self.max_bytes,)


def _adapted_parameters(text_model: PeftModel) -> set[int]:
    from peft.tuners.lora import LoraLayer

    layers = (module for module in text_model.modules() if isinstance(module, LoraLayer))
    return {id(parameter) for layer in layers for parameter in layer.get_base_layer().parameters()}


def _fingerprint(text_model: PeftModel, adapter: str | None) -> tuple:
    named = list(text_model.named_parameters())
    # An inference tensor has no counter, and cannot be edited in place outside inference mode.
    base = [(p.data_ptr(), 0 if p.is_inference() else p._version, p.dtype) for name, p in named if is_base(name)]
    adapted = [p.detach() for name, p in named if is_of(name, adapter)]
    content = [(p.dtype, p.device) for p in adapted], _checksum(adapted)
    scaling = [m.scaling[adapter] for m in text_model.modules() if adapter in getattr(m, "scaling", ())]
    return base, content, scaling


def _checksum(tensors: list[Tensor]) -> int:
    """Of all their bytes; 2.4 ms for the 6 MB of an adapter of ViT-B/32, where a prompt takes 60."""
    raw = [tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in tensors]
    return zlib.crc32(torch.cat(raw).cpu().numpy()) if raw else 0


def is_base(parameter: str) -> bool:
    """Whether that name in a peft-wrapped model belongs to the base."""
    return ".lora_" not in parameter


def is_of(parameter: str, adapter: str | None) -> bool:
    """Whether that name in a peft-wrapped model belongs to the adapter of that name (`….lora_A.kit.weight`)."""
    return not is_base(parameter) and f".{adapter}." in parameter.partition(".lora_")[2]
