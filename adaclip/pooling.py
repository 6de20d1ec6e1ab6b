"""Reading of a text encoder's output: token states and one pooled vector for each prompt."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from adaclip.towers import SENTENCE, Tower, tower_for

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"Identity": lambda x: x, "Tanh": torch.tanh}


def end_positions(ids: Tensor, mask: Tensor, end_token_id: int | None) -> Tensor:
    """Return the positions (B,) of the pooled state: the first real end token, else the last real token."""
    is_end = (ids == end_token_id) & mask
    last_real = (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).argmax(dim=-1)
    return torch.where(is_end.any(dim=-1), is_end.int().argmax(dim=-1), last_real)


class Pooling(nn.Module):
    """The way from token ids to pooled vectors and token states, with a family's model (plain, or wrapped by peft).

    `name` is one of the family's poolings:

        text_embeds     CLIP: the end token's state, projected
        pooler_output   CLIP: the end token's state
        mean            mean of the states of real tokens
        cls             state of the first token
        pooler          BERT: the first token's state through the model's own dense layer and tanh
        sentence        as the base's `modules.json` of sentence-transformers records: `mode`, dense layer, unit length

    Args:
        tower: The family.
        name: Name of the pooling.
        width: Width P of the pooled vector.
        end_token_id: Token that ends a prompt; None if the tokenizer has none.
        mode: With "sentence", the pooling that is recorded: mean or cls.
        dense: With "sentence", the dense layer after it, frozen.
        activation: Activation after the dense layer.
        unit: With "sentence", whether vectors are scaled to unit length.
    """

    def __init__(
        self,
        tower: Tower,
        name: str,
        width: int,
        end_token_id: int | None,
        *,
        mode: str | None = None,
        dense: nn.Linear | None = None,
        activation: str = "Identity",
        unit: bool = False,
    ) -> None:
        super().__init__()
        self.tower, self.name, self.width, self.end_token_id = tower, name, width, end_token_id
        self.mode, self.dense, self.activation, self.unit = mode or name, dense, activation, unit

    def forward(self, model: nn.Module, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return pooled vectors (B, P) and last hidden states (B, L, H), those of padding included.

        Args:
            model: The family's model, plain or wrapped by peft.
            ids: Token ids (B, L), padded on the right.
            mask: (B, L) bool, True = real token.
        """
        if self.tower.causal:  # padding on the right cannot reach a real token, so the model needs no mask
            states = model(input_ids=ids).last_hidden_state
            ends = end_positions(ids, mask, self.end_token_id)
            B, _ = ids.shape  # len() would fix the batch size in an exported graph
            pooled = states[torch.arange(B, device=states.device), ends]
            return (_inner(model).text_projection(pooled) if self.mode == "text_embeds" else pooled), states
        output = model(input_ids=ids, attention_mask=mask.long())
        states = output.last_hidden_state
        if self.mode == "pooler":
            pooled = output.pooler_output
        elif self.mode == "cls":
            pooled = states[:, 0]
        else:
            total = (states * mask[..., None]).sum(dim=1, dtype=torch.float32)  # half precision would round the sum
            pooled = (total / mask.sum(dim=1, keepdim=True).clamp(min=1)).to(states.dtype)
        if self.dense is not None:
            pooled = ACTIVATIONS[self.activation](self.dense(pooled))
        return (nn.functional.normalize(pooled, dim=-1) if self.unit else pooled), states

    def facts(self) -> dict[str, Any]:
        """Return what the pooled vector depends on besides weights, for records and fingerprints."""
        facts = {"tower": self.tower.name, "pooling": self.name}
        if self.name == SENTENCE:
            facts |= {"mode": self.mode, "dense": self.dense and self.activation, "unit": self.unit}
        return facts

    def state(self) -> tuple[object, ...]:
        """Return what changes when the dense layer's weights do, for caches of pooled vectors."""
        return tuple((p.data_ptr(), p._version) for p in self.parameters() if not p.is_inference())

    def freeze_unread(self, model: nn.Module, *, pooled: bool) -> None:
        """Stop the training of parts of the model that only pooled vectors depend on and that are not read.

        Args:
            model: The family's model, plain or wrapped by peft.
            pooled: Whether pooled vectors are read.
        """
        inner = _inner(model)
        parts = {"text_embeds": "text_projection", "pooler": "pooler"}
        unread = [getattr(inner, part, None) for mode, part in parts.items() if not (pooled and mode == self.mode)]
        for part in (*unread, None if pooled else self.dense):
            if part is not None:
                part.requires_grad_(False)


def family_pooling(model: nn.Module, tokenizer: PreTrainedTokenizerBase, name: str | None = None) -> Pooling:
    """Return a family's own pooling (None: its default) of a model, plain or wrapped by peft.

    Raises:
        ValueError: The family has no pooling of that name.
    """
    config = model.config
    tower = tower_for(config.model_type)
    name = name or tower.poolings[0]
    if name not in tower.poolings:
        raise ValueError(f"pooling {name!r}: {tower.name} has {', '.join(tower.poolings)}.")
    width = config.projection_dim if name == "text_embeds" else config.hidden_size
    return Pooling(tower, name, width, end_token(tokenizer))


def end_token(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the id of the token that a tokenizer puts at the end of a prompt: CLIP's and T5's, or BERT's separator."""
    return tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id


def _inner(model: nn.Module) -> Any:
    """Return transformers' model in one that may be wrapped by peft."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
