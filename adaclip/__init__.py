"""AdaCLIP: CLIP's text encoder with a LoRA adapter that has learnt what text means for motion.

from adaclip import AdaCLIP
encoder = AdaCLIP.from_pretrained("runs/demo/adaclip")
vectors = encoder.encode(["a person slowly walks backwards", "a person waves twice"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaclip._startup import lazy

__version__ = "0.2.0"
__all__ = ["AdaCLIP", "AdaCLIPError", "CardDetails", "LoRASettings", "TextFeatures", "__version__"]

__getattr__ = lazy(
    __name__,
    AdaCLIP="adaclip.model",
    AdaCLIPError="adaclip.config",
    CardDetails="adaclip.card",
    LoRASettings="adaclip.config",
    TextFeatures="adaclip.encoding",
)

if TYPE_CHECKING:
    from adaclip.card import CardDetails
    from adaclip.config import AdaCLIPError, LoRASettings
    from adaclip.encoding import TextFeatures
    from adaclip.model import AdaCLIP


def __dir__() -> list[str]:
    return sorted(__all__)
