"""Motion diffusion over frames (Tevet et al. 2023), the family in which AdaQF trains the text encoder."""
