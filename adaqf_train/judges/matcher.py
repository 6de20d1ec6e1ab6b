"""The independent evaluator's networks: transformers over frames and over words (TMR's family).

Nothing in it is shared with the feedback extractors: another architecture, another seed, word vectors of its own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from adaqf_train.config import EvaluatorConfig
from adaqf_train.judges.base import Judge
from adaqf_train.layers import PositionCodes
from adaqf_train.motion.features import slices_of_width

FRAMES_PER_TOKEN = 4


class SummaryEncoder(nn.Module):
    """A transformer encoder that reads a sequence into one vector through a learnt first token."""

    def __init__(self, config: EvaluatorConfig) -> None:
        super().__init__()
        self.summary = nn.Parameter(torch.randn(1, 1, config.width) * 0.02)
        self.positions = PositionCodes(config.width, config.dropout)
        layer = nn.TransformerEncoderLayer(
            config.width, config.heads, config.feedforward, config.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.LayerNorm(config.width), nn.Linear(config.width, config.embedding))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, T, width), mask (B, T) True = real -> (B, embedding)."""
        x = self.positions(torch.cat([self.summary.expand(len(x), -1, -1), x], dim=1))
        mask = torch.cat([mask.new_ones(len(x), 1), mask], dim=1)
        return self.head(self.encoder(x, src_key_padding_mask=~mask)[:, 0])


class Matcher(Judge):
    """The independent evaluator. Embeddings have length sqrt(E), so each dimension has about unit variance."""

    def __init__(self, features: int, vocabulary: int, config: EvaluatorConfig) -> None:
        super().__init__()
        self.inputs = slices_of_width(features).contacts.start  # contacts are left out, as upstream does
        self.config, self.width, self.scale = config, config.embedding, math.sqrt(config.embedding)
        self.frames_in = nn.Linear(FRAMES_PER_TOKEN * self.inputs, config.width)
        self.words = nn.Embedding(vocabulary, config.width)
        self.motion_encoder, self.text_encoder = SummaryEncoder(config), SummaryEncoder(config)

    def embed_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.scale * normalize(self.text_encoder(self.words(ids), mask), dim=-1)

    def embed_motion(self, motion: Tensor, mask: Tensor) -> Tensor:
        """Embed features (B, T, D) with mask (B, T) into (B, E); T is a multiple of 4."""
        B, T, _ = motion.shape
        frames = (motion[..., : self.inputs] * mask[..., None]).reshape(B, T // FRAMES_PER_TOKEN, -1)
        return self.scale * normalize(self.motion_encoder(self.frames_in(frames), mask[:, ::FRAMES_PER_TOKEN]), dim=-1)
