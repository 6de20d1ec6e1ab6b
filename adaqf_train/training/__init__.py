"""The one fit: objectives, losses, loop, steps, validation, and checkpoints that resume."""
