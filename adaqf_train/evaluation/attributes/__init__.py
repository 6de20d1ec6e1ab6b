"""Attribute accuracy: do motions show the sides, turns, speeds, counts and order that their prompts state?

A prompt becomes a list of `prompt.Action` (from its words by `caption_rules`, or from the parameters of a procedural
clip), the joints become a list of `signals.Event` (`detection`), and `accuracy` compares the two, without a network.
"""

from adaqf_train.evaluation.attributes.accuracy import attribute_accuracy

__all__ = ["attribute_accuracy"]
