"""Losses, the contrastive fits, the AdaQF co-optimisation, and checkpoints that resume."""
