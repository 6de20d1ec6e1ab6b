"""Fits of the masked token family: the residual quantiser, and two transformers under a frozen text encoder."""

from __future__ import annotations

from collections.abc import Callable

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from adaclip import AdaCLIP
from adaqf_train import seeding
from adaqf_train.config import TrainingConfig
from adaqf_train.config.families import FRAMES_PER_LATENT, MaskedFamily, TokenizerConfig
from adaqf_train.data.batches import MotionBatch
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.encoders.frozen_text import FrozenText
from adaqf_train.generators.masked.generator import MaskedGenerator
from adaqf_train.generators.masked.quantiser import MotionTokenizer, Quantised
from adaqf_train.generators.masked.transformers import masked_share
from adaqf_train.generators.temporal import latent_mask
from adaqf_train.training import fit as fit_network
from adaqf_train.training import loop
from adaqf_train.training.fit import Curve
from adaqf_train.training.loop import Place
from adaqf_train.training.losses import masked_cross_entropy, masked_mse

At = Callable[[int, MaskedGenerator], None]


def fit_tokenizer(
    accelerator: Accelerator, dataset: MotionDataset, config: TokenizerConfig, training: TrainingConfig, place: Place
) -> MotionTokenizer:
    """The residual quantiser of a split; it sees no text, so one serves all encoders that are compared."""
    torch.manual_seed(seeding.mix(training.seed))
    tokenizer = MotionTokenizer(dataset.features, config)

    def losses(network: nn.Module, batch: MotionBatch) -> loop.Losses:
        real = latent_mask(batch.mask)
        if not tokenizer.quantiser.uses.any():
            with torch.no_grad():
                tokenizer.quantiser.start(tokenizer.encoder(batch.motion, batch.mask)[real])
        motion, quantised = network(batch.motion, batch.mask, _levels(config))
        mse = masked_mse(motion, batch.motion, batch.mask).mean()
        commitment = quantised.commitment.mean()
        _follow(accelerator, tokenizer, quantised, real)
        loss = mse + config.commitment * commitment
        return loss, {"loss": loss, "mse": mse, "commitment": commitment}

    fit_network.fit(accelerator, dataset, tokenizer, losses, training, place)
    return tokenizer


def fit_masked_generator(
    accelerator: Accelerator,
    dataset: MotionDataset,
    encoder: AdaCLIP,
    tokenizer: MotionTokenizer,
    config: MaskedFamily,
    masked: Place,
    residual: Place,
    *,
    every: int | None = None,
    at: At | None = None,
) -> MaskedGenerator:
    """A generator whose transformers were trained from scratch; encoder and tokenizer stay as they are.

    masked, residual: where the fit of either transformer writes. at(step, generator): called every `every` steps of
    the base level's training and at its end, with the generator as it would be then on its base level alone; a
    resumed fit may call it again for the step of its checkpoint.
    """
    torch.manual_seed(seeding.mix(config.masked_training.seed))
    statistics = torch.from_numpy(dataset.mean), torch.from_numpy(dataset.std)
    generator = MaskedGenerator(encoder, tokenizer, *statistics, config).eval().to(accelerator.device)
    text = FrozenText(encoder, dataset.captions(), "pooled")
    most = generator.levels
    generator.levels = 1
    _fit_masked(accelerator, dataset, generator, text, masked, every, at)
    generator.levels = most
    if generator.residual is not None:
        generator.to(accelerator.device)
        _fit_residual(accelerator, dataset, generator, text, residual)
    return generator.cpu()


def _fit_masked(
    accelerator: Accelerator,
    dataset: MotionDataset,
    generator: MaskedGenerator,
    text: FrozenText,
    place: Place,
    every: int | None,
    at: At | None,
) -> None:
    training, config = generator.config.masked_training, generator.config.masked

    def losses(network: nn.Module, batch: MotionBatch) -> loop.Losses:
        real, draws = latent_mask(batch.mask), Draws(batch)
        tokens = generator.tokenizer.encode(batch.motion, batch.mask)[..., 0]
        shown, asked = masked_tokens(tokens, real, draws, generator.masked.mask_token, config.corrupted)
        logits = network(shown, text.pooled(batch.captions).to(tokens.device), real, batch.keep_text)
        loss = masked_cross_entropy(logits, tokens, asked).mean()
        right = (((logits.argmax(dim=-1) == tokens) & asked).sum() / asked.sum()).detach()
        return loss, {"loss": loss, "accuracy": right}

    curve = Curve(every or training.steps, lambda step: at(step, generator)) if at else None
    fit_network.fit(
        accelerator, dataset, generator.masked, losses, training, place, text_drop=config.text_drop, curve=curve
    )


def _fit_residual(
    accelerator: Accelerator, dataset: MotionDataset, generator: MaskedGenerator, text: FrozenText, place: Place
) -> None:
    training, config = generator.config.residual_training, generator.config.residual
    levels = generator.tokenizer.config.levels

    def losses(network: nn.Module, batch: MotionBatch) -> loop.Losses:
        real = latent_mask(batch.mask)
        tokens = generator.tokenizer.encode(batch.motion, batch.mask)
        level = 1 + (Draws(batch).share(0)[:, 0] * (levels - 1)).long().clamp(max=levels - 2)
        logits = network(tokens, level, text.pooled(batch.captions).to(tokens.device), real, batch.keep_text)
        target = tokens.gather(-1, level[:, None, None].expand(*tokens.shape[:2], 1))[..., 0]
        loss = masked_cross_entropy(logits, target, real).mean()
        return loss, {"loss": loss}

    fit_network.fit(accelerator, dataset, generator.residual, losses, training, place, text_drop=config.text_drop)


class Draws:
    """Uniform draws that belong to each sample, so that they are the same on any number of processes."""

    def __init__(self, batch: MotionBatch) -> None:
        self._noise = batch.noise[:, ::FRAMES_PER_LATENT]

    def share(self, stream: int) -> Tensor:
        """(B, T / 4) in [0, 1]; streams are independent of each other."""
        return torch.special.ndtr(self._noise[..., stream])


def masked_tokens(tokens: Tensor, mask: Tensor, draws: Draws, masked: int, corrupted: float) -> tuple[Tensor, Tensor]:
    """What the network is shown, (B, N), and where it is asked, (B, N) bool.

    tokens: (B, N); mask: (B, N), True = real; masked: the mask's token, and how many codes there are. How many are
    asked for follows the cosine schedule at a progress drawn for each item; at least one is. Of these a share of
    `corrupted` is shown as a random code, so that what was drawn earlier is not believed blindly.
    """
    lengths = mask.sum(dim=-1)
    asked_for = (masked_share(draws.share(0)[:, 0]) * lengths).round().long().clamp(min=1)
    rank = draws.share(1).masked_fill(~mask, 2.0).argsort(dim=-1).argsort(dim=-1)
    asked = (rank < asked_for[:, None]) & mask
    random = (draws.share(3) * masked).long().clamp(max=masked - 1)
    instead = torch.where(draws.share(2) < corrupted, random, masked)
    return torch.where(asked, instead, tokens), asked


def _levels(config: TokenizerConfig) -> int:
    """How many levels a batch is quantised with; drawn from the generator that the loop seeds for each step."""
    if torch.rand(()) >= config.level_drop:
        return config.levels
    return int(torch.randint(1, config.levels + 1, ()))


def _follow(accelerator: Accelerator, tokenizer: MotionTokenizer, quantised: Quantised, real: Tensor) -> None:
    uses, sums = tokenizer.quantiser.counts(quantised, real)
    if accelerator.num_processes > 1:
        uses, sums = accelerator.reduce(uses), accelerator.reduce(sums)
    tokenizer.quantiser.follow(uses, sums, quantised.residuals[real])
