"""The masked token family for the registry."""

from __future__ import annotations

from adaclip import AdaCLIP
from adaqf_train.generators.masked.config import POCKET, MaskedFamily, TokenizerConfig, settings
from adaqf_train.generators.masked.generator import MaskedGenerator
from adaqf_train.generators.masked.networks import MotionTokenizer
from adaqf_train.generators.masked.objective import QuantiserObjective, fit_masked_generator
from adaqf_train.generators.registry import Codec, Family, Fitting


def _fit(to: Fitting, config: MaskedFamily) -> MaskedGenerator:
    return fit_masked_generator(to, AdaCLIP.from_base(str(to.encoder)), config)


CODEC = Codec("motion_tokenizer", MotionTokenizer, TokenizerConfig, "tokenizer", QuantiserObjective)
FAMILY = Family(MaskedGenerator, settings, _fit, MaskedFamily, POCKET, CODEC)
