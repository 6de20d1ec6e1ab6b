"""The stand-in for `import clip` in edited files: AdaCLIP, or on request OpenAI's own package."""

from __future__ import annotations

import importlib
import types
from collections.abc import Sequence
from typing import ClassVar

from adaclip_integrations import IntegrationError, checkpoints, places, selection
from adaclip_integrations.fingerprint import guard
from adaclip_integrations.frozen import FrozenEncoder
from adaclip_integrations.names import named, takes_place_of
from torch import Tensor, nn

from adaclip.model import AdaCLIP
from adaclip.openai_clip import refuse_image, usual_device


class Clip:
    """OpenAI's `clip` module, as far as its callers use it.

    The first `load` selects and opens the encoder: `weights`, unless the environment names another (`selection`). A
    file that only tokenises uses the encoder that another file has loaded.
    """

    _latest: ClassVar[FrozenEncoder | None] = None

    def __init__(self, weights: str) -> None:
        self.weights = weights
        self.model = types.SimpleNamespace(convert_weights=self._convert_weights)
        self._frozen: FrozenEncoder | None = None

    def load(self, name: str, device: object = None, jit: bool = False, download_root: str | None = None) -> tuple:
        """Return the encoder and, in the place of image preprocessing, a function that raises."""
        weights = selection.selected(self.weights)
        if weights is None:
            model, preprocess = _openai().load(name, device=device, jit=jit, download_root=download_root)
            declare_vanilla(model)
            return model, preprocess
        adaclip = selection.encoder(weights)
        check_name(name, weights, adaclip)
        if self._frozen is None:
            self._frozen = frozen(adaclip)
            Clip._latest = self._frozen
            checkpoints.declare(self._frozen.record)
        places.serve(f"clip.load({str(name)!r})", f"{weights} (base {adaclip.base})")
        return self._frozen.to(usual_device(device)), refuse_image

    def tokenize(self, texts: str | Sequence[str], context_length: int = 77, truncate: bool = False) -> Tensor:
        """Return token ids for the model that was loaded last; warn once when prompts are cut."""
        encoder = self._frozen or Clip._latest
        if encoder is None or selection.selected(self.weights) is None:
            return _openai().tokenize(texts, context_length, truncate)
        return encoder.tokenize(texts, context_length, truncate)

    def _convert_weights(self, model: nn.Module) -> None:
        """Convert OpenAI's matrices to half precision; AdaCLIP keeps its precision."""
        if self._frozen is None:
            _openai().model.convert_weights(model)


def require(model: object, codebase: str, expected: dict[str, str]) -> None:
    """Raise TypeError unless the model has the expected attributes, each with the file that defines it."""
    for name, file in expected.items():
        if not hasattr(model, name):
            raise TypeError(
                f"Expected {codebase} with `{name}` ({file}), got {type(model).__name__}, which has none. "
                "Pass the model itself, not a wrapper around it."
            )


def check_name(name: object, weights: str, adaclip: AdaCLIP) -> None:
    """Raise IntegrationError if `name` is a published CLIP and the adapter was made for another one."""
    asked, ours = named(name), takes_place_of(adaclip)
    if asked is not None and asked is not ours:
        raise IntegrationError(
            f"The code loads CLIP {name}, with states of {asked.hidden} and vectors of {asked.projection} numbers, and "
            f"AdaCLIP {weights} was made for {(ours.openai or ours.hf) if ours else adaclip.base}, with "
            f"{adaclip.hidden_size} and {adaclip.projection_size}. Use an adapter that was made for that model."
        )


def declare_vanilla(model: nn.Module) -> None:
    """State that this process runs with the codebase's own CLIP: checkpoints of AdaCLIP do not load."""
    checkpoints.record_always()
    checkpoints.declare(None)
    guard(model, None)


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
    """Return the encoder for a training loop, whose checkpoints are recorded from now on."""
    checkpoints.record_always()
    return kind(adaclip)


def _openai() -> types.ModuleType:
    try:
        return importlib.import_module("clip")
    except ImportError as error:
        raise IntegrationError(
            f"{selection.WEIGHTS} selects the codebase's own CLIP, and the package clip cannot be imported ({error}). "
            "Install it as the codebase describes, or name an adapter."
        ) from error
