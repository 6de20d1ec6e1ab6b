"""Families of text encoders, found by the `model_type` of a configuration: how each is loaded, adapted and read.

    family       models                                   pooled vectors (the first is the default)
    clip         CLIP's text tower of any size            text_embeds, pooler_output
    bert         BERT, MiniLM                             mean, cls, pooler
    roberta      RoBERTa, XLM-RoBERTa                     mean, cls, pooler
    mpnet        MPNet                                    mean, cls, pooler
    distilbert   DistilBERT                               mean, cls
    modernbert   ModernBERT                               mean, cls
    t5           encoders of T5, mT5 and UMT5             mean

A base that sentence-transformers saved has one more, `sentence`, which is then the default: what its `modules.json`
records. `adaclip.pooling` computes them all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# The paper adapts "Q, K and V in multi-head attention, as well as the MLP layers" of the text tower (section 3.4).
LORA_MODULES = ("q_proj", "k_proj", "v_proj", "fc1", "fc2")
SENTENCE = "sentence"  # pooling as sentence-transformers' modules.json records it
_QUERIES = ("q_proj", "k_proj", "v_proj")


@dataclass(frozen=True)
class Tower:
    """What differs between families of text encoders."""

    name: str
    classes: Mapping[str, str]  # model_type of the configuration: class of transformers
    layers: str  # pattern of a layer's name
    modules: Mapping[str, Sequence[str]]  # CLIP's name of a linear layer: this family's, within the layer
    poolings: tuple[str, ...]  # the first is the default
    unread: str  # pattern of tensors that its checkpoints may hold besides: pretraining heads and other towers
    causal: bool = False  # tokens see earlier ones alone, so that padding on the right needs no mask
    cleans: bool = False  # prompts are cleaned and lowered as OpenAI's CLIP does, before the tokenizer
    positions_after_padding: bool = False  # positions are counted from the id of the pad token
    relative: bool = False  # positions are relative, so that the configuration states no longest prompt

    def target_modules(self, modules: Sequence[str] = LORA_MODULES) -> str:
        """Return peft's pattern of the modules to adapt.

        Args:
            modules: CLIP's names, which mean the same parts in every family, or the family's own names.

        Raises:
            ValueError: A name is none of this family.
        """
        paths: dict[str, None] = {}
        for name in modules:
            own = self._paths()
            found = self.modules.get(name) or [path for path in own if path == name]
            found = found or [path for path in own if path.endswith(f".{name}")]
            if not found:
                own = ", ".join(dict.fromkeys(path.rpartition(".")[2] for path in self._paths()))
                raise ValueError(f"{name!r} is no module of {self.name}: choose from {', '.join(self.modules)}, {own}.")
            paths |= dict.fromkeys(found)
        fused = set(self.modules["q_proj"]) == set(self.modules["v_proj"])
        asked = [name for name in _QUERIES if name in modules]
        if fused and 0 < len(asked) < len(_QUERIES):
            raise ValueError(
                f"{self.name} has queries, keys and values in one matrix ({self.modules['q_proj'][0]}): "
                f"name all of {', '.join(_QUERIES)}, not {', '.join(asked)} alone."
            )
        return rf"{self.layers}\.(?:{'|'.join(map(re.escape, paths))})"

    def most_tokens(self, config: Any) -> int | None:
        """Return the longest prompt in tokens that a model of this configuration has positions for; None: any."""
        if self.relative:
            return None
        taken = config.pad_token_id + 1 if self.positions_after_padding else 0
        return config.max_position_embeddings - taken

    def _paths(self) -> list[str]:
        return [path for paths in self.modules.values() for path in paths]


def _modules(queries: str, out: str, first: str, second: str) -> dict[str, Sequence[str]]:
    """Return a family's names under CLIP's; each argument lists names, separated by spaces."""
    q, *more = queries.split()
    k, v = more or (q, q)
    return {"q_proj": [q], "k_proj": [k], "v_proj": [v], "out_proj": [out], "fc1": first.split(), "fc2": [second]}


CLIP = Tower(
    name="clip",
    classes={"clip": "CLIPTextModelWithProjection", "clip_text_model": "CLIPTextModelWithProjection"},
    layers=r"(?!.*vision).*encoder\.layers\.\d+",
    modules=_modules("self_attn.q_proj self_attn.k_proj self_attn.v_proj", "self_attn.out_proj", "mlp.fc1", "mlp.fc2"),
    poolings=("text_embeds", "pooler_output"),
    unread=r"vision_model\..*|visual_projection\..*|logit_scale",
    causal=True,
    cleans=True,
)
_BERT = _modules(
    "attention.self.query attention.self.key attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
_HEADS = r"cls\..*|lm_head\..*|pooler\..*"
TOWERS = (
    CLIP,
    Tower("bert", {"bert": "BertModel"}, r".*encoder\.layer\.\d+", _BERT, ("mean", "cls", "pooler"), _HEADS),
    Tower(
        "roberta",
        {"roberta": "RobertaModel", "xlm-roberta": "XLMRobertaModel"},
        r".*encoder\.layer\.\d+",
        _BERT,
        ("mean", "cls", "pooler"),
        _HEADS,
        positions_after_padding=True,
    ),
    Tower(
        "mpnet",
        {"mpnet": "MPNetModel"},
        r".*encoder\.layer\.\d+",
        _modules(
            "attention.attn.q attention.attn.k attention.attn.v", "attention.attn.o", *_BERT["fc1"], *_BERT["fc2"]
        ),
        ("mean", "cls", "pooler"),
        _HEADS,
        positions_after_padding=True,
    ),
    Tower(
        "distilbert",
        {"distilbert": "DistilBertModel"},
        r".*transformer\.layer\.\d+",
        _modules("attention.q_lin attention.k_lin attention.v_lin", "attention.out_lin", "ffn.lin1", "ffn.lin2"),
        ("mean", "cls"),
        r"vocab_(?:transform|layer_norm|projector)\..*",
    ),
    Tower(
        "modernbert",
        {"modernbert": "ModernBertModel"},
        r".*layers\.\d+",
        _modules("attn.Wqkv", "attn.Wo", "mlp.Wi", "mlp.Wo"),
        ("mean", "cls"),
        r"head\..*|decoder\..*",
    ),
    Tower(
        "t5",
        {"t5": "T5EncoderModel", "mt5": "MT5EncoderModel", "umt5": "UMT5EncoderModel"},
        r"(?!.*decoder).*encoder\.block\.\d+\.layer\.\d+",
        _modules(
            "SelfAttention.q SelfAttention.k SelfAttention.v",
            "SelfAttention.o",
            "DenseReluDense.wi DenseReluDense.wi_0 DenseReluDense.wi_1",
            "DenseReluDense.wo",
        ),
        ("mean",),
        r"decoder\..*|lm_head\..*",
        relative=True,
    ),
)
# All names that `encoder.modules` and `LoRASettings` may hold; a family's `target_modules` refuses those of others.
MODULE_NAMES = tuple(
    dict.fromkeys(
        name
        for tower in TOWERS
        for role, paths in tower.modules.items()
        for name in (role, *(path.rpartition(".")[2] for path in paths), *paths)
    )
)


def tower_for(model_type: str | None) -> Tower:
    """Return the family of a configuration's `model_type`, as transformers' Auto classes find theirs.

    Raises:
        ValueError: No family has it.
    """
    for tower in TOWERS:
        if model_type in tower.classes:
            return tower
    known = ", ".join(name for tower in TOWERS for name in tower.classes)
    raise ValueError(f"model_type {model_type!r} is no text encoder that AdaCLIP adapts. It adapts {known}.")


def tower_of_class(name: str) -> Tower | None:
    """Return the family of a class of transformers, such as that which an adapter records; None if unknown."""
    if name in ("CLIPModel", "CLIPTextModel"):
        return CLIP
    if name in ("T5Model", "T5ForConditionalGeneration"):
        return TOWERS[-1]
    return next((tower for tower in TOWERS if name in tower.classes.values()), None)
