"""Networks of the masked token family (Guo et al. 2024, MoMask): a residual quantiser and two transformers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from adaqf_train.generators.masked.config import TokenizerConfig, TransformerConfig
from adaqf_train.generators.noise import Noise
from adaqf_train.generators.temporal import TemporalDecoder, TemporalEncoder, latent_mask
from adaqf_train.layers import PositionCodes

RESIDUAL = 1000  # added to a residual level, so that its noise is not that of a round of the base level


class Quantised(NamedTuple):
    """Latents as sums of codes, one from each level's codebook."""

    latents: Tensor  # (B, N, code): the sums; their gradient goes to what was quantised
    tokens: Tensor  # (B, N, levels) long
    residuals: Tensor  # (B, N, levels, code): the input of each level, without gradients
    commitment: Tensor  # (B,): mean squared distance of each level's input to its code


class ResidualQuantiser(nn.Module):
    """A codebook for each level; a level quantises the residual of the levels before it."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("codes", torch.zeros(config.levels, config.codes, config.code))
        self.register_buffer("uses", torch.zeros(config.levels, config.codes))  # moving averages, as the sums
        self.register_buffer("sums", torch.zeros(config.levels, config.codes, config.code))

    def forward(self, latents: Tensor, mask: Tensor, levels: int) -> Quantised:
        """Quantise latents (B, N, code), mask (B, N) True = real, with the first `levels` levels."""
        latents = latents.float()  # at any precision: a level's residual is small beside its input
        left, commitment = latents, latents.new_zeros(len(latents))
        tokens, residuals = [], []
        for codes in self.codes[:levels]:
            nearest = _nearest(left.detach(), codes)
            code = codes[nearest]
            distance = (left - code).square().mean(dim=-1) * mask
            commitment = commitment + distance.sum(dim=-1) / mask.sum(dim=-1)
            tokens.append(nearest)
            residuals.append(left.detach())
            left = left - code
        total = latents - left  # the sum of the codes; the gradient passes straight through
        straight = latents + (total - latents).detach()
        return Quantised(straight, torch.stack(tokens, -1), torch.stack(residuals, -2), commitment / levels)

    def look_up(self, tokens: Tensor) -> Tensor:
        """Sums of codes: (B, N, levels) long, of the first levels -> (B, N, code)."""
        return sum(self.codes[level][tokens[..., level]] for level in range(tokens.shape[-1]))

    @torch.no_grad()
    def start(self, latents: Tensor) -> None:
        """Draw the codes of every level from its inputs for these latents (M, code)."""
        latents = latents.float()
        for codes in self.codes:
            codes.copy_(latents[torch.randint(len(latents), (len(codes),)).to(latents.device)])
            latents = latents - codes[_nearest(latents, codes)]
        self.uses.fill_(self.config.reset_below + 1)
        self.sums.copy_(self.codes * self.uses[..., None])

    @torch.no_grad()
    def counts(self, quantised: Quantised, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The uses of each code (levels, codes), and the sums of the inputs it replaced (levels, codes, code)."""
        tokens, residuals = quantised.tokens[mask], quantised.residuals[mask]  # (M, levels), (M, levels, code)
        levels, entries = tokens.shape[1], self.config.codes
        place = (tokens + entries * torch.arange(levels, device=tokens.device)).flatten()
        uses = torch.bincount(place, minlength=levels * entries).to(self.uses.dtype)
        sums = self.sums.new_zeros(levels * entries, self.config.code).index_add_(0, place, residuals.flatten(0, 1))
        return uses.unflatten(0, (levels, entries)), sums.unflatten(0, (levels, entries))

    @torch.no_grad()
    def follow(self, uses: Tensor, sums: Tensor, residuals: Tensor) -> None:
        """Move the codebooks of the first levels towards the inputs of their codes, and reset idle codes.

        uses, sums: from `counts`, summed over processes. residuals: (M, levels, code), new places for idle codes.
        """
        levels, weight = len(uses), 1 - self.config.decay
        self.uses[:levels].lerp_(uses, weight)
        self.sums[:levels].lerp_(sums, weight)
        self.codes[:levels] = self.sums[:levels] / self.uses[:levels, :, None].clamp(min=1e-6)
        for level in range(levels):
            idle = (self.uses[level] < self.config.reset_below).nonzero()[:, 0]
            rows = torch.randint(len(residuals), (len(idle),)).to(residuals.device)
            self.codes[level, idle] = residuals[rows, level]
            self.uses[level, idle] = self.config.reset_below
            self.sums[level, idle] = residuals[rows, level] * self.config.reset_below


class MotionTokenizer(nn.Module):
    """Motions to tokens at a quarter of the frame rate, `levels` of them at a time, and back; reads no text."""

    def __init__(self, features: int, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = TemporalEncoder(features, config.width, config.depth, config.code)
        self.quantiser = ResidualQuantiser(config)
        self.decoder = TemporalDecoder(config.code, config.width, config.depth, features)

    def forward(self, motion: Tensor, mask: Tensor, levels: int) -> tuple[Tensor, Quantised]:
        """The reconstruction (B, T, D) of motions through the first levels, and their quantised latents."""
        real = latent_mask(mask)
        quantised = self.quantiser(self.encoder(motion, mask), real, levels)
        return self.decoder(quantised.latents, real), quantised

    @torch.no_grad()
    def encode(self, motion: Tensor, mask: Tensor) -> Tensor:
        """Tokens (B, T / 4, levels) long of normalised features (B, T, D), mask (B, T) True = real."""
        return self.quantiser(self.encoder(motion, mask), latent_mask(mask), self.config.levels).tokens

    def decode(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Normalised features (B, 4 N, D) of tokens (B, N, levels), of the first levels; mask (B, N) True = real."""
        return self.decoder(self.quantiser.look_up(tokens), mask)


def _nearest(latents: Tensor, codes: Tensor) -> Tensor:
    """Indices of the nearest codes: (..., C), (K, C) -> (...)."""
    with torch.autocast(latents.device.type, enabled=False):
        # |x - c|^2 without |x|^2, which is the same for all codes.
        return (codes.square().sum(dim=-1) - 2 * latents.float() @ codes.T).argmin(dim=-1)


class TextFirst(nn.Module):
    """A transformer encoder over a sequence that begins with the prompt's pooled vector."""

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
        """The token in place of those to predict."""
        return self.codes

    def forward(self, tokens: Tensor, text: Tensor, mask: Tensor, keep_text: Tensor | None = None) -> Tensor:
        """Logits (B, N, codes) of tokens (B, N), text (B, P), mask (B, N) True = real, keep_text (B,) or None: all."""
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
        noise: Noise,
        on_step: Callable[[], None] = lambda: None,
    ) -> Tensor:
        """Tokens (B, N) of text (B, P), mask (B, N), filled in rounds; then the least likely are masked again."""
        lengths = mask.sum(dim=-1)
        tokens = torch.full(mask.shape, self.mask_token, device=mask.device)
        for step in range(steps):
            logits = guided(self, (tokens,), text, mask, guidance)
            drawn = draw(logits, temperature, noise, step)
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
        """Logits (B, N, codes) of each item's level (B,) >= 1, from the levels before it of tokens (B, N, >= level)."""
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
        noise: Noise,
        on_step: Callable[[], None] = lambda: None,
    ) -> Tensor:
        """Tokens (B, N, levels) on top of the base level's, drawn in order: fewer levels are the first ones of more."""
        tokens = base[..., None]
        for level in range(1, levels):
            of = torch.full((len(mask),), level, device=mask.device)
            logits = guided(self, (tokens, of), text, mask, guidance)
            drawn = draw(logits, temperature, noise, RESIDUAL + level).masked_fill(~mask, 0)
            tokens = torch.cat([tokens, drawn[..., None]], dim=-1)
            on_step()
        return tokens


def masked_share(progress: Tensor | float) -> Tensor | float:
    """Share of a sequence that is masked at a progress in [0, 1]: the cosine schedule (Chang et al. 2022, MaskGIT)."""
    return torch.cos(torch.as_tensor(progress) * math.pi / 2)


def guided(network: nn.Module, inputs: Sequence[Tensor], text: Tensor, mask: Tensor, guidance: float) -> Tensor:
    """Logits with classifier-free guidance, both halves in one pass: (B, N, codes)."""
    B = len(mask)
    keep_text = torch.arange(2 * B, device=mask.device) < B
    twice = [torch.cat([part, part]) for part in (*inputs, text, mask)]
    with_text, without = network(*twice, keep_text).chunk(2)
    return without + guidance * (with_text - without)


def draw(logits: Tensor, temperature: float, noise: Noise, step: int) -> Tensor:
    """Draw a token from softmax(logits / temperature) at each place, (B, N, codes) -> (B, N)."""
    return (logits / temperature + noise.gumbel(step, *logits.shape[1:])).argmax(dim=-1)
