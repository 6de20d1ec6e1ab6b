"""Caches for repeated encoding: weights with the adapter merged, and encoded prompts.

Both are valid as long as the weights stay the same. Every call compares cheap facts of all parameters: the tensor
object, its address, and torch's version counter, which every in-place operation raises (optimiser steps,
`load_state_dict`, `copy_`). Only an edit through `.data` does not raise it. Of an adapter on the CPU, a few values of
each matrix are compared as well, which reveals such edits too; after an edit of the base, or of an adapter on another
device, through `.data`, call `AdaCLIP.forget()`.
"""

from __future__ import annotations

import copy
import operator
import re
import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer
    from transformers import CLIPTextModelWithProjection

MERGED_COPIES = 2  # adapters whose merged weights are kept, for comparisons of two
SAMPLED = 8  # values of each adapter matrix that are compared
CACHE_BYTES = 32 * 2**20  # about 10,000 pooled vectors of ViT-B/32, or 1,200 prompts with their token states
ENTRY_BYTES = 1024  # cost of a cached prompt besides its tensors: its ids as the key, and Python objects


def merge(
    text_model: PeftModel, adapter: str | None, *, share: bool, strength: float = 1.0
) -> CLIPTextModelWithProjection:
    """Return a plain copy of the model in eval mode with an adapter merged (None: the base alone).

    `strength` scales the adapter's change of every weight. With `share`, the copy shares the tensors that the adapter
    does not change: at ViT-B/32, 138 of 254 MB are copied.
    """
    memo: dict[int, object] = {}
    layers = _lora_layers(text_model)
    # Weights into which peft has merged an adapter are not the base's, so they are copied and restored.
    merged = any(layer.merged_adapters for layer in layers)
    if share:
        copied = [layer for layer in layers if layer.merged_adapters or (adapter in layer.scaling)]
        touched = {id(parameter) for layer in copied for parameter in layer.get_base_layer().parameters()}
        memo = {id(p): p for p in text_model.parameters() if id(p) not in touched}
    clone = copy.deepcopy(text_model, memo)
    with torch.no_grad(), torch.autocast(text_model.device.type, enabled=False):  # which would round the product B A
        if merged:
            clone.unmerge_adapter()
        before = _changed_values(clone, adapter) if strength != 1 else {}
        _choose_saved_modules(clone, adapter)
        plain = clone.unload() if adapter is None else clone.merge_and_unload(adapter_names=[adapter])
        for name, value in before.items():
            module, _, kind = name.rpartition(".")
            parameter = getattr(plain.get_submodule(module), kind)
            blended = torch.lerp(value.float(), parameter.float(), strength).to(parameter.dtype)
            setattr(plain.get_submodule(module), kind, torch.nn.Parameter(blended, parameter.requires_grad))
    return plain.eval()


def _changed_values(text_model: PeftModel, adapter: str | None) -> dict[str, Tensor]:
    """Return copies of the base's parameters in the modules that the adapter changes, under the base's names."""
    values = {}
    for name, module in text_model.base_model.model.named_modules():
        scales = getattr(module, "scaling", None)  # of peft's layers a dict, of transformers' attention a number
        original = getattr(module, "base_layer", None) if isinstance(scales, dict) and adapter in scales else None
        if adapter in getattr(module, "modules_to_save", ()):
            original = module.original_module
        for kind, parameter in original.named_parameters() if original is not None else ():
            values[f"{name}.{kind}"] = parameter.detach().clone()
    return values


def _choose_saved_modules(text_model: PeftModel, adapter: str | None) -> None:
    """Put the adapter's own modules (`modules_to_save`), or the base's, in the place of peft's wrappers.

    peft itself takes the modules of the active adapter, even to leave all adapters out.
    """
    from peft.utils.other import ModulesToSaveWrapper

    root = text_model.base_model.model
    for name, module in [item for item in root.named_modules() if isinstance(item[1], ModulesToSaveWrapper)]:
        parent, _, child = name.rpartition(".")
        own = dict(module.modules_to_save).get(adapter, module.original_module)
        setattr(root.get_submodule(parent), child, own)


class _Watch:
    """The parameters that merged weights depend on, found by one walk over the modules."""

    def __init__(self, text_model: PeftModel) -> None:
        self.text_model = text_model
        # Without modules that have no parts: an adapter, too, is added where parts are.
        self._children = [(m._modules, tuple(m._modules.values())) for m in text_model.modules() if m._modules]
        self._layers = _lora_layers(text_model)
        # Tables and keys instead of tensors, because `load_state_dict(assign=True)` and others replace the tensors.
        self._slots = [
            (f"{prefix}.{key}", module._parameters, key)
            for prefix, module in text_model.named_modules()
            for key in module._parameters
        ]
        self._slots_of: dict[str | None, list[tuple[dict, str]]] = {}

    def covers(self, text_model: PeftModel) -> bool:
        """Tell whether the model has the modules that were found."""
        return self.text_model is text_model and all(tuple(now.values()) == found for now, found in self._children)

    def facts(self, adapter: str | None) -> tuple[list[Tensor], list[object]]:
        """Return the tensors that the merged weights of `adapter` depend on, and facts that change with them."""
        if adapter not in self._slots_of:
            own = [slot for slot in self._slots if not of_adapter(slot[0]) or is_of(slot[0], adapter)]
            self._slots_of[adapter] = [(table, key) for _, table, key in own]
        tensors = [table[key] for table, key in self._slots_of[adapter] if table.get(key) is not None]
        facts: list[object] = [layer.scaling.get(adapter) for layer in self._layers]
        facts += [tuple(layer.merged_adapters) for layer in self._layers]
        for tensor in tensors:
            # An inference tensor has no counter, and cannot be edited in place outside inference mode.
            facts += (tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version, tensor.dtype)
        return tensors, facts

    def disabled(self) -> bool:
        """Tell whether peft leaves the adapters out of its forward pass."""
        return any(layer.disable_adapters for layer in self._layers)

    def sampled(self, adapter: str | None) -> list[Tensor]:
        """Return views of some values of each matrix of the adapter on the CPU."""
        found = [table[key] for name, table, key in self._slots if is_of(name, adapter)]
        own = [tensor.detach().flatten() for tensor in found if tensor is not None]
        return [flat[:: max(1, len(flat) // SAMPLED)] for flat in own if flat.device.type == "cpu" and len(flat)]


class _Merged:
    """Merged weights with the facts that they were made from."""

    def __init__(self, watch: _Watch, adapter: str | None, strength: float, state: int) -> None:
        self.state = state
        self.tensors, self.facts = watch.facts(adapter)  # the tensors, so that no other can take their addresses
        self.views = watch.sampled(adapter)
        self.sample = torch.cat(self.views) if self.views else None
        self.model = merge(watch.text_model, adapter, share=True, strength=strength)

    def current(self, tensors: list[Tensor], facts: list[object]) -> bool:
        """Tell whether the weights are still those that were merged."""
        if facts != self.facts or not all(map(operator.is_, tensors, self.tensors)):
            return False
        return self.sample is None or torch.equal(torch.cat(self.views), self.sample)


class InferenceWeights:
    """Merged weights of the adapters in use, merged again after a change. Threads may share an instance.

    A copy is empty, because merged weights belong to the original's parameters.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str | None, float], _Merged] = OrderedDict()
        self._state = 0
        self._watch: _Watch | None = None
        self._lock = threading.Lock()

    def get(
        self, text_model: PeftModel, adapter: str | None, strength: float = 1.0, *, follow_peft: bool = False
    ) -> tuple[CLIPTextModelWithProjection, int]:
        """Return the merged model (None: the base), and a number that identifies this state of the weights.

        With `follow_peft`, the base takes the adapter's place while peft's own `disable_adapter` is in force.
        """
        with self._lock:
            if self._watch is None or not self._watch.covers(text_model):
                self._watch = _Watch(text_model)
            if follow_peft and self._watch.disabled():
                adapter = None
            key = (adapter, 1.0 if adapter is None else strength)
            strength = key[1]
            if key not in self._kept or not self._kept[key].current(*self._watch.facts(adapter)):
                self._kept.pop(key, None)  # first, so that the old and the new copy never exist together
                while len(self._kept) >= MERGED_COPIES:
                    self._kept.popitem(last=False)
                self._state += 1
                self._kept[key] = _Merged(self._watch, adapter, strength, self._state)
            self._kept.move_to_end(key)
            return self._kept[key].model, self._kept[key].state

    def clear(self) -> None:
        """Drop all merged weights."""
        with self._lock:
            self._kept.clear()

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
    """The prompts used last, up to `max_bytes` (0 keeps none). Threads may share an instance; a copy is empty."""

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
                self.nbytes -= self._entries.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self.nbytes = 0

    def __reduce__(self) -> tuple:
        return PromptCache, (self.max_bytes,)


def _lora_layers(text_model: PeftModel) -> list[LoraLayer]:
    from peft.tuners.lora import LoraLayer

    return [module for module in text_model.modules() if isinstance(module, LoraLayer)]


_OF_ADAPTERS = re.compile(r"\.(?:lora_\w+|modules_to_save)\.")


def of_adapter(parameter: str) -> bool:
    """Tell whether a parameter belongs to an adapter, by its name; the base's do not."""
    return _OF_ADAPTERS.search(parameter) is not None


def is_of(parameter: str, adapter: str | None) -> bool:
    """Tell whether a parameter belongs to the adapter, by its name (`….lora_A.kit.weight`)."""
    found = _OF_ADAPTERS.search(parameter)
    return found is not None and parameter[found.end() :].partition(".")[0] == adapter
