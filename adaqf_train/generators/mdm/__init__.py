"""Motion diffusion over frames (Tevet et al. 2023, MDM), the family in which AdaQF trains the text encoder."""
