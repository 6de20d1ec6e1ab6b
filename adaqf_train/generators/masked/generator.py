"""Masked tokens from text (MoMask's family): a base level filled in rounds, residual levels on top of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from torch import Tensor

from adaclip import AdaCLIP
from adaqf_train.config import schema
from adaqf_train.errors import ConfigError
from adaqf_train.generators.base import MotionGenerator, OnStep
from adaqf_train.generators.masked.config import MaskedFamily, TokenSamplingConfig
from adaqf_train.generators.masked.networks import MaskedTransformer, MotionTokenizer, ResidualTransformer
from adaqf_train.generators.sampling import Batch
from adaqf_train.generators.temporal import latent_mask

_PARTS = ("tokenizer", "masked", "residual", "sampling")  # of the settings, what a trained generator needs


class MaskedGenerator(MotionGenerator):
    """A motion quantiser and two transformers over its tokens, which read the prompt's pooled vector."""

    family = "masked"
    title = "masked tokens"
    method = "masked-modeling"

    def __init__(
        self, encoder: AdaCLIP, tokenizer: MotionTokenizer, mean: Tensor, std: Tensor, config: MaskedFamily
    ) -> None:
        """Takes a frozen encoder and a trained quantiser; the transformers start untrained."""
        super().__init__(encoder.requires_grad_(False), mean, std, config.sampling)
        self.config = config
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
        """The rounds of the base level, and one step for each residual level."""
        return self.sampling.steps + self.levels - 1

    def _sample(self, batch: Batch, settings: TokenSamplingConfig, on_step: OnStep) -> Tensor:
        real, text = latent_mask(batch.mask), batch.text.pooled
        drawing = {"temperature": settings.temperature, "noise": batch.noise, "on_step": on_step}
        base = self.masked.sample(text, real, guidance=settings.guidance, steps=settings.steps, **drawing)
        if self.levels == 1:
            return self.tokenizer.decode(base[..., None], real)
        guidance = settings.residual_guidance
        tokens = self.residual.sample(base, text, real, levels=self.levels, guidance=guidance, **drawing)
        return self.tokenizer.decode(tokens, real)

    def settings(self) -> dict[str, Any]:
        """The sizes of the three networks, the sampling settings and the levels in use."""
        own = {name: asdict(getattr(self.config, name)) for name in _PARTS}
        return own | {"sampling": asdict(self.sampling), "levels": self.levels}

    @classmethod
    def build(cls, encoder: AdaCLIP, mean: Tensor, std: Tensor, settings: dict[str, Any]) -> MaskedGenerator:
        """An untrained generator of those sizes."""
        config = schema.build(MaskedFamily, {name: settings[name] for name in _PARTS})
        generator = cls(encoder, MotionTokenizer(len(mean), config.tokenizer), mean, std, config)
        generator.levels = settings["levels"]
        return generator
