"""SALAD (seokhyeonhong/salad): CLIP's last hidden states of all 77 positions, with a mask of the real ones.

Seam: `models/denoiser/clip.py`, class `FrozenCLIPTextEncoder`, the denoiser's `clip_model`: tokenizer and model from
transformers' Auto classes, of which it calls the tokenizer and `model.text_model(ids).last_hidden_state`. The attention
to the text masks padding, so padded positions need not be computed. The name must stay: saving and loading recognise
the encoder by it. SALAD carries no licence, so none of its code is here.
"""

from __future__ import annotations

import ast
import functools
import types
from collections.abc import Sequence
from typing import TYPE_CHECKING

from adaclip_integrations import checkpoints, patching, places, selection
from adaclip_integrations.compat import move_cache
from adaclip_integrations.frozen import FrozenEncoder
from adaclip_integrations.openai_seam import check_name, declare_vanilla, frozen, frozen_for, require
from adaclip_integrations.patching import Edit, uses
from torch import Tensor, nn

from adaclip.model import AdaCLIP
from adaclip.text import clean

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["apply", "check", "move_cache", "revert", "served", "swap_encoder"]  # edited files import move_cache here

NAME = "SALAD"
FILE = "models/denoiser/clip.py"


def _misses(tree: ast.Module) -> str | None:
    for name in ("AutoModel", "AutoTokenizer"):
        if uses(tree, name) != {"from_pretrained"}:
            return f"{name}.from_pretrained, and no other use of it"
    for attribute in ("text_model", "last_hidden_state", "input_ids", "attention_mask"):
        if not any(isinstance(node, ast.Attribute) and node.attr == attribute for node in ast.walk(tree)):
            return f"the attribute {attribute}"
    return None if uses(tree, "move_cache") <= {""} else "move_cache called, and no other use of it"


EDITS = (
    Edit(
        FILE,
        r"from[ \t]+transformers[ \t]+import[ \t]+AutoModel,[ \t]*AutoTokenizer[ \t]*(#[^\r\n]*)?",
        "import adaclip_integrations.salad; AutoModel, AutoTokenizer = adaclip_integrations.salad.served({weights})",
        "the import of AutoModel and AutoTokenizer from transformers",
        _misses,
    ),
    Edit(  # transformers 5 dropped it
        FILE,
        r"from[ \t]+transformers\.utils[ \t]+import[ \t]+move_cache[ \t]*(#[^\r\n]*)?",
        "from adaclip_integrations.salad import move_cache",
        "the import of move_cache from transformers.utils",
        _misses,
    ),
)


def served(weights: str) -> tuple[types.SimpleNamespace, ...]:
    """Return the objects that the edited file names AutoModel and AutoTokenizer."""
    kinds = ("AutoModel", "AutoTokenizer")
    return tuple(types.SimpleNamespace(from_pretrained=functools.partial(_load, weights, kind)) for kind in kinds)


class StatesEncoder(FrozenEncoder):
    """Stand for transformers' CLIPModel, as far as SALAD uses it."""

    @property
    def output_size(self) -> int:
        """Width H of the states that SALAD reads."""
        return self.width

    def text_model(self, input_ids: Tensor) -> types.SimpleNamespace:
        """Return `last_hidden_state` (B, L, H) of token ids (B, L); zero after the end token."""
        return types.SimpleNamespace(last_hidden_state=self.hidden_states(input_ids))


class CleaningTokenizer:
    """The adapter's tokenizer from transformers, with prompts cleaned as OpenAI's tokenizer does."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer

    def __call__(self, text: str | Sequence[str], **options: object) -> object:
        prompts = clean(text) if isinstance(text, str) else [clean(prompt) for prompt in text]
        return self.tokenizer(prompts, **options)

    def __getattr__(self, name: str) -> object:
        if name == "tokenizer":  # during a copy or unpickling
            raise AttributeError(name)
        return getattr(self.tokenizer, name)


def swap_encoder(model: nn.Module, adaclip: AdaCLIP) -> nn.Module:
    """Replace the CLIP of a denoiser by AdaCLIP.

    Call it before you load a checkpoint, which is then compared with the encoder.

    Args:
        model: SALAD's denoiser; it is changed in place.
        adaclip: The encoder.

    Returns:
        The model.

    Raises:
        TypeError: The model is not SALAD's denoiser, or it was built for token states of another width.
    """
    require(model, NAME, dict.fromkeys(("clip_model", "word_emb"), "models/denoiser/model.py"))
    holder = model.clip_model
    require(holder, NAME, dict.fromkeys(("model", "tokenizer", "encode_text"), FILE))
    holder.model = frozen_for(adaclip, model.word_emb, NAME, StatesEncoder)
    holder.tokenizer = CleaningTokenizer(adaclip.tokenizer)
    holder.max_length = adaclip.tokenizer.model_max_length
    return model


_PATCH = patching.Patch(EDITS)
check, apply, revert = _PATCH.check, _PATCH.apply, _PATCH.revert


def _load(default: str, kind: str, name: str, **options: object) -> object:
    weights = selection.selected(default)
    if weights is None:
        import transformers

        loaded = getattr(transformers, kind).from_pretrained(name, **options)
        if isinstance(loaded, nn.Module):
            declare_vanilla(loaded)
        return loaded
    adaclip = selection.encoder(weights)
    check_name(name, weights, adaclip)
    if kind == "AutoTokenizer":
        return CleaningTokenizer(adaclip.tokenizer)
    encoder = frozen(adaclip, StatesEncoder)
    checkpoints.declare(encoder.record)
    places.serve(f"{kind}.from_pretrained({str(name)!r})", f"{weights} (base {adaclip.base})")
    return encoder
