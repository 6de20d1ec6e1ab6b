"""MoMask (EricGuo5513/momask-codes): CLIP's pooled vector, in the mask and in the residual transformer.

Seam: `models/mask_transformer/transformer.py` loads CLIP in each class's `load_and_freeze_clip`, keeps it as
`clip_model` and encodes in `encode_text`. The name must stay: the trainers and the scripts that load checkpoints
recognise the encoder by it. `utils/eval_t2m.py` imports CLIP and does not use it.
"""

from __future__ import annotations

from adaclip_integrations import patching
from adaclip_integrations.edits import import_edit, unused_import_edit
from adaclip_integrations.openai_seam import Clip, frozen_for, require
from torch import nn

from adaclip.model import AdaCLIP

NAME = "MoMask"
FILE = "models/mask_transformer/transformer.py"
EDITS = (import_edit(FILE, "adaclip_integrations.momask.served({weights})"), unused_import_edit("utils/eval_t2m.py"))
served = Clip  # what the edited file names `clip`; both transformers share one encoder


def swap_encoder(model: nn.Module, adaclip: AdaCLIP) -> nn.Module:
    """Replace the CLIP of a mask or residual transformer by AdaCLIP.

    Call it before you load a checkpoint, which is then compared with the encoder.

    Args:
        model: One of MoMask's two transformers; it is changed in place.
        adaclip: The encoder.

    Returns:
        The model.

    Raises:
        TypeError: The model is neither of the two, or it was built for vectors of another width.
    """
    require(model, NAME, dict.fromkeys(("clip_model", "encode_text", "cond_emb"), FILE))
    model.clip_model = frozen_for(adaclip, model.cond_emb, NAME)
    model.encode_text = model.clip_model.encode_text
    return model


_PATCH = patching.Patch(EDITS)
check, apply, revert = _PATCH.check, _PATCH.apply, _PATCH.revert
