"""SALAD (seokhyeonhong/salad): CLIP's last hidden states of all 77 positions, with a mask of the real ones.

Seam: `models/denoiser/clip.py`, class `FrozenCLIPTextEncoder`, the denoiser's `clip_model`: tokenizer and model from
transformers' Auto classes, of which it calls the tokenizer and `model.text_model(ids).last_hidden_state`. The attention
to the text leaves padding out by the mask, so padded positions need not be computed. The name must stay: saving and
loading tell the encoder by it. SALAD carries no licence; nothing of it is here.
"""

from __future__ import annotations

import ast
import functools
import types
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adaclip_integrations import patching, selection
from adaclip_integrations.openai_seam import require
from adaclip_integrations.patching import Edit, uses
from torch import Tensor, nn

from adaclip.config import AdaCLIPError
from adaclip.fingerprint import guard, note_saves
from adaclip.frozen import FrozenEncoder
from adaclip.text import clean

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from adaclip.model import AdaCLIP

NAME = "SALAD"
FILE = "models/denoiser/clip.py"
WIDTHS = {"clip-vit-base-patch32": 512, "clip-vit-base-patch16": 512, "clip-vit-large-patch14": 768}  # of the states


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
        r"from[ \t]+transformers[ \t]+import[ \t]+AutoModel,[ \t]*AutoTokenizer[ \t]*(#.*)?",
        "import adaclip_integrations.salad; AutoModel, AutoTokenizer = adaclip_integrations.salad.served({weights})",
        "the import of AutoModel and AutoTokenizer from transformers",
        _misses,
    ),
    Edit(  # transformers 5 dropped it
        FILE,
        r"from[ \t]+transformers\.utils[ \t]+import[ \t]+move_cache[ \t]*(#.*)?",
        "from adaclip_integrations.salad import move_cache",
        "the import of move_cache from transformers.utils",
        _misses,
    ),
)


def move_cache(*_: object, **__: object) -> None:
    """Does nothing: the old cache of transformers that it moved is of no use to its version 5."""


def served(weights: str) -> tuple[types.SimpleNamespace, types.SimpleNamespace]:
    """What the patched file has as AutoModel and AutoTokenizer."""
    return (
        types.SimpleNamespace(from_pretrained=functools.partial(_load, weights, "AutoModel")),
        types.SimpleNamespace(from_pretrained=functools.partial(_load, weights, "AutoTokenizer")),
    )


class StatesEncoder(FrozenEncoder):
    """`model`: as transformers' CLIPModel, as far as SALAD uses it."""

    def text_model(self, input_ids: Tensor) -> types.SimpleNamespace:
        """last_hidden_state (B, L, H) of token ids (B, L); zero after the end token."""
        return types.SimpleNamespace(last_hidden_state=self.hidden_states(input_ids))


class CleaningTokenizer:
    """The adapter's tokenizer, which gets prompts cleaned as OpenAI's does it; otherwise transformers'."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer

    def __call__(self, text: str | Sequence[str], **options: object) -> object:
        prompts = clean(text) if isinstance(text, str) else [clean(prompt) for prompt in text]
        return self.tokenizer(prompts, **options)

    def __getattr__(self, name: str) -> object:
        if name == "tokenizer":  # while it is being copied or unpickled
            raise AttributeError(name)
        return getattr(self.tokenizer, name)


def swap_encoder(model: nn.Module, adaclip: AdaCLIP) -> nn.Module:
    """Puts AdaCLIP in the place of the CLIP of a denoiser that exists; returns the model.

    Do it before a checkpoint is loaded, which is then compared with the encoder. TypeError for other models.
    """
    require(model, NAME, dict.fromkeys(("clip_model", "word_emb"), "models/denoiser/model.py"))
    holder = model.clip_model
    require(holder, NAME, dict.fromkeys(("model", "tokenizer", "encode_text"), FILE))
    frozen = _states_encoder(adaclip)
    if model.word_emb.in_features != frozen.width:
        raise TypeError(
            f"This {NAME} reads token states of {model.word_emb.in_features} numbers, and AdaCLIP {adaclip.base} gives "
            f"{frozen.width}. Use an adapter that was made for the CLIP it was built with."
        )
    holder.model = frozen.to(model.word_emb.weight.device)
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
            guard(loaded, None)
        return loaded
    adaclip = selection.encoder(weights)
    width = WIDTHS.get(Path(name).name, adaclip.hidden_size)
    if width != adaclip.hidden_size:
        raise AdaCLIPError(
            f"{name} has token states of {width} numbers, and AdaCLIP {weights} of {adaclip.hidden_size}. "
            "Use an adapter that was made for that model."
        )
    return CleaningTokenizer(adaclip.tokenizer) if kind == "AutoTokenizer" else _states_encoder(adaclip)


def _states_encoder(adaclip: AdaCLIP) -> StatesEncoder:
    note_saves()
    return StatesEncoder(adaclip)
