"""MDM's denoiser: a transformer over frames, conditioned on the timestep and the text encoder's features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adaclip import AdaCLIP, TextFeatures
from adaqf_train.config import DenoiserConfig
from adaqf_train.layers import Decoder, FrameTokens, PositionCodes, sinusoidal_table


def build_denoiser(encoder: AdaCLIP, features: int, config: DenoiserConfig, timesteps: int) -> Denoiser:
    """An untrained denoiser that reads that encoder's features."""
    width = encoder.projection_size if config.conditioning == "pooled" else encoder.hidden_size
    return Denoiser(features, width, config, timesteps, encoder.projection_size)


class Denoiser(nn.Module):
    """Predicts the clean motion x0 from a noisy one (Tevet et al. 2023, `model/mdm.py`).

    The text encoder is a sibling, not a part: its features come in as an argument. The condition is a sequence: with
    conditioning "tokens" the timestep's embedding and an entry for each text token; with "pooled" the single sum of
    timestep and pooled vector, as in MDM; with "both" that sum and the tokens. Arch "decoder" (trans_dec) lets the
    frames attend to the condition; "encoder" (trans_enc) puts it before them, and everything attends to everything.
    """

    def __init__(
        self, features: int, text_width: int, config: DenoiserConfig, timesteps: int, pooled_width: int | None = None
    ) -> None:
        """text_width: of the token states; with conditioning "pooled", of the pooled vector."""
        super().__init__()
        self.config = config
        width = config.width
        self.frames = FrameTokens(features, width, config.frames_per_token)
        self.positions = PositionCodes(width, config.dropout)
        self.register_buffer("timestep_codes", sinusoidal_table(timesteps, width), persistent=False)
        self.timestep_in = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.text_in = nn.Linear(text_width, width)
        sizes = (width, config.heads, config.feedforward, config.dropout)
        if config.arch == "decoder":
            self.decoder = Decoder(*sizes, config.layers)
        else:
            layer = nn.TransformerEncoderLayer(*sizes, activation="gelu", batch_first=True)
            # Nested tensors would shorten the result to the longest clip.
            self.transformer = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
        if config.conditioning == "both":
            self.pooled_in = nn.Linear(text_width if pooled_width is None else pooled_width, width)

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        text: TextFeatures,
        mask: Tensor,
        keep_text: Tensor | None = None,
        seen: list[Tensor] | None = None,
    ) -> Tensor:
        """x0 predicted from x_t, both (B, T, D) normalised features; T is a multiple of config.frames_per_token.

        t: (B,) long; mask: (B, T), True = real frame; keep_text: (B,) bool, False = unconditional, None = all kept.
        seen: a list to which a decoder appends the output (B, tokens, width) of every layer.
        """
        condition, visible = self._condition(t, text, keep_text)
        frames = self.positions(self.frames.join(x_t, mask))
        real = self.frames.real(mask)
        if self.config.arch == "decoder":
            hidden = self.decoder(frames, condition, real, visible, seen)
        else:
            # The condition has no position codes: CLIP has given its tokens theirs, and those of the frames must not
            # depend on how far the prompts are padded.
            if visible is None:
                visible = real.new_ones(condition.shape[:2])
            sequence = torch.cat([condition, frames], dim=1)
            # torch's module masks what is True.
            hidden = self.transformer(sequence, src_key_padding_mask=~torch.cat([visible, real], dim=1))
            hidden = hidden[:, condition.shape[1] :]
        return self.frames.part(hidden, real)

    def _condition(self, t: Tensor, text: TextFeatures, keep_text: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What the frames are conditioned on, (B, M, width), and which entries are real, (B, M); None: all are."""
        time = self.timestep_in(self.timestep_codes[t])[:, None]
        first = time
        if self.config.conditioning != "tokens":
            pooled = text.pooled if keep_text is None else text.pooled * keep_text[:, None]
            into = self.text_in if self.config.conditioning == "pooled" else self.pooled_in
            first = time + into(pooled)[:, None]
            if self.config.conditioning == "pooled":
                return first, None
        # Without text only the first entry remains visible, so no attention is ever over nothing.
        visible = text.mask if keep_text is None else text.mask & keep_text[:, None]
        condition = torch.cat([first, self.text_in(text.tokens) + time], dim=1)
        return condition, torch.cat([visible.new_ones(len(t), 1), visible], dim=1)
