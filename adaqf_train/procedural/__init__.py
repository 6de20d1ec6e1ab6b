"""Generated human motions with captions: a data set that needs no download."""

from adaqf_train.procedural.dataset import ProceduralClip, generate

__all__ = ["ProceduralClip", "generate"]
