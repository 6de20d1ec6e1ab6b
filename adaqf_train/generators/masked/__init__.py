"""Masked tokens: a residual quantiser and two transformers over its tokens (Guo et al. 2024, MoMask)."""
