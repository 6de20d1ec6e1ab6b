"""A procedural source of captioned human motion: the data set of people who have none."""

from adaqf_train.procedural.dataset import SyntheticClip, generate

__all__ = ["SyntheticClip", "generate"]
