"""The text encoders that programs load by name, and which of them an adapter can take the place of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from adaclip.towers import CLIP

if TYPE_CHECKING:
    from adaclip.model import AdaCLIP


class Published(NamedTuple):
    """A published CLIP with the sizes of its text tower."""

    openai: str  # name for OpenAI's `clip.load`; empty: not one of OpenAI's
    hf: str  # last part of the Hub id; empty: not there
    hidden: int  # width of the token states
    projection: int  # width of the pooled vector

    def is_named(self, name: object) -> bool:
        """Tell whether a name, a file, or a folder (of the Hub's cache too) stands for this model."""
        if not isinstance(name, str | os.PathLike):
            return False
        parts = Path(name).parts
        last = parts[-1] if parts else ""
        if self.openai and (str(name) == self.openai or last.removesuffix(".pt") == self.openai.replace("/", "-")):
            return True
        return bool(self.hf) and (last == self.hf or self._is_cached(parts))

    def _is_cached(self, parts: tuple[str, ...]) -> bool:
        return any(part.startswith("models--") and part.endswith(f"--{self.hf}") for part in parts)


PUBLISHED = (
    Published("ViT-B/32", "clip-vit-base-patch32", 512, 512),
    Published("ViT-B/16", "clip-vit-base-patch16", 512, 512),
    Published("ViT-L/14", "clip-vit-large-patch14", 768, 768),
    Published("ViT-L/14@336px", "clip-vit-large-patch14-336", 768, 768),
    Published("RN50", "", 512, 1024),
    Published("RN101", "", 512, 512),
    Published("RN50x4", "", 640, 640),
    Published("RN50x16", "", 768, 768),
    Published("RN50x64", "", 1024, 1024),
    Published("", "CLIP-ViT-H-14-laion2B-s32B-b79K", 1024, 1024),
    Published("", "CLIP-ViT-bigG-14-laion2B-39B-b160k", 1280, 1280),
)


def named(name: object) -> Published | None:
    """Return the published CLIP of a name, if it is one."""
    return next((model for model in PUBLISHED if model.is_named(name)), None)


def takes_place_of(adaclip: AdaCLIP) -> Published | None:
    """Return the model whose place an adapter takes: for CLIP see `stands_for`, for other families the base by name."""
    sizes = (adaclip.hidden_size, adaclip.projection_size)
    if adaclip.tower is CLIP:
        return stands_for(adaclip.base, *sizes)
    return Published("", Path(adaclip.base).name, *sizes)


def stands_for(base: str, hidden: int, projection: int) -> Published | None:
    """Return the published CLIP whose place an adapter takes.

    Sizes decide. The base's name decides between models of the same sizes, and for sizes that no published model has,
    such as a small copy under a published name. None: neither fits.
    """
    same = [model for model in PUBLISHED if (model.hidden, model.projection) == (hidden, projection)]
    by_name = named(base)
    if same:
        return by_name if by_name in same else same[0]
    return by_name
