"""The stand-in for `import clip` in files of MDM and MoMask: AdaCLIP, or on request OpenAI's own package."""

from __future__ import annotations

import ast
import importlib
import types
from collections.abc import Sequence

from adaclip_integrations import IntegrationError, selection
from adaclip_integrations.fingerprint import guard, note_saves
from adaclip_integrations.frozen import FrozenEncoder
from adaclip_integrations.patching import Edit, sets_attribute, uses
from torch import Tensor, nn

from adaclip.model import AdaCLIP
from adaclip.openai_clip import refuse_image, usual_device

# Width of the pooled vector of OpenAI's models; callers build their networks for it.
WIDTHS = {"ViT-B/32": 512, "ViT-B/16": 512, "ViT-L/14": 768, "ViT-L/14@336px": 768}
SERVED = {"load", "tokenize", "model.convert_weights"}
IMPORT = r"import[ \t]+clip[ \t]*(#[^\r\n]*)?"


class Clip:
    """OpenAI's `clip` module, as far as its callers use it.

    The first `load` selects and opens the encoder: `weights`, unless the environment names another (`selection`).
    """

    def __init__(self, weights: str) -> None:
        self.weights = weights
        self.model = types.SimpleNamespace(convert_weights=self._convert_weights)
        self._frozen: FrozenEncoder | None = None

    def load(self, name: str, device: object = None, jit: bool = False, download_root: str | None = None) -> tuple:
        """Return the encoder and, in the place of image preprocessing, a function that raises."""
        weights = selection.selected(self.weights)
        if weights is None:
            model, preprocess = _openai().load(name, device=device, jit=jit, download_root=download_root)
            guard(model, None)
            return model, preprocess
        if self._frozen is None:
            self._frozen = frozen(selection.encoder(weights))
        check_width(f"CLIP {name}", WIDTHS.get(name), weights, self._frozen.projection_size)
        return self._frozen.to(usual_device(device)), refuse_image

    def tokenize(self, texts: str | Sequence[str], context_length: int = 77, truncate: bool = False) -> Tensor:
        """Return token ids for the model that was loaded last; warn once when prompts are cut."""
        if self._frozen is None:
            return _openai().tokenize(texts, context_length, truncate)
        return self._frozen.tokenize(texts, context_length, truncate)

    def _convert_weights(self, model: nn.Module) -> None:
        """Convert OpenAI's matrices to half precision; AdaCLIP keeps its precision."""
        if self._frozen is None:
            _openai().model.convert_weights(model)


def import_edit(file: str, served: str) -> Edit:
    """Return the edit of a file that loads CLIP, tokenises and keeps the encoder as `clip_model`."""

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
    """Return the edit of a file that imports CLIP and does not use it."""

    def misses(tree: ast.Module) -> str | None:
        return "no use of the imported clip" if uses(tree, "clip") else None

    return Edit(file, IMPORT, "pass", "the line import clip", misses)


def require(model: object, codebase: str, expected: dict[str, str]) -> None:
    """Raise TypeError unless the model has the expected attributes, each with the file that defines it."""
    for name, file in expected.items():
        if not hasattr(model, name):
            raise TypeError(
                f"Expected {codebase} with `{name}` ({file}), got {type(model).__name__}, which has none. "
                "Pass the model itself, not a wrapper around it."
            )


def check_width(name: str, width: int | None, weights: str, ours: int) -> None:
    """Raise IntegrationError if `name` is known to have another width than the adapter."""
    if width not in (None, ours):
        raise IntegrationError(
            f"{name} has text features of {width} numbers, and AdaCLIP {weights} of {ours}. "
            "Use an adapter that was made for that model."
        )


def frozen_for(
    adaclip: AdaCLIP, layer: nn.Module, codebase: str, kind: type[FrozenEncoder] = FrozenEncoder
) -> FrozenEncoder:
    """Return the encoder on the device of the layer that reads its output; TypeError when the widths differ."""
    encoder = frozen(adaclip, kind)
    if layer.in_features != encoder.output_size:
        raise TypeError(
            f"This {codebase} reads text features of {layer.in_features} numbers, and AdaCLIP {adaclip.base} gives "
            f"{encoder.output_size}. Use an adapter that was made for the CLIP it was built with."
        )
    return encoder.to(layer.weight.device)


def frozen(adaclip: AdaCLIP, kind: type[FrozenEncoder] = FrozenEncoder) -> FrozenEncoder:
    """Return the encoder for a training loop, whose checkpoints are noted from now on."""
    note_saves()
    return kind(adaclip)


def _openai() -> types.ModuleType:
    try:
        return importlib.import_module("clip")
    except ImportError as error:
        raise IntegrationError(
            f"{selection.WEIGHTS} selects the codebase's own CLIP, and the package clip cannot be imported ({error}). "
            "Install it as the codebase describes, or name an adapter."
        ) from error
