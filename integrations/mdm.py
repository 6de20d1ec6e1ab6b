"""MDM (GuyTevet/motion-diffusion-model): CLIP's pooled vector of at most 22 tokens.

Seam: `model/mdm.py` loads CLIP in `load_and_freeze_clip`, keeps it as `clip_model` and encodes in `clip_encode_text`,
which `__init__` also assigns to `encode_text`. The name `clip_model` must stay: saving (`train/training_loop.py`) and
loading (`utils/model_util.py`) recognise the encoder by it. MDM passes all parameters to its optimiser and copies the
whole model for its moving average.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from adaclip_integrations import patching
from adaclip_integrations.edits import import_edit
from adaclip_integrations.frozen import FrozenEncoder
from adaclip_integrations.openai_seam import Clip, frozen_for, require
from torch import Tensor, nn

from adaclip.model import AdaCLIP

NAME = "MDM"
FILE = "model/mdm.py"
EDITS = (import_edit(FILE, "adaclip_integrations.mdm.served({weights})"),)
TOKENS = 22  # start, 20 tokens, end: `clip_encode_text`, for humanml and kit
served = Clip  # what the edited file names `clip`


def swap_encoder(model: nn.Module, adaclip: AdaCLIP) -> nn.Module:
    """Replace the CLIP of an MDM by AdaCLIP.

    Call it before you load a checkpoint, which is then compared with the encoder.

    Args:
        model: MDM's model; it is changed in place.
        adaclip: The encoder.

    Returns:
        The model.

    Raises:
        TypeError: The model is not an MDM that reads CLIP, or it was built for vectors of another width.
    """
    require(model, NAME, dict.fromkeys(("clip_model", "encode_text", "embed_text", "dataset"), FILE))
    if getattr(model, "text_encoder_type", "clip") != "clip":
        raise TypeError(f"This MDM encodes text with {model.text_encoder_type} ({FILE}); AdaCLIP replaces CLIP only.")
    model.clip_model = frozen = frozen_for(adaclip, model.embed_text, NAME)
    tokens = TOKENS if model.dataset in ("humanml", "kit") else frozen.context_length
    model.encode_text = functools.partial(_encode_text, frozen, tokens)  # type: ignore[assignment]
    return model


def _encode_text(encoder: FrozenEncoder, tokens: int, raw_text: Sequence[str]) -> Tensor:
    """MDM's `encode_text`: prompts -> (1, B, P)."""
    ids = encoder.tokenize(raw_text, tokens, truncate=True)
    return encoder.encode_text(ids.to(encoder.device))[None]


_PATCH = patching.Patch(EDITS)
check, apply, revert = _PATCH.check, _PATCH.apply, _PATCH.revert
