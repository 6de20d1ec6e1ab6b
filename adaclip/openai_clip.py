"""AdaCLIP with the interface of OpenAI's `clip` package, for code that was written for that package.

from adaclip import openai_clip as clip
model, _ = clip.load("path/or/hub-id/of/an/adapter", device="cpu")
vectors = model.encode_text(clip.tokenize(["a person waves twice"]))

Code that accesses parts of the model (`token_embedding`, `positional_embedding`, `transformer`, `ln_final`,
`text_projection`) finds the same parts with the same shapes. Written from the package's documented behaviour and its
weight names; there is no vision tower.
"""

from __future__ import annotations

import os
import types
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaclip.config import DEFAULT_BASE, AdaCLIPError
from adaclip.exports import openai_weights
from adaclip.model import AdaCLIP
from adaclip.text import check_texts, clean

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["TextTower", "available_models", "convert_weights", "load", "model", "tokenize"]

TOKENIZER = "ADACLIP_TOKENIZER"  # environment: source of that tokenizer, for worker processes that load no model
_loaded_tokenizer: PreTrainedTokenizerBase | None = None  # of the model that `load` returned last


def refuse_image(image: object) -> Tensor:
    """Raise NotImplementedError, in the place of image preprocessing and encoding."""
    raise NotImplementedError("AdaCLIP has no vision tower: it encodes text only. For images load CLIP itself.")


class LayerNorm(nn.LayerNorm):
    """Compute in float32, whatever the precision around it: half-precision models keep their accuracy."""

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.float(), self.bias.float()
        return F.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).type(x.dtype)


class Attention(nn.MultiheadAttention):
    """Causal multi-head attention: (B, L, D) -> (B, L, D)."""

    def forward(self, x: Tensor) -> Tensor:
        stacked = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        query, key, value = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in stacked.chunk(3, -1))
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """One pre-norm layer: (B, L, D) -> (B, L, D)."""

    def __init__(self, width: int, heads: int, feedforward: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln_2 = LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, feedforward), "c_proj": nn.Linear(feedforward, width)})
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp["c_proj"](self.activation(self.mlp["c_fc"](self.ln_2(x))))


class Transformer(nn.Module):
    """The layers: (L, B, D) -> (L, B, D), length first like OpenAI's; any L up to the context length."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        super().__init__()
        self.width: int = blocks[0].ln_1.normalized_shape[0]
        self.layers: int = len(blocks)
        self.resblocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.resblocks(x.transpose(0, 1)).transpose(0, 1)


class TextTower(nn.Module):
    """A copy of an encoder with the adapter merged, whose parts and weights have the names of OpenAI's package."""

    def __init__(self, adaclip: AdaCLIP) -> None:
        from transformers.activations import ACT2FN

        super().__init__()
        model = adaclip.merged()
        config, width = model.config, model.config.hidden_size
        self.context_length: int = config.max_position_embeddings
        self.vocab_size: int = config.vocab_size
        sizes = width, config.num_attention_heads, config.intermediate_size
        blocks = [Block(*sizes, ACT2FN[config.hidden_act]) for _ in range(config.num_hidden_layers)]
        self.transformer = Transformer(blocks)
        self.token_embedding = nn.Embedding(self.vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.empty(self.context_length, width))
        self.ln_final = LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, config.projection_dim))
        for module in self.modules():
            if isinstance(module, LayerNorm):
                module.eps = config.layer_norm_eps
        self.to(device=model.device, dtype=model.dtype)
        self.load_state_dict(openai_weights.to_openai(model.state_dict()))
        self.eval()

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the matrices; embeddings and layer norms may be finer (see `convert_weights`)."""
        return self.text_projection.dtype

    def hidden_states(self, text: Tensor) -> Tensor:
        """Return the normalised last hidden states (B, L, D) of token ids (B, L)."""
        positions = self.positional_embedding[: text.shape[1]]
        x = self.token_embedding(text).type(self.dtype) + positions.type(self.dtype)
        return self.ln_final(self.transformer(x.transpose(0, 1)).transpose(0, 1)).type(self.dtype)

    def encode_text(self, text: Tensor) -> Tensor:
        """Return pooled vectors (B, P) of token ids (B, L) from `tokenize`: the projected state of the end token."""
        ends = text.argmax(dim=-1)
        if len(text):
            text = text[:, : int(ends.max()) + 1]  # attention is causal: what follows the end token changes nothing
        states = self.hidden_states(text)
        return states[torch.arange(len(text), device=text.device), ends] @ self.text_projection

    encode_image = staticmethod(refuse_image)


def available_models() -> list[str]:
    """Return an empty list: `load` accepts folders and Hub ids only."""
    return []


def load(
    name: str,
    device: str | torch.device | None = None,
    jit: bool = False,
    download_root: str | None = None,
    *,
    base: str | None = None,
) -> tuple[TextTower, Callable[[object], Tensor]]:
    """Load an adapter (a folder or Hub id) with its recorded base or another one; raise AdaCLIPError if that fails.

    Returns the encoder and, in the place of image preprocessing, a function that raises. `device` None uses CUDA if
    available; except on a CPU the matrices become float16, like OpenAI's. `jit` has no effect: the model is always a
    plain module. `download_root` is the cache folder for files from the Hub.
    """
    global _loaded_tokenizer
    adaclip = AdaCLIP.from_pretrained(name, base=base, cache_dir=download_root)
    _loaded_tokenizer = adaclip.tokenizer
    os.environ[TOKENIZER] = adaclip.tokenizer.name_or_path
    return serve(adaclip, device), refuse_image


def serve(adaclip: AdaCLIP, device: str | torch.device | None = None) -> TextTower:
    """Return a loaded encoder in the form of `load`; raise AdaCLIPError if it does not fit OpenAI's interface."""
    check_end_token(adaclip)
    model = TextTower(adaclip).float().to(usual_device(device))
    if model.text_projection.device.type != "cpu":
        convert_weights(model)
    return model


def usual_device(device: str | torch.device | None) -> torch.device:
    """Return the device; None chooses like OpenAI's `load`: CUDA if available."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def tokenize(
    texts: str | Sequence[str],
    context_length: int = 77,
    truncate: bool = False,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Tensor:
    """Return the token ids (B, context_length) int32 of prompts, zero-padded; a single string is a batch of one.

    `truncate` cuts prompts that are too long and keeps the end token; without it they raise RuntimeError, as in
    OpenAI's package. `tokenizer` None uses that of the model loaded last, or OpenAI's before any is loaded.
    """
    tokenizer = tokenizer or _loaded_tokenizer or _openai_tokenizer()
    if hasattr(texts, "tolist"):  # arrays of prompts, which some data loaders return
        texts = texts.tolist()
    texts = [texts] if isinstance(texts, str) else check_texts(texts)
    return id_rows(texts, context_length, truncate, [prompt_ids(text, tokenizer) for text in texts])


def prompt_ids(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return all token ids of a prompt, which is cleaned and lowered by Python as in OpenAI's package."""
    return tokenizer(clean(text), verbose=False)["input_ids"]


def id_rows(texts: Sequence[str], length: int, truncate: bool, ids: Sequence[Sequence[int]]) -> Tensor:
    """Return the prompts' ids as (B, length) int32, zero-padded; too long ones raise RuntimeError or are cut."""
    rows = torch.zeros(len(texts), length, dtype=torch.int32)
    for row, text, found in zip(rows, texts, ids, strict=True):
        if len(found) > length and not truncate:
            raise RuntimeError(
                f"A prompt has {len(found)} tokens, more than the context length {length}: {text:.60}… "
                "Shorten it or pass truncate=True."
            )
        kept = found if len(found) <= length else [*found[: length - 1], found[-1]]
        row[: len(kept)] = torch.tensor(kept, dtype=torch.int32)
    return rows


def convert_weights(model: nn.Module) -> None:
    """Convert the matrices of a `TextTower` to float16 in place; embeddings and layer norms keep their precision."""
    for module in model.modules():
        if isinstance(module, nn.Linear | Attention):
            for parameter in module.parameters():
                parameter.data = parameter.data.half()
        elif isinstance(module, TextTower):
            module.text_projection.data = module.text_projection.data.half()


def check_end_token(adaclip: AdaCLIP) -> None:
    """Raise AdaCLIPError unless OpenAI's pooling gives the encoder's vectors: it takes CLIP's highest id as the end."""
    if adaclip.pooling.name != "text_embeds":
        raise AdaCLIPError(
            f"{adaclip.base}: OpenAI's interface and files are for CLIP with the pooling text_embeds; this is a "
            f"{adaclip.tower.name} encoder with {adaclip.pooling.name}. Use AdaCLIP.encode, or export with --to hf."
        )
    highest = max(adaclip.tokenizer.get_vocab().values())
    if adaclip.eos_token_id != highest:
        raise AdaCLIPError(
            f"The end token of {adaclip.base} is {adaclip.eos_token_id}, but its highest token id is {highest}: "
            "OpenAI's CLIP finds the end of a prompt by the highest id. Use AdaCLIP.encode or another export."
        )


# OpenAI's submodule `clip.model`, as far as callers use it.
model = types.SimpleNamespace(convert_weights=convert_weights, CLIP=TextTower)


def _openai_tokenizer() -> PreTrainedTokenizerBase:
    from adaclip.hub import LoadOptions
    from adaclip.loading import load_tokenizer
    from adaclip.towers import CLIP

    source = os.environ.get(TOKENIZER, DEFAULT_BASE)
    try:
        return load_tokenizer(source, LoadOptions(), CLIP)
    except AdaCLIPError as error:
        raise AdaCLIPError(
            f"No model was loaded in this process, and the tokenizer of {source} is not available: load a model first, "
            "or pass tokenizer=."
        ) from error
