"""Masked tokens (Guo et al. 2024, MoMask): a residual quantiser and two transformers over its tokens."""
