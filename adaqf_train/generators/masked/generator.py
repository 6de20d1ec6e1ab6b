"""Masked tokens from text: a base level filled in rounds, residual levels on top of it (MoMask's family)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

import torch
from torch import Tensor

from adaclip import AdaCLIP, TextFeatures
from adaqf_train.config.families import MaskedFamily, TokenizerConfig, TokenSamplingConfig, TransformerConfig
from adaqf_train.errors import ConfigError
from adaqf_train.generators.base import LatentFrameGenerator
from adaqf_train.generators.masked.quantiser import MotionTokenizer
from adaqf_train.generators.masked.transformers import MaskedTransformer, ResidualTransformer
from adaqf_train.generators.temporal import latent_mask


class MaskedGenerator(LatentFrameGenerator):
    """Prompts in, motions out, by way of tokens. Reads the prompt's pooled vector."""

    family = "masked"

    def __init__(
        self, encoder: AdaCLIP, tokenizer: MotionTokenizer, mean: Tensor, std: Tensor, config: MaskedFamily
    ) -> None:
        """tokenizer: a trained one; the transformers start untrained."""
        super().__init__(encoder, mean, std)
        self.config, self.sampling = config, config.sampling
        self.tokenizer = tokenizer.requires_grad_(False)
        sizes, width = tokenizer.config, encoder.projection_size
        self.masked = MaskedTransformer(sizes.codes, width, config.masked)
        self.residual = (
            ResidualTransformer(sizes.codes, sizes.levels, width, config.residual) if sizes.levels > 1 else None
        )
        self._levels = sizes.levels

    @property
    def levels(self) -> int:
        """How many levels motions are made of: 1 is R0 of the paper's Table 9, the base level alone."""
        return self._levels

    @levels.setter
    def levels(self, levels: int) -> None:
        most = self.tokenizer.config.levels
        if not 1 <= levels <= most:
            raise ConfigError(f"levels must lie between 1 and {most}, got {levels}.")
        self._levels = levels

    @property
    def steps(self) -> int:
        return self.sampling.steps + self.levels - 1

    @property
    def batch(self) -> int:
        return self.sampling.batch

    def _sample(
        self, text: TextFeatures, mask: Tensor, generators: Sequence[torch.Generator], on_step: Callable[[], object]
    ) -> Tensor:
        real = latent_mask(mask)
        drawing = {"temperature": self.sampling.temperature, "generators": generators, "on_step": on_step}
        base = self.masked.sample(
            text.pooled, real, guidance=self.sampling.guidance, steps=self.sampling.steps, **drawing
        )
        if self.levels == 1:
            return self.tokenizer.decode(base[..., None], real)
        tokens = self.residual.sample(
            base, text.pooled, real, levels=self.levels, guidance=self.sampling.residual_guidance, **drawing
        )
        return self.tokenizer.decode(tokens, real)

    def _settings(self) -> dict:
        return {
            "tokenizer": asdict(self.tokenizer.config),
            "masked": asdict(self.config.masked),
            "residual": asdict(self.config.residual),
            "sampling": asdict(self.sampling),
            "levels": self.levels,
        }

    @classmethod
    def _build(cls, encoder: AdaCLIP, mean: Tensor, std: Tensor, settings: dict) -> MaskedGenerator:
        config = MaskedFamily(
            tokenizer=TokenizerConfig(**settings["tokenizer"]),
            masked=TransformerConfig(**settings["masked"]),
            residual=TransformerConfig(**settings["residual"]),
            sampling=TokenSamplingConfig(**settings["sampling"]),
        )
        generator = cls(encoder, MotionTokenizer(len(mean), config.tokenizer), mean, std, config)
        generator.levels = settings["levels"]
        return generator
