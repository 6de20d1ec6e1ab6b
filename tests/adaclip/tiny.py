"""A CLIP text encoder of a few thousand parameters with its tokenizer, built on the spot."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from adaclip import AdaCLIP

MERGES = [("t", "h"), ("th", "e</w>"), ("a", "l"), ("al", "k"), ("w", "alk"), ("walk", "s</w>"), ("p", "e"), ("r", "s")]
PROMPTS = ["a person walks", "hi", "he turns left, then waves twice", "the person walks slowly backwards"]


def tokenizer() -> CLIPTokenizer:
    """CLIP's byte-pair encoding with eight merges; like the real one, the end token has the highest id."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    entries = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in MERGES)]
    entries += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {entry: i for i, entry in enumerate(entries)}
    return CLIPTokenizer(vocab=vocab, merges=MERGES, model_max_length=77)


def text_model(*, eos_token_id: int | None = None, seed: int = 0, **sizes: int) -> CLIPTextModelWithProjection:
    """Random weights; eos_token_id is what the configuration claims, by default what the tokenizer says."""
    words = tokenizer()
    shape = {"hidden_size": 8, "intermediate_size": 16, "projection_dim": 6, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 2} | sizes
    config = CLIPTextConfig(
        vocab_size=len(words),
        max_position_embeddings=77,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id if eos_token_id is None else eos_token_id,
        pad_token_id=words.pad_token_id,
        **shape,
    )
    torch.manual_seed(seed)
    model = CLIPTextModelWithProjection(config).eval()
    with torch.no_grad():  # CLIP's initial weights are so small that every prompt would get nearly the same vector
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def save_base(folder: Path, **options: int) -> Path:
    """A base model folder as on the Hub: weights, config, tokenizer."""
    text_model(**options).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def perturb(encoder: AdaCLIP, seed: int = 1) -> AdaCLIP:
    """Stands in for training: every adapter parameter moves."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in encoder.adapter_parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return encoder
