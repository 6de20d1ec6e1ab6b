"""The codebases with edits: a module of its own for MDM, MoMask and SALAD, an entry of the table for the others.

An entry names the files that load CLIP or tokenise, where the encoder is kept, and the layer that reads its output.
"""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from adaclip_integrations.edits import import_edit, tokenizing_edit, unused_import_edit
from adaclip_integrations.patching import Edit, Patch, SeamError, State

if TYPE_CHECKING:
    from torch import nn

    from adaclip.model import AdaCLIP

OWN_MODULES = ("mdm", "momask", "salad")


@dataclass(frozen=True)
class Codebase:
    """A codebase that loads CLIP by `import clip`."""

    title: str
    repository: str  # owner/name on GitHub
    edits: tuple[Edit, ...]
    reads: Literal["pooled", "states"]  # features that the generator reads
    layer: str = ""  # attribute of the generator: the layer that reads the features; empty: CLIP is outside of it
    holder: str = "clip_model"  # attribute of the generator, or global name of the scripts, that keeps the encoder
    keeps: tuple[str, ...] = ()  # files whose CLIP stays: evaluation networks

    @property
    def EDITS(self) -> tuple[Edit, ...]:
        """The edits, under the name that the modules use."""
        return self.edits

    @property
    def _patch(self) -> Patch:
        return Patch(self.edits, self.keeps)

    def check(self, root: str | Path) -> dict[str, State]:
        """Return the state of each file, without writing; raise SeamError if one is not as expected."""
        return self._patch.check(root)

    def apply(self, root: str | Path, weights: str) -> list[str]:
        """Edit all files of a checkout or none, and return those that changed; raise SeamError otherwise."""
        return self._patch.apply(root, weights)

    def revert(self, root: str | Path) -> list[str]:
        """Restore every line that `apply` replaced, and return the files that changed."""
        return self._patch.revert(root)

    def swap_encoder(self, model: nn.Module, adaclip: AdaCLIP) -> nn.Module:
        """Replace the CLIP of a generator by AdaCLIP, before a checkpoint is loaded.

        Args:
            model: The codebase's generator; it is changed in place.
            adaclip: The encoder.

        Returns:
            The model.

        Raises:
            TypeError: The model is another one, was built for vectors of another width, or does not hold its CLIP.
        """
        from adaclip_integrations.openai_seam import frozen, require

        file = self.edits[0].file
        if not self.layer:
            raise TypeError(
                f"{self.title} keeps CLIP outside of its model, as the global {self.holder} of its scripts ({file}). "
                "In your own code use adaclip_integrations.frozen.FrozenEncoder(adaclip) in its place."
            )
        require(model, self.title, {self.holder: file, self.layer: file})
        encoder = frozen(adaclip)
        layer, ours = getattr(model, self.layer), encoder.width if self.reads == "states" else encoder.projection_size
        width = getattr(layer, "in_features", 512)  # MotionDiffuse has no layer for 512
        if width != ours:
            raise TypeError(
                f"This {self.title} reads text features of {width} numbers, and AdaCLIP {adaclip.base} gives {ours}. "
                "Use an adapter that was made for the CLIP it was built with."
            )
        parameter = next(layer.parameters(), None)
        setattr(model, self.holder, encoder if parameter is None else encoder.to(parameter.device))
        return model


TRANSFORMER = "models/mask_transformer/transformer.py"
TABLE = {
    "mardm": Codebase(
        "MARDM",
        "neu-vi/MARDM",
        (import_edit("models/MARDM.py"),),
        "pooled",
        "cond_emb",
        keeps=("utils/evaluators.py",),
    ),
    "t2m-gpt": Codebase(
        "T2M-GPT",
        "Mael-zys/T2M-GPT",
        (
            import_edit("train_t2m_trans.py"),
            import_edit("GPT_eval_multi.py"),
            tokenizing_edit("utils/eval_trans.py"),
        ),
        "pooled",
    ),
    "mmm": Codebase(
        "MMM",
        "exitudio/MMM",
        (
            import_edit("train_t2m_trans.py"),
            import_edit("GPT_eval_multi.py"),
            import_edit("generate.py"),
            tokenizing_edit("utils/eval_trans.py"),
        ),
        "states",
    ),
    "bamm": Codebase(
        "BAMM",
        "exitudio/BAMM",
        (import_edit(TRANSFORMER), unused_import_edit("utils/eval_t2m.py")),
        "pooled",
        "cond_emb",
    ),
    "guided-motion-diffusion": Codebase(
        "guided-motion-diffusion",
        "korrawe/guided-motion-diffusion",
        tuple(import_edit(f"model/{name}.py") for name in ("mdm_unet", "mdm", "mdm_dit")),
        "pooled",
        "embed_text",
    ),
    "omnicontrol": Codebase(
        "OmniControl", "neu-vi/OmniControl", (import_edit("model/cmdm.py"),), "pooled", "embed_text"
    ),
    "stablemofusion": Codebase(
        "StableMoFusion", "h-y1heng/StableMoFusion", (import_edit("models/unet.py"),), "states", "embed_text"
    ),
    "motiondiffuse": Codebase(
        "MotionDiffuse",
        "mingyuan-zhang/MotionDiffuse",
        (import_edit("text2motion/models/transformer.py", holder="clip"),),
        "states",
        "text_pre_proj",
        holder="clip",
    ),
}
NAMES = (*OWN_MODULES, *TABLE)


@functools.cache
def codebase(name: str) -> Codebase:
    """Return a codebase: an entry of the table, or the module of that name, which has the same functions."""
    return TABLE[name] if name in TABLE else importlib.import_module(f"adaclip_integrations.{name}")  # type: ignore[return-value]


def recognised(root: str | Path) -> list[str]:
    """Return the names of the codebases whose edits fit a checkout."""

    def fits(name: str) -> bool:
        try:
            return bool(codebase(name).check(root))
        except (SeamError, OSError):
            return False

    return [name for name in NAMES if fits(name)]
