"""AdaCLIP: CLIP's text encoder with a LoRA adapter that has learnt what text means for motion.

from adaclip import AdaCLIP
encoder = AdaCLIP.from_pretrained("runs/demo/adaclip")
vectors = encoder.encode(["a person slowly walks backwards", "a person waves twice"])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["AdaCLIP", "AdaCLIPError", "CardDetails", "LoRASettings", "TextFeatures", "__version__"]

_HOME = {
    "AdaCLIP": "adaclip.model",
    "AdaCLIPError": "adaclip.config",
    "CardDetails": "adaclip.card",
    "LoRASettings": "adaclip.config",
    "TextFeatures": "adaclip.encoding",
}

if TYPE_CHECKING:
    from adaclip.card import CardDetails
    from adaclip.config import AdaCLIPError, LoRASettings
    from adaclip.encoding import TextFeatures
    from adaclip.model import AdaCLIP


def __getattr__(name: str) -> object:
    # torch, transformers and peft cost seconds to import: they are loaded when a public name is first used.
    if name not in _HOME:
        raise AttributeError(f"module 'adaclip' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
