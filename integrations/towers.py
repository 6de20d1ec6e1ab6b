"""CLIP's text towers that a program builds by itself, past `import clip` and `from_pretrained`.

open_clip, a copy of OpenAI's code under another name, and classes of the program itself end in `load_state_dict` or
`torch.jit.load`. There, a tower of CLIP's vocabulary that is not AdaCLIP stops the program: it would stay vanilla.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from adaclip_integrations import patches
from torch import nn

if TYPE_CHECKING:
    from adaclip_integrations.replacement import Replacement

VOCABULARY = 49408  # of every published CLIP
_OURS = "_adaclip_embedding"


def mark(model: nn.Module) -> None:
    """Mark the embeddings of an encoder as AdaCLIP's; copies and parts of the encoder keep the mark."""
    for part in model.modules():
        if isinstance(part, nn.Embedding):
            setattr(part, _OURS, True)


def is_foreign(module: nn.Module, vocabulary: int = VOCABULARY) -> bool:
    """Tell whether a module contains a text tower of that vocabulary that is not AdaCLIP's."""
    embeddings = (part for part in module.modules() if isinstance(part, nn.Embedding))
    return any(part.num_embeddings == vocabulary and not hasattr(part, _OURS) for part in embeddings)


@contextmanager
def watched(replacement: Replacement) -> Iterator[None]:
    """Stop the program where weights are loaded into a foreign tower, unless the place keeps its own CLIP."""
    load_state_dict, jit_load = nn.Module.load_state_dict, torch.jit.load

    @functools.wraps(load_state_dict)
    def load(module, *args, **kwargs):
        if is_foreign(module, replacement.vocabulary):
            replacement.refuse(f"{type(module).__name__}.load_state_dict")
        return load_state_dict(module, *args, **kwargs)

    @functools.wraps(jit_load)
    def load_archive(*args, **kwargs):
        loaded = jit_load(*args, **kwargs)
        if hasattr(loaded, "token_embedding"):  # of OpenAI's archives
            replacement.refuse("torch.jit.load")
        return loaded

    with patches.attribute(nn.Module, "load_state_dict", load), patches.attribute(torch.jit, "load", load_archive):
        yield
