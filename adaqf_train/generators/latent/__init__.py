"""Latent diffusion (the idea of MLD and SALAD): a motion VAE and a denoiser of its latents.

`config`, `networks` (the VAE; the denoiser is MDM's), `generator`, `objective`, `family`.
"""
