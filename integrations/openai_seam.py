"""What stands for `import clip` in a file of MDM or MoMask: AdaCLIP, or on request OpenAI's own package."""

from __future__ import annotations

import ast
import importlib
import types
from collections.abc import Sequence
from typing import TYPE_CHECKING

from adaclip_integrations import selection
from adaclip_integrations.patching import Edit, sets_attribute, uses

from adaclip.config import AdaCLIPError
from adaclip.fingerprint import guard

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaclip.frozen import FrozenEncoder
    from adaclip.model import AdaCLIP

# Width of the pooled vector of OpenAI's models, which callers have built their networks for.
WIDTHS = {"ViT-B/32": 512, "ViT-B/16": 512, "ViT-L/14": 768, "ViT-L/14@336px": 768}
SERVED = {"load", "tokenize", "model.convert_weights"}
IMPORT = r"import[ \t]+clip[ \t]*(#.*)?"


class Clip:
    """OpenAI's `clip` module, as far as its callers use it. What it serves is chosen at the first `load`."""

    def __init__(self, weights: str) -> None:
        """weights: the adapter to serve unless the environment says otherwise (`selection`); not opened yet."""
        self.weights = weights
        self.model = types.SimpleNamespace(convert_weights=self._convert_weights)
        self._frozen: FrozenEncoder | None = None

    def load(self, name: str, device: object = None, jit: bool = False, download_root: str | None = None) -> tuple:
        """The encoder, and where OpenAI's returns image preprocessing a function that refuses."""
        from adaclip.openai_clip import refuse_image, usual_device

        weights = selection.selected(self.weights)
        if weights is None:
            model, preprocess = _openai().load(name, device=device, jit=jit, download_root=download_root)
            guard(model, None)
            return model, preprocess
        if self._frozen is None:
            self._frozen = _frozen(selection.encoder(weights))
        width = self._frozen.projection_size
        if WIDTHS.get(name, width) != width:
            raise AdaCLIPError(
                f"CLIP {name} gives vectors of {WIDTHS[name]} numbers, and AdaCLIP {weights} of {width}. "
                "Use an adapter that was made for that model."
            )
        return self._frozen.to(usual_device(device)), refuse_image

    def tokenize(self, texts: str | Sequence[str], context_length: int = 77, truncate: bool = False) -> Tensor:
        """Token ids of the model loaded last; says once when prompts are cut."""
        if self._frozen is None:
            return _openai().tokenize(texts, context_length, truncate)
        return self._frozen.tokenize(texts, context_length, truncate)

    def _convert_weights(self, model: nn.Module) -> None:
        """Halves OpenAI's matrices; AdaCLIP stays as precise as it was loaded."""
        if self._frozen is None:
            _openai().model.convert_weights(model)


def import_edit(file: str, served: str) -> Edit:
    """The edit of a file that loads CLIP, tokenises and keeps the encoder as `clip_model`. served: an expression."""

    def misses(tree: ast.Module) -> str | None:
        used = uses(tree, "clip")
        if not {"load", "tokenize"} <= used:
            return "calls of clip.load and clip.tokenize"
        if not used <= SERVED:
            return f"no use of clip but {', '.join(sorted(SERVED))} (it uses clip.{min(used - SERVED)})"
        return None if sets_attribute(tree, "clip_model") else "the encoder kept in an attribute clip_model"

    module = served.partition("(")[0].rpartition(".")[0]
    return Edit(file, IMPORT, f"import {module}; clip = {served}", "the line import clip", misses)


def unused_import_edit(file: str) -> Edit:
    """The edit of a file that imports CLIP and does nothing with it."""

    def misses(tree: ast.Module) -> str | None:
        return "no use of the imported clip" if uses(tree, "clip") else None

    return Edit(file, IMPORT, "pass", "the line import clip", misses)


def require(model: object, codebase: str, expected: dict[str, str]) -> None:
    """TypeError unless the model has what its codebase's has. expected: attribute -> the file that defines it."""
    for name, file in expected.items():
        if not hasattr(model, name):
            raise TypeError(
                f"Expected {codebase} with `{name}` ({file}), got {type(model).__name__}, which has none. "
                "Pass the model itself, not a wrapper around it."
            )


def frozen_for(adaclip: AdaCLIP, layer: nn.Module, codebase: str) -> FrozenEncoder:
    """The encoder on the device of the layer that reads its pooled vector; TypeError when the widths differ."""
    frozen = _frozen(adaclip)
    if layer.in_features != frozen.projection_size:
        raise TypeError(
            f"This {codebase} reads text vectors of {layer.in_features} numbers, and AdaCLIP {adaclip.base} gives "
            f"{frozen.projection_size}. Use an adapter that was made for the CLIP it was built with."
        )
    return frozen.to(layer.weight.device)


def _frozen(adaclip: AdaCLIP) -> FrozenEncoder:
    from adaclip.fingerprint import note_saves
    from adaclip.frozen import FrozenEncoder

    note_saves()
    return FrozenEncoder(adaclip)


def _openai() -> types.ModuleType:
    try:
        return importlib.import_module("clip")
    except ImportError as error:
        raise AdaCLIPError(
            f"{selection.WEIGHTS} asks for the codebase's own CLIP, and the package clip cannot be imported ({error}). "
            "Install it as the codebase says, or name an adapter."
        ) from error
