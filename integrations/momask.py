"""MoMask (EricGuo5513/momask-codes): CLIP's pooled vector, in the mask and in the residual transformer.

Seam: `models/mask_transformer/transformer.py` loads CLIP in each class's `load_and_freeze_clip`, keeps it as
`clip_model` and encodes in `encode_text`. The name must stay: the trainers and the scripts that load tell the encoder
by it. `utils/eval_t2m.py` imports CLIP and does not use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adaclip_integrations import patching
from adaclip_integrations.openai_seam import Clip, frozen_for, import_edit, require, unused_import_edit

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaclip.frozen import FrozenEncoder
    from adaclip.model import AdaCLIP

NAME = "MoMask"
FILE = "models/mask_transformer/transformer.py"
EDITS = (
    import_edit(FILE, "adaclip_integrations.momask.served({weights})"),
    unused_import_edit("utils/eval_t2m.py"),
)


def served(weights: str) -> Clip:
    """What the patched file has as `clip`; both transformers share one encoder."""
    return Clip(weights)


def swap_encoder(model: nn.Module, adaclip: AdaCLIP) -> nn.Module:
    """Puts AdaCLIP in the place of the CLIP of a mask or residual transformer that exists; returns the model.

    Do it before a checkpoint is loaded, which is then compared with the encoder. TypeError for other models.
    """
    require(model, NAME, dict.fromkeys(("clip_model", "encode_text", "cond_emb"), FILE))
    model.clip_model = frozen_for(adaclip, model.cond_emb, NAME)
    model.encode_text = _Encode(model.clip_model)
    return model


class _Encode:
    """MoMask's `encode_text`: prompts -> (B, P)."""

    def __init__(self, encoder: FrozenEncoder) -> None:
        self.encoder = encoder

    def __call__(self, raw_text: Sequence[str]) -> Tensor:
        return self.encoder.encode_text(list(raw_text))


_PATCH = patching.Patch(EDITS)
check, apply, revert = _PATCH.check, _PATCH.apply, _PATCH.revert
