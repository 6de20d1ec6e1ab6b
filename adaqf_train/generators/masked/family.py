"""The masked token family for the registry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from accelerate import Accelerator

from adaclip import AdaCLIP
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.generators.masked.config import POCKET, MaskedFamily, TokenizerConfig, settings
from adaqf_train.generators.masked.generator import MaskedGenerator
from adaqf_train.generators.masked.networks import MotionTokenizer
from adaqf_train.generators.masked.objective import fit_masked_generator, fit_tokenizer
from adaqf_train.generators.registry import Codec, Family, Watch
from adaqf_train.training.loop import Place


def _fit(
    accelerator: Accelerator,
    dataset: MotionDataset,
    encoder: Path,
    codec: MotionTokenizer,
    config: MaskedFamily,
    place: Callable[[str], Place],
    watch: Watch | None,
) -> MaskedGenerator:
    watched = {"every": watch.every, "at": watch.at} if watch else {}
    places = place("generator"), place("residual")
    generator = fit_masked_generator(
        accelerator, dataset, AdaCLIP.from_base(str(encoder)), codec, config, *places, **watched
    )
    generator.max_frames = dataset.config.max_frames
    return generator


CODEC = Codec("motion_tokenizer", MotionTokenizer, TokenizerConfig, "tokenizer", fit_tokenizer)
FAMILY = Family(MaskedGenerator, settings, _fit, MaskedFamily, POCKET, CODEC)
