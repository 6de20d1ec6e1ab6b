"""Latent diffusion: a motion VAE and a denoiser of its latents."""
