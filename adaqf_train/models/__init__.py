"""The networks: extractors, denoiser, diffusion, pocket CLIP, and the generator they make together."""
