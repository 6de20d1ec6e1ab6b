"""Latent diffusion (the idea of MLD and SALAD): a motion VAE and a denoiser of its latents, which is MDM's."""
