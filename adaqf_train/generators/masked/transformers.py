"""Transformers over motion tokens: one fills the masked base level, one adds the residual levels (MoMask)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from adaqf_train.config.families import TransformerConfig
from adaqf_train.layers import PositionCodes


class TextFirst(nn.Module):
    """A transformer encoder over a sequence that stands behind its prompt's pooled vector."""

    def __init__(self, text_width: int, config: TransformerConfig) -> None:
        super().__init__()
        self.text_in = nn.Linear(text_width, config.width)
        self.positions = PositionCodes(config.width, config.dropout)
        layer = nn.TransformerEncoderLayer(
            config.width, config.heads, config.feedforward, config.dropout, "gelu", batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)

    def forward(self, x: Tensor, text: Tensor, mask: Tensor, keep_text: Tensor | None) -> Tensor:
        """(B, N, width), text (B, P), mask (B, N) True = real, keep_text (B,) or None: all -> (B, N, width)."""
        if keep_text is not None:
            text = text * keep_text[:, None]
        x = self.positions(torch.cat([self.text_in(text)[:, None], x], dim=1))
        mask = torch.cat([mask.new_ones(len(x), 1), mask], dim=1)
        return self.encoder(x, src_key_padding_mask=~mask)[:, 1:]


class MaskedTransformer(nn.Module):
    """Predicts the tokens of the base level where they are masked."""

    def __init__(self, codes: int, text_width: int, config: TransformerConfig) -> None:
        super().__init__()
        self.codes = codes
        self.tokens = nn.Embedding(codes + 1, config.width)
        self.body = TextFirst(text_width, config)
        self.out = nn.Sequential(
            nn.Linear(config.width, config.width), nn.GELU(), nn.LayerNorm(config.width), nn.Linear(config.width, codes)
        )

    @property
    def mask_token(self) -> int:
        """The token that stands for what is to be predicted."""
        return self.codes

    def forward(self, tokens: Tensor, text: Tensor, mask: Tensor, keep_text: Tensor | None = None) -> Tensor:
        """Logits (B, N, codes) of tokens (B, N), some of them `mask_token`.

        text: (B, P) pooled; mask: (B, N), True = real; keep_text: (B,) bool, False = unconditional, None: all kept.
        """
        return self.out(self.body(self.tokens(tokens), text, mask, keep_text))

    @torch.no_grad()
    def sample(
        self,
        text: Tensor,
        mask: Tensor,
        *,
        guidance: float,
        steps: int,
        temperature: float,
        generators: Sequence[torch.Generator],
        on_step: Callable[[], None] = lambda: None,
    ) -> Tensor:
        """Tokens (B, N) for B prompts, filled in `steps` rounds; after each the least likely ones are masked again.

        text: (B, P); mask: (B, N), True = real; generators: one on the CPU for each item, which draws from it alone.
        """
        lengths = mask.sum(dim=-1)
        tokens = torch.full(mask.shape, self.mask_token, device=mask.device)
        for step in range(steps):
            logits = guided(self, (tokens,), text, mask, guidance)
            drawn = draw(logits, lengths, temperature, generators)
            likelihood = logits.softmax(dim=-1).gather(-1, drawn[..., None])[..., 0]
            open_ = (tokens == self.mask_token) & mask
            drawn = torch.where(open_, drawn, tokens)
            still = (masked_share((step + 1) / steps) * lengths).floor().long()
            rank = likelihood.masked_fill(~open_, math.inf).argsort(dim=-1).argsort(dim=-1)
            tokens = torch.where(open_ & (rank < still[:, None]), self.mask_token, drawn)
            on_step()
        return tokens.masked_fill(~mask, 0)


class ResidualTransformer(nn.Module):
    """Predicts a residual level's tokens from the levels before it."""

    def __init__(self, codes: int, levels: int, text_width: int, config: TransformerConfig) -> None:
        """levels: of the tokenizer, the base level included."""
        super().__init__()
        self.levels = levels
        self.tokens = nn.Parameter(torch.randn(levels - 1, codes, config.width) * 0.02)
        self.level = nn.Embedding(levels - 1, config.width)
        self.body = TextFirst(text_width, config)
        self.out = nn.Parameter(torch.randn(levels - 1, codes, config.width) * 0.02)

    def forward(
        self, tokens: Tensor, level: Tensor, text: Tensor, mask: Tensor, keep_text: Tensor | None = None
    ) -> Tensor:
        """Logits (B, N, codes) of each item's level.

        tokens: (B, N, >= level), of which the levels before are read; level: (B,) long in [1, levels); text: (B, P)
        pooled; mask: (B, N), True = real.
        """
        known = min(tokens.shape[-1], self.levels - 1)
        before = torch.arange(known, device=level.device) < level[:, None]  # (B, known)
        x = sum(self.tokens[i][tokens[..., i]] * before[:, i, None, None] for i in range(known))
        hidden = self.body(x + self.level(level - 1)[:, None], text, mask, keep_text)
        return torch.einsum("bnw,bkw->bnk", hidden, self.out[level - 1])

    @torch.no_grad()
    def sample(
        self,
        base: Tensor,
        text: Tensor,
        mask: Tensor,
        *,
        levels: int,
        guidance: float,
        temperature: float,
        generators: Sequence[torch.Generator],
        on_step: Callable[[], None] = lambda: None,
    ) -> Tensor:
        """Tokens (B, N, levels) on top of the base level's (B, N); the other arguments as `MaskedTransformer.sample`'s.

        Levels are drawn one after the other, so fewer of them are the first ones of more.
        """
        tokens, lengths = base[..., None], mask.sum(dim=-1)
        for level in range(1, levels):
            of = torch.full((len(mask),), level, device=mask.device)
            logits = guided(self, (tokens, of), text, mask, guidance)
            drawn = draw(logits, lengths, temperature, generators).masked_fill(~mask, 0)
            tokens = torch.cat([tokens, drawn[..., None]], dim=-1)
            on_step()
        return tokens


def masked_share(progress: Tensor | float) -> Tensor | float:
    """How much of a sequence is masked at a progress in [0, 1]: the cosine schedule (Chang et al. 2022, MaskGIT)."""
    return torch.cos(torch.as_tensor(progress) * math.pi / 2)


def guided(network: nn.Module, inputs: Sequence[Tensor], text: Tensor, mask: Tensor, guidance: float) -> Tensor:
    """Logits with classifier-free guidance, both halves in one pass: (B, N, codes)."""
    B = len(mask)
    keep_text = torch.arange(2 * B, device=mask.device) < B
    twice = [torch.cat([part, part]) for part in (*inputs, text, mask)]
    with_text, without = network(*twice, keep_text).chunk(2)
    return without + guidance * (with_text - without)


def draw(logits: Tensor, lengths: Tensor, temperature: float, generators: Sequence[torch.Generator]) -> Tensor:
    """A token from softmax(logits / temperature) at each place, (B, N, codes) -> (B, N); an item draws its own only."""
    noise = torch.zeros(logits.shape)
    for row, length, generator in zip(noise, lengths.tolist(), generators, strict=True):
        # Gumbel noise: the largest of logits so disturbed is distributed as their softmax.
        uniform = torch.rand(length, logits.shape[-1], generator=generator).clamp(1e-20, 1 - 1e-7)
        row[:length] = -(-uniform.log()).log()
    return (logits / temperature + noise.to(logits.device)).argmax(dim=-1)
