"""The stand-in for OpenAI's package `clip` and its submodules while a script runs.

It serves the CLIP whose place the adapter takes. For names that it does not define, and for places that keep their own
CLIP, it uses the installed package.
"""

from __future__ import annotations

import functools
import importlib
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from adaclip_integrations import IntegrationError, patches, places
from adaclip_integrations.frozen import FrozenEncoder
from torch import Tensor, nn

from adaclip import openai_clip
from adaclip.openai_clip import prompt_ids

if TYPE_CHECKING:
    from adaclip_integrations.replacement import Replacement


class ClipPackage:
    """The modules, and the real package behind them."""

    def __init__(self, replacement: Replacement) -> None:
        self.replacement = replacement
        self._real: dict[str, types.ModuleType] = {}
        functions = {
            "load": self.load,
            "tokenize": self.tokenize,
            "available_models": lambda: [replacement.stands_for.openai] if replacement.stands_for else [],
        }
        tokenizer = functools.partial(SimpleTokenizer, replacement)
        self.clip = patches.module("clip.clip", **functions, _MODELS={}, __getattr__=self._attribute("clip.clip"))
        self.model = patches.module(
            "clip.model",
            convert_weights=self.convert_weights,
            build_model=self.build_model,
            CLIP=FrozenEncoder,
            __getattr__=self._attribute("clip.model"),
        )
        self.simple_tokenizer = patches.module(
            "clip.simple_tokenizer",
            SimpleTokenizer=tokenizer,
            __getattr__=self._attribute("clip.simple_tokenizer"),
        )
        parts = {"clip": self.clip, "model": self.model, "simple_tokenizer": self.simple_tokenizer}
        self.package = patches.module("clip", **parts, **functions, __getattr__=self._attribute("clip"))

    def enter(self, undo: ExitStack) -> None:
        """Make the stand-ins importable until `undo` closes."""
        stand_ins = (self.package, self.clip, self.model, self.simple_tokenizer)
        self._real = undo.enter_context(patches.package(*stand_ins))

    def load(
        self, name: str, device: object = None, jit: bool = False, download_root: str | None = None
    ) -> tuple[nn.Module, Callable]:
        """Return the encoder; where the place keeps its own CLIP, what the real `clip.load` returns."""
        call = f"clip.load({str(name)!r})"
        if not self.replacement.serves(call, name):
            return self.real().load(name, device=device, jit=jit, download_root=download_root)
        return self.replacement.frozen.to(openai_clip.usual_device(device)), openai_clip.refuse_image

    @patches.uncompiled
    def tokenize(self, texts: str | Sequence[str], context_length: int = 77, truncate: bool = False) -> Tensor:
        """Return token ids; of places that keep their own CLIP, those of the real package."""
        frame = places.caller()
        if places.keeps(frame, self.replacement.keep) and self._present():
            return self.real().tokenize(texts, context_length, truncate)
        return self.replacement.frozen.tokenize(texts, context_length, truncate)

    def build_model(self, state_dict: Mapping[str, Tensor]) -> nn.Module:
        """Return the encoder for OpenAI weights of the same sizes, which a script has read by itself."""
        hidden, projection = state_dict["text_projection"].shape
        if not self.replacement.serves("clip.model.build_model", None, (hidden, projection)):
            return self.real("clip.model").build_model(state_dict)
        return self.replacement.frozen

    def convert_weights(self, model: nn.Module) -> None:
        """Convert another model's matrices to half precision; AdaCLIP keeps its precision."""
        if not isinstance(model, FrozenEncoder):
            openai_clip.convert_weights(model)

    def real(self, name: str = "clip") -> types.ModuleType:
        """Return a module of the installed package; raise IntegrationError without one."""
        if name not in self._real:
            covered = patches.forget("clip")
            sys.modules.update(self._real)
            try:
                importlib.import_module(name)
            except ImportError as error:
                raise IntegrationError(
                    f"This place keeps its own CLIP, and the package clip cannot be imported ({error}). Install "
                    "openai-clip; with current packages, run with --compat too."
                ) from error
            finally:
                self._real.update(patches.forget("clip"))
                sys.modules.update(covered)
        return self._real[name]

    def _present(self) -> bool:
        return "clip" in self._real

    def _attribute(self, module: str) -> Callable[[str], object]:
        """Return a module's `__getattr__`: what the stand-in does not define comes from the installed package."""

        def attribute(name: str) -> object:
            if name.startswith("__"):
                raise AttributeError(name)
            if (module, name) == ("clip.clip", "_tokenizer"):
                return self.simple_tokenizer.SimpleTokenizer()
            try:
                return getattr(self.real(module), name)
            except (AttributeError, IntegrationError) as error:
                raise AttributeError(f"The stand-in for {module} has no {name}, nor has an installed one.") from error

        return attribute


class SimpleTokenizer:
    """OpenAI's tokenizer class: ids without the start and the end."""

    def __init__(self, replacement: Replacement, *_: object, **__: object) -> None:
        self._tokenizer = replacement.adaclip.tokenizer
        self.encoder: dict[str, int] = dict(self._tokenizer.get_vocab())
        self.decoder = {number: token for token, number in self.encoder.items()}

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text."""
        return prompt_ids(text, self._tokenizer)[1:-1]

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of ids, with a space after each word as OpenAI's does."""
        return "".join(self.decoder[int(token)] for token in tokens).replace("</w>", " ")
