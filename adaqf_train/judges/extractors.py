"""Text and motion extractors whose shared space gives the feedback (section 3.2; T2M's GRU design).

Sizes default to T2M's (Guo et al. 2022, `networks/modules.py` of EricGuo5513/text-to-motion). Text enters as
token ids with the base CLIP's frozen token embeddings as word vectors, in the place of T2M's GloVe and
part-of-speech tags, so any text can be encoded.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adaqf_train.config import ExtractorConfig
from adaqf_train.judges.base import Judge
from adaqf_train.layers import BiGRU, Smoothing, projection_head
from adaqf_train.motion.features import slices_of_width

WORD_VECTOR = 300  # width a token is projected to, GloVe's


class MotionExtractor(nn.Module):
    """E_M: movement convolution, BiGRU, head. With `config.smoothing`, it reads smoothed motions."""

    def __init__(self, features: int, config: ExtractorConfig) -> None:
        """features: width D of the generator's normalised features; foot contacts are not looked at."""
        super().__init__()
        self.inputs = slices_of_width(features).contacts.start
        self.smooth = Smoothing(config.smoothing) if config.smoothing else None
        self.movement = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(inputs, config.movement, 4, stride=2, padding=1),
                nn.Dropout(config.dropout),
                nn.LeakyReLU(0.2, inplace=True),
            )
            for inputs in (self.inputs, config.movement)
        )
        self.movement_out = nn.Linear(config.movement, config.movement)
        self.project = nn.Linear(config.movement, config.motion_hidden)
        self.gru = BiGRU(config.motion_hidden, config.motion_hidden)
        self.head = projection_head(2 * config.motion_hidden, config.motion_hidden, config.embedding)

    def forward(self, motion: Tensor, mask: Tensor) -> Tensor:
        """Embed normalised features (B, T, D) with mask (B, T), True = real, into (B, embedding).

        T is even, and clips have at least 4 frames. Values beyond a clip are set to zero before each convolution, whose
        windows reach past its end: an embedding depends neither on padding nor on the other clips of the batch.
        """
        return self.head(self.gru(self.project(self.frames(motion, mask)[0]), mask.sum(dim=-1) // 4))

    def frames(self, motion: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Movement features (B, T / 4, movement) of groups of four frames, and which of them are real (B, T / 4)."""
        motion = motion[..., : self.inputs]
        if self.smooth is not None:
            motion = self.smooth(motion, mask)
        movement, real = motion.transpose(1, 2), mask
        for halve in self.movement:
            movement, real = halve(movement * real[:, None]), real[:, 1::2]
        return self.movement_out(movement.transpose(1, 2)), real


class TextExtractor(nn.Module):
    """E_T: word vectors, BiGRU, head."""

    def __init__(self, vocabulary: int, word_width: int, config: ExtractorConfig) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, word_width).requires_grad_(False)
        self.word_in = nn.Linear(word_width, WORD_VECTOR)
        self.project = nn.Linear(WORD_VECTOR, config.text_hidden)
        self.gru = BiGRU(config.text_hidden, config.text_hidden)
        self.head = projection_head(2 * config.text_hidden, config.text_hidden, config.embedding)

    def set_words(self, vectors: Tensor) -> None:
        """Takes CLIP's token embeddings (vocabulary, word_width), brought to unit deviation (CLIP's are ~0.01)."""
        with torch.no_grad():
            self.words.weight.copy_(vectors / vectors.std())

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Embeddings of token ids: (B, L), mask (B, L) True = real -> (B, embedding)."""
        return self.head(self.gru(self.project(self.word_in(self.words(ids))), mask.sum(dim=-1)))


class Extractors(Judge):
    """The pair of extractors, trained, saved and frozen together."""

    def __init__(self, features: int, vocabulary: int, word_width: int, config: ExtractorConfig) -> None:
        super().__init__()
        self.config = config
        self.motion = MotionExtractor(features, config)
        self.text = TextExtractor(vocabulary, word_width, config)
        self.width = config.embedding
        self.cosine = config.objective != "margin"  # InfoNCE shapes angles, the margin loss distances

    @classmethod
    def reading(cls, words: Tensor, features: int, config: ExtractorConfig) -> Extractors:
        """Untrained extractors whose word vectors are the token embeddings (vocabulary, width) of a CLIP."""
        extractors = cls(features, *words.shape, config)
        extractors.text.set_words(words)
        return extractors

    def embed_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.text(ids, mask)

    def embed_motion(self, motion: Tensor, mask: Tensor) -> Tensor:
        return self.motion(motion, mask)
