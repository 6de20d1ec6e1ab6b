"""The pocket CLIP: a text tower trained against single still poses, as CLIP was against still images.

It replaces `openai/clip-vit-base-patch32` on machines without a GPU: it has seen bodies, but no movement. Its files are
those of any CLIP text model, so the code that adapts it is the code that adapts CLIP.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer, PreTrainedTokenizerBase

from adaclip import AdaCLIP
from adaclip.text import clean
from adaqf_train import seeding
from adaqf_train.config import PocketClipConfig
from adaqf_train.data.batches import MotionBatch
from adaqf_train.data.captions import CaptionTable
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.judges.contrastive import ContrastiveObjective, contrastive_training
from adaqf_train.motion.features import slices_of_width
from adaqf_train.training.fit import fit
from adaqf_train.training.loop import Place

END_OF_WORD = "</w>"
MAX_TOKENS = 77  # CLIP's
TEMPERATURE = 0.07  # CLIP's at the start of its training
POSE_STREAM = 1  # of a batch's draws


def train_tokenizer(captions: Iterable[str], vocabulary: int) -> CLIPTokenizer:
    """Learn a byte-pair encoding of that many entries from captions, in CLIP's layout.

    The entries are bytes, bytes that end a word, merges, and last the start and the end token: the end token has the
    highest id, on which CLIP's pooling relies when a configuration names no end token. Every text can be encoded.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    blank = CLIPTokenizer(vocab={"<|startoftext|>": 0, "<|endoftext|>": 1}, merges=[])
    learner = Tokenizer(models.BPE(end_of_word_suffix=END_OF_WORD))
    learner.normalizer = blank.backend_tokenizer.normalizer
    learner.pre_tokenizer = blank.backend_tokenizer.pre_tokenizer
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ends = [byte + END_OF_WORD for byte in alphabet]
    # The trainer orders merges of equal count by the ids of their parts. It numbers bytes that end a word as it meets
    # them in a hash table of random order, unless they are given, and then two trainings may differ.
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - 2,
        initial_alphabet=alphabet,
        special_tokens=ends,
        end_of_word_suffix=END_OF_WORD,
        show_progress=False,
    )
    learner.train_from_iterator(map(clean, captions), trainer)
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    entries = [*alphabet, *ends, *dict.fromkeys(a + b for a, b in merges)]
    entries += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {entry: i for i, entry in enumerate(entries)}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_TOKENS)


def build(tokenizer: CLIPTokenizer, config: PocketClipConfig) -> CLIPTextModelWithProjection:
    """An untrained text tower with the tokenizer's special tokens."""
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
    """The features of a frame that are its pose: root height and joint positions."""
    where = slices_of_width(features)
    return slice(where.root_height.start, where.positions.stop)


class FrozenText(nn.Module):
    """An encoder's pooled vectors, with its adapter merged, without training."""

    def __init__(self, encoder: AdaCLIP) -> None:
        super().__init__()
        self.model, self.pooling = encoder.merged().requires_grad_(False), encoder.pooling

    def forward(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """Pooled vectors (B, P) of token ids (B, L)."""
        return self.pooling(self.model, input_ids, mask)[0]


class StillPoseClip(nn.Module):
    """The two towers during training: the text tower, and a perceptron over one pose."""

    def __init__(self, text_model: nn.Module, pose_features: int, config: PocketClipConfig) -> None:
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
        frozen = isinstance(self.text_model, FrozenText)
        text = self.text_model(ids, text_mask) if frozen else self.text_model(input_ids=ids).text_embeds
        return text, self.pose(motion)


class StillPoseObjective(ContrastiveObjective):
    """InfoNCE between captions and one frame of each clip."""

    def view(self, batch: MotionBatch) -> Tensor:
        """The pose (B, pose_features) of a frame of each clip, drawn for each sample by itself."""
        share = batch.uniform(POSE_STREAM, (1,))[:, 0]
        frame = torch.minimum((share * batch.lengths).long(), batch.lengths - 1)
        poses = batch.motion[..., pose_slice(batch.motion.shape[-1])]
        return poses.gather(1, frame[:, None, None].expand(-1, 1, poses.shape[-1]))[:, 0]


def fit_pocket_clip(
    accelerator: Accelerator,
    dataset: MotionDataset,
    config: PocketClipConfig,
    place: Place,
    trackers: Sequence[str] = (),
) -> tuple[CLIPTextModelWithProjection, CLIPTokenizer]:
    """Train a still-pose CLIP on a split; return its text tower and tokenizer."""
    tokenizer = train_tokenizer(dataset.captions(), config.vocabulary)
    torch.manual_seed(seeding.mix(config.seed))
    text_model = build(tokenizer, config)
    fit_towers(accelerator, dataset, text_model, tokenizer, config, place, trackers)
    return text_model.eval(), tokenizer


def fit_towers(
    accelerator: Accelerator,
    dataset: MotionDataset,
    text_model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    config: PocketClipConfig,
    place: Place,
    trackers: Sequence[str] = (),
) -> StillPoseClip:
    """Train a pose tower, and a text tower where it requires gradients."""
    still = pose_slice(dataset.features)
    towers = StillPoseClip(text_model, still.stop - still.start, config)
    captions = CaptionTable(tokenizer, dataset.captions(), device=accelerator.device)
    objective = StillPoseObjective(accelerator, towers, captions, temperature=TEMPERATURE)
    fit(accelerator, dataset, objective, contrastive_training(config, trackers), place)
    return towers


def fit_pose_probe(
    accelerator: Accelerator, dataset: MotionDataset, encoder: AdaCLIP, config: PocketClipConfig, place: Place
) -> StillPoseClip:
    """Train a pose tower for a frozen copy of an encoder, which measures what its vectors say about poses."""
    frozen = FrozenText(encoder)
    torch.manual_seed(seeding.mix(config.seed))
    config = replace(config, projection=encoder.projection_size)
    return fit_towers(accelerator, dataset, frozen, encoder.tokenizer, config, place)
