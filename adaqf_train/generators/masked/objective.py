"""Objectives and fits of the masked token family: the residual quantiser, and two transformers over its tokens."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

from adaclip import AdaCLIP
from adaqf_train import philox
from adaqf_train.config import DiffusionConfig
from adaqf_train.data.batches import MotionBatch
from adaqf_train.encoders.captions import FrozenCaptions
from adaqf_train.generators.masked.config import MaskedFamily, TokenizerConfig
from adaqf_train.generators.masked.generator import MaskedGenerator
from adaqf_train.generators.masked.networks import MotionTokenizer, masked_share
from adaqf_train.generators.registry import Fitting
from adaqf_train.generators.shared import FRAMES_PER_LATENT
from adaqf_train.generators.temporal import latent_mask
from adaqf_train.training.fit import fit
from adaqf_train.training.losses import masked_cross_entropy, masked_mse
from adaqf_train.training.objective import Losses, Objective

LEVELS = 10  # stream of the draws of levels


class QuantiserObjective(Objective):
    """Reconstruction and commitment; the codebooks follow moving averages (MoMask)."""

    accumulates = False

    def __init__(self, accelerator: Accelerator, tokenizer: MotionTokenizer) -> None:
        super().__init__()
        self.accelerator, self.tokenizer = accelerator, tokenizer

    @property
    def learns(self) -> Mapping[str, nn.Module]:
        return {"tokenizer": self.tokenizer}

    def forward(self, batch: MotionBatch) -> Losses:
        tokenizer, real = self.tokenizer, latent_mask(batch.mask)
        if not tokenizer.quantiser.uses.any():
            with torch.no_grad():
                tokenizer.quantiser.start(tokenizer.encoder(batch.motion, batch.mask)[real])
                if self.accelerator.num_processes > 1:  # each drew codes from its own share of the batch
                    for buffer in tokenizer.quantiser.buffers():
                        buffer.copy_(broadcast(buffer))
        levels = _levels(batch, self.accelerator.num_processes, tokenizer.config)
        motion, quantised = tokenizer(batch.motion, batch.mask, levels)
        mse = masked_mse(motion, batch.motion, batch.mask).mean()
        commitment = quantised.commitment.mean()
        uses, sums = tokenizer.quantiser.counts(quantised, real)
        if self.accelerator.num_processes > 1:
            uses, sums = self.accelerator.reduce(uses), self.accelerator.reduce(sums)
        tokenizer.quantiser.follow(uses, sums, quantised.residuals[real])
        loss = mse + tokenizer.config.commitment * commitment
        return loss, {"loss": loss, "mse": mse, "commitment": commitment}


class _TokenObjective(Objective):
    """What both transformers share: tokens of the batch, and pooled vectors of its captions."""

    def __init__(self, generator: MaskedGenerator, network: nn.Module, text: FrozenCaptions, text_drop: float) -> None:
        super().__init__()
        self._generator = (generator,)  # a tuple: what the generator holds beside the network is not trained here
        self.network, self.text = network, text
        self.diffusion = DiffusionConfig(text_drop=text_drop)  # only the drop matters here
        self.compiles = (network,)

    @property
    def learns(self) -> Mapping[str, nn.Module]:
        return {"network": self.network}

    @property
    def generator(self) -> MaskedGenerator:
        """The generator that the network belongs to."""
        return self._generator[0]


class MaskedObjective(_TokenObjective):
    """Cross-entropy of masked tokens of the base level."""

    def forward(self, batch: MotionBatch) -> Losses:
        real, config = latent_mask(batch.mask), self.generator.config.masked
        tokens = self.generator.tokenizer.encode(batch.motion, batch.mask)[..., 0]
        shown, asked = masked_tokens(tokens, real, batch, self.network.mask_token, config.corrupted)
        logits = self.network(shown, self.text.pooled(batch.captions), real, batch.keep_text)
        loss = masked_cross_entropy(logits, tokens, asked).mean()
        right = (((logits.argmax(dim=-1) == tokens) & asked).sum() / asked.sum()).detach()
        return loss, {"loss": loss, "accuracy": right}


class ResidualObjective(_TokenObjective):
    """Cross-entropy of the tokens of one residual level, drawn for each sample."""

    def forward(self, batch: MotionBatch) -> Losses:
        real, levels = latent_mask(batch.mask), self.generator.tokenizer.config.levels
        tokens = self.generator.tokenizer.encode(batch.motion, batch.mask)
        level = 1 + (shares(batch, 0)[:, 0] * (levels - 1)).long().clamp(max=levels - 2)
        logits = self.network(tokens, level, self.text.pooled(batch.captions), real, batch.keep_text)
        target = tokens.gather(-1, level[:, None, None].expand(*tokens.shape[:2], 1))[..., 0]
        loss = masked_cross_entropy(logits, target, real).mean()
        return loss, {"loss": loss}


def fit_masked_generator(to: Fitting, encoder: AdaCLIP, config: MaskedFamily) -> MaskedGenerator:
    """Train both transformers from scratch, scored with the base level alone; encoder and quantiser do not change."""
    generator = to.untrained(MaskedGenerator, encoder, config, config.masked_training.seed)
    text = FrozenCaptions(encoder, to.dataset.captions(), "pooled")
    most, generator.levels = generator.levels, 1
    objective = MaskedObjective(generator, generator.masked, text, config.masked.text_drop)
    fit(to.accelerator, to.dataset, objective, config.masked_training, to.place("generator"), to.watch(generator))
    generator.levels = most
    if generator.residual is not None:
        generator.to(to.accelerator.device)
        objective = ResidualObjective(generator, generator.residual, text, config.residual.text_drop)
        fit(to.accelerator, to.dataset, objective, config.residual_training, to.place("residual"))
    return generator.cpu()


def shares(batch: MotionBatch, stream: int) -> Tensor:
    """Uniform draws (B, T / 4) in (0, 1), the same on any number of processes; streams are independent."""
    return batch.uniform(1 + stream, (batch.motion.shape[1] // FRAMES_PER_LATENT,))


def masked_tokens(
    tokens: Tensor, mask: Tensor, batch: MotionBatch, masked: int, corrupted: float
) -> tuple[Tensor, Tensor]:
    """Choose what to predict of tokens (B, N), mask (B, N) True = real; return the tokens as shown, and a bool (B, N).

    How many follows the cosine schedule at a progress drawn for each item; at least one is chosen. The share
    `corrupted` of them is shown as a random code, so that the network does not trust earlier draws blindly; the others
    as the token `masked`, which is also the number of codes.
    """
    lengths = mask.sum(dim=-1)
    count = (masked_share(shares(batch, 0)[:, 0]) * lengths).round().long().clamp(min=1)
    rank = shares(batch, 1).masked_fill(~mask, 2.0).argsort(dim=-1).argsort(dim=-1)
    asked = (rank < count[:, None]) & mask
    random = (shares(batch, 3) * masked).long().clamp(max=masked - 1)
    instead = torch.where(shares(batch, 2) < corrupted, random, masked)
    return torch.where(asked, instead, tokens), asked


def _levels(batch: MotionBatch, processes: int, config: TokenizerConfig) -> int:
    """Levels that a step's batch is quantised with, the same on all processes: drawn for its first sample."""
    size = len(batch.keys) * processes
    first = batch.index[:1] // size * size
    drop, share = philox.uniform(batch.seed, first, (2,), stream=LEVELS)[0].tolist()
    return 1 + int(share * config.levels) if drop < config.level_drop else config.levels
