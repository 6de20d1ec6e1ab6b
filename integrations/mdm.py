"""MDM (GuyTevet/motion-diffusion-model): CLIP's pooled vector of at most 22 tokens.

Seam: `model/mdm.py` loads CLIP in `load_and_freeze_clip`, keeps it as `clip_model` and encodes in `clip_encode_text`,
which `__init__` also puts into `encode_text`. The name `clip_model` must stay: saving (`train/training_loop.py`) and
loading (`utils/model_util.py`) tell the encoder by it. MDM hands all parameters to its optimiser and copies the whole
model for its moving average.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adaclip_integrations import patching
from adaclip_integrations.openai_seam import Clip, frozen_for, import_edit, require

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaclip.frozen import FrozenEncoder
    from adaclip.model import AdaCLIP

NAME = "MDM"
FILE = "model/mdm.py"
EDITS = (import_edit(FILE, "adaclip_integrations.mdm.served({weights})"),)
TOKENS = 22  # start, 20 tokens, end: `clip_encode_text`, for humanml and kit


def served(weights: str) -> Clip:
    """What the patched file has as `clip`."""
    return Clip(weights)


def swap_encoder(model: nn.Module, adaclip: AdaCLIP) -> nn.Module:
    """Puts AdaCLIP in the place of the CLIP of an MDM that exists; returns the model.

    Do it before a checkpoint is loaded, which is then compared with the encoder. TypeError for other models.
    """
    require(model, NAME, dict.fromkeys(("clip_model", "encode_text", "embed_text", "dataset"), FILE))
    if getattr(model, "text_encoder_type", "clip") != "clip":
        raise TypeError(f"This MDM reads text by {model.text_encoder_type} ({FILE}); AdaCLIP replaces CLIP only.")
    model.clip_model = frozen_for(adaclip, model.embed_text, NAME)
    tokens = TOKENS if model.dataset in ("humanml", "kit") else model.clip_model.context_length
    model.encode_text = _Encode(model.clip_model, tokens)
    return model


class _Encode:
    """MDM's `encode_text`: prompts -> (1, B, P)."""

    def __init__(self, encoder: FrozenEncoder, tokens: int) -> None:
        self.encoder, self.tokens = encoder, tokens

    def __call__(self, raw_text: Sequence[str]) -> Tensor:
        ids = self.encoder.tokenize(raw_text, self.tokens, truncate=True)
        return self.encoder.encode_text(ids.to(self.encoder.device))[None]


_PATCH = patching.Patch(EDITS)
check, apply, revert = _PATCH.check, _PATCH.apply, _PATCH.revert
