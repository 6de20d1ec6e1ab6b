"""The pocket CLIP: a text tower trained against single still poses, as CLIP was against still images.

It stands in for `openai/clip-vit-base-patch32` where no GPU is: it knows what bodies look like, and nothing of
how they move. Its files are those of any CLIP text model, so the code that adapts it is the code that adapts CLIP.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from torch import Tensor, nn

from adaclip.text import clean
from adaqf_train.config import PocketClipConfig
from adaqf_train.motion.features import slices_of_width

if TYPE_CHECKING:
    from transformers import CLIPTextModelWithProjection, CLIPTokenizer

END_OF_WORD = "</w>"
MAX_TOKENS = 77  # CLIP's


def train_tokenizer(captions: Iterable[str], vocabulary: int) -> CLIPTokenizer:
    """A byte-pair encoding of that many entries, learnt from captions, in CLIP's layout.

    Bytes, bytes that end a word, merges, and last the start and end token: the end token has the highest id, on
    which CLIP's pooling relies when a configuration names no end token. Every text can be encoded.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    blank = CLIPTokenizer(vocab={"<|startoftext|>": 0, "<|endoftext|>": 1}, merges=[])
    learner = Tokenizer(models.BPE(end_of_word_suffix=END_OF_WORD))
    learner.normalizer = blank.backend_tokenizer.normalizer
    learner.pre_tokenizer = blank.backend_tokenizer.pre_tokenizer
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - 2, initial_alphabet=alphabet, end_of_word_suffix=END_OF_WORD, show_progress=False
    )
    learner.train_from_iterator(map(clean, captions), trainer)
    learnt = json.loads(learner.to_str())["model"]["merges"]
    merges = [tuple(pair) for pair in learnt[: vocabulary - 2 - 2 * len(alphabet)]]
    entries = [*alphabet, *(byte + END_OF_WORD for byte in alphabet), *dict.fromkeys(a + b for a, b in merges)]
    entries += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {entry: i for i, entry in enumerate(entries)}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_TOKENS)


def build(tokenizer: CLIPTokenizer, config: PocketClipConfig) -> CLIPTextModelWithProjection:
    """An untrained text tower with special tokens set to the tokenizer's."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.width,
            intermediate_size=config.feedforward,
            projection_dim=config.projection,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def pose_slice(features: int) -> slice:
    """Which of the features of a frame are its pose: root height and joint positions."""
    where = slices_of_width(features)
    return slice(where.root_height.start, where.positions.stop)


class StillPoseClip(nn.Module):
    """The two towers while they are trained: text, and a perceptron over one pose."""

    def __init__(self, text_model: CLIPTextModelWithProjection, pose_features: int, config: PocketClipConfig) -> None:
        super().__init__()
        self.text_model = text_model
        self.pose = nn.Sequential(
            nn.Linear(pose_features, 2 * config.width),
            nn.GELU(),
            nn.Linear(2 * config.width, 2 * config.width),
            nn.GELU(),
            nn.Linear(2 * config.width, config.projection),
        )

    def forward(self, ids: Tensor, text_mask: Tensor, motion: Tensor, motion_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of prompts (B, L) and poses (B, pose_features): (B, projection) each."""
        return self.text_model(input_ids=ids).text_embeds, self.pose(motion)
