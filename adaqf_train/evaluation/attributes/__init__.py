"""Attribute accuracy: sides, turns, speeds, counts and order, measured on the joints and read from the prompt."""

from adaqf_train.evaluation.attributes.score import attribute_accuracy

__all__ = ["attribute_accuracy"]
