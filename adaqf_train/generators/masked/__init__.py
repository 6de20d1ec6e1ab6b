"""Masked tokens (Guo et al. 2024, MoMask): a residual quantiser and two transformers over its tokens.

`config`, `networks` (the quantiser and the transformers), `generator`, `objective`, `family`.
"""
