"""The denoiser: MDM's transformer decoder over frames, cross-attending to the text encoder's token states."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adaclip import TextFeatures
from adaqf_train.config import DenoiserConfig
from adaqf_train.models.layers import PositionCodes, sinusoidal_table


class Denoiser(nn.Module):
    """Predicts the clean motion x0 from a noisy one (Tevet et al. 2023, `model/mdm.py`, arch trans_dec).

    The text encoder is a sibling, not a part: its features come in as an argument. With conditioning "tokens"
    the decoder's memory is the timestep's embedding and one entry for each text token; with "pooled" it is
    their single sum, as in MDM.
    """

    def __init__(self, features: int, text_width: int, config: DenoiserConfig, timesteps: int) -> None:
        """features: D; text_width: width of token states, or of the pooled vector; timesteps: of the diffusion."""
        super().__init__()
        self.config = config
        width, group = config.width, config.frames_per_token
        self.frames_in = nn.Linear(features * group, width)
        self.frames_out = nn.Linear(width, features * group)
        self.positions = PositionCodes(width, config.dropout)
        self.register_buffer("timestep_codes", sinusoidal_table(timesteps, width), persistent=False)
        self.timestep_in = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.text_in = nn.Linear(text_width, width)
        layer = nn.TransformerDecoderLayer(
            width, config.heads, config.feedforward, config.dropout, activation="gelu", batch_first=True
        )
        self.decoder = nn.TransformerDecoder(layer, config.layers)

    def forward(
        self, x_t: Tensor, t: Tensor, text: TextFeatures, mask: Tensor, keep_text: Tensor | None = None
    ) -> Tensor:
        """x0 predicted from x_t.

        x_t: (B, T, D) noisy normalised features; t: (B,) long; text: of B prompts; mask: (B, T), True = real
        frame; keep_text: (B,) bool, False = unconditional, None = all conditional. Returns (B, T, D). T must be
        a multiple of config.frames_per_token.
        """
        group = self.config.frames_per_token
        B, T, D = x_t.shape  # clips, frames, features
        memory, memory_mask = self._memory(t, text, keep_text)
        frames = self.positions(self.frames_in(x_t.reshape(B, T // group, group * D)))
        # PyTorch masks what is True; a token of several frames is real if its first frame is.
        hidden = self.decoder(
            frames,
            memory,
            tgt_key_padding_mask=~mask[:, ::group],
            memory_key_padding_mask=None if memory_mask is None else ~memory_mask,
        )
        return self.frames_out(hidden).reshape(B, T, D)

    def _memory(self, t: Tensor, text: TextFeatures, keep_text: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What the frames attend to, (B, M, width), and which entries are real, (B, M)."""
        time = self.timestep_in(self.timestep_codes[t])[:, None]
        if self.config.conditioning == "pooled":
            pooled = text.pooled if keep_text is None else text.pooled * keep_text[:, None]
            return time + self.text_in(pooled)[:, None], None
        # Without text only the timestep's entry remains visible, so no attention is ever over nothing.
        visible = text.mask if keep_text is None else text.mask & keep_text[:, None]
        memory = torch.cat([time, self.text_in(text.tokens) + time], dim=1)
        return memory, torch.cat([visible.new_ones(len(t), 1), visible], dim=1)
