"""Rehearsals: the real objectives and generator of a recipe with random weights, and data to run them on."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from accelerate import Accelerator
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from adaclip import hub
from adaqf_train.config import POCKET_BASE, DataConfig, RunConfig, TrainingConfig
from adaqf_train.data.dataset import Item, MotionDataset
from adaqf_train.encoders import pocket_clip
from adaqf_train.encoders.moclip import MoClipObjective, motion_encoder
from adaqf_train.encoders.tuning import build_encoder, save_clip
from adaqf_train.errors import ConfigError
from adaqf_train.generators.diffusion import Diffusion
from adaqf_train.generators.mdm.generator import MDMGenerator
from adaqf_train.generators.mdm.networks import build_denoiser
from adaqf_train.generators.mdm.objective import AdaQFObjective
from adaqf_train.judges import contrastive
from adaqf_train.judges.extractors import Extractors
from adaqf_train.judges.joints import JointMatcher
from adaqf_train.judges.matcher import Matcher
from adaqf_train.motion.skeleton import HUMANML3D, KIT, Skeleton
from adaqf_train.procedural import generate
from adaqf_train.training.objective import Objective

StageName = Literal["extractors", "evaluator", "joint_evaluator", "aligned", "baseline", "adaqf"]
CLIPS = 2048  # of a rehearsal, each with one caption: enough batches to sort clips by length as a fit does
PROCEDURAL = 160  # clips whose captions, and for small recipes lengths, a stand-in has
ENTRIES = 2000  # of the tokeniser that stands in for CLIP's, about one a word
VOCABULARY = 49_408  # of CLIP's own
# Width, heads and projection of OpenAI's text towers; each has 12 layers.
TEXT_TOWERS = {
    "openai/clip-vit-base-patch32": (512, 8, 512),
    "openai/clip-vit-base-patch16": (512, 8, 512),
    "openai/clip-vit-large-patch14": (768, 12, 768),
    "openai/clip-vit-large-patch14-336": (768, 12, 768),
}
# Skeleton, mean seconds of a clip, test samples, source.
KNOWN = {
    "humanml3d": (HUMANML3D, 7.1, 4640, "clips of 7.1 s on average (Guo et al. 2022)"),
    "kit": (KIT, 10.3, 830, "clips of 10.3 s on average (Plappert et al. 2016)"),
}


class StandIn(MotionDataset):
    """Noise in place of a data set."""

    def __init__(self, config: DataConfig, skeleton: Skeleton, lengths: Sequence[int], captions: Sequence[str]) -> None:
        """lengths: frames of each clip. captions: of the clips, in turn."""
        self.folder, self.split, self.config, self.skeleton, self._cached = (
            Path("noise"),
            "train",
            config,
            skeleton,
            None,
        )
        self.mean, self.std = np.zeros(skeleton.features, np.float32), np.ones(skeleton.features, np.float32)
        noise = np.random.default_rng(0).standard_normal((max(lengths), skeleton.features), dtype=np.float32)
        self.items = [Item(f"{i}", noise[:n], (captions[i % len(captions)],), "") for i, n in enumerate(lengths)]


def stand_in(config: RunConfig) -> tuple[StandIn, int, str]:
    """Make a data set like the recipe's; return it, the samples of its evaluation, and what its lengths rest on."""
    clips, rng = list(generate(PROCEDURAL)), np.random.default_rng(0)
    captions = [caption for clip in clips for caption in clip.captions]
    if config.recipe not in KNOWN:
        lengths = rng.choice([len(clip.joints) - 1 for clip in clips], CLIPS)
        return StandIn(config.data, HUMANML3D, lengths, captions), 510, "lengths and captions of procedural motions"
    skeleton, seconds, samples, source = KNOWN[config.recipe]
    shortest, longest = config.data.min_frames, config.data.max_frames - 1
    middle = (shortest + longest) / 2
    # Some clips are as long as allowed, as where longer ones were cut; the others are uniform.
    share = min(max((seconds * skeleton.fps - middle) / (longest - middle), 0), 1)
    lengths = np.where(rng.random(CLIPS) < share, longest, rng.integers(shortest, longest + 1, CLIPS))
    return StandIn(config.data, skeleton, lengths, captions), samples, f"{source}, procedural captions"


def few(dataset: MotionDataset) -> MotionDataset:
    """Choose clips of a data set at random, with one caption each, so that setting up takes seconds."""
    chosen = copy.copy(dataset)
    rows = np.random.default_rng(0).permutation(len(dataset))[:CLIPS]
    chosen.items = [replace(dataset.items[row], captions=dataset.items[row].captions[:1]) for row in rows]
    return chosen


def stages_of(config: RunConfig) -> list[StageName]:
    """The stages of a run that train something, apart from a pocket base."""
    aligned: list[StageName] = ["aligned"] if config.alignment.steps else []
    return ["extractors", "evaluator", "joint_evaluator", *aligned, "baseline", "adaqf"]


class Rehearsal:
    """Builds the objectives and the generator of a recipe with random weights."""

    def __init__(self, accelerator: Accelerator, config: RunConfig, dataset: MotionDataset, folder: Path) -> None:
        """Make the base.

        Args:
            accelerator: Device, precision and processes.
            config: Sizes and settings.
            dataset: Clips and captions, such as `stand_in` makes.
            folder: An empty folder, for a base with random weights. A base that is a local folder is used itself.

        Raises:
            ConfigError: The base is on the Hub, and its size is not known here.
        """
        self.accelerator, self.config, self.dataset = accelerator, config, dataset
        self.captions = dataset.captions()
        torch.manual_seed(0)
        self.base = write_base(folder / "base", config, self.captions)
        model, self.tokenizer = hub.load_base(self.base, hub.LoadOptions())
        self.words = model.get_input_embeddings().weight.detach()

    def objective(self, stage: StageName) -> tuple[Objective, TrainingConfig]:
        """Build what a stage minimises; return it with the settings of its fit."""
        accelerator, config, tokenizer, captions = self.accelerator, self.config, self.tokenizer, self.captions
        if stage in ("extractors", "evaluator", "joint_evaluator"):
            own, data, words = getattr(config, stage), self.dataset, len(self.words)
            judge = {
                "extractors": self.extractors,
                "evaluator": lambda: Matcher(data.features, words, own),
                "joint_evaluator": lambda: JointMatcher(data.mean, data.std, words, own),
            }[stage]()
            objective = contrastive.judge_objective(accelerator, judge, tokenizer, captions, own)
            return objective, contrastive.contrastive_training(own)
        if stage == "baseline":
            config = config.baseline()
        encoder = build_encoder(self.base, config.encoder, config.denoiser.conditioning)
        if stage == "aligned":
            tower = motion_encoder(self.dataset.features, encoder, config.extractors)
            encoder.to(accelerator.device)
            objective = MoClipObjective(accelerator, encoder, tower, captions, config.alignment)
            return objective, contrastive.contrastive_training(config.alignment)
        denoiser = build_denoiser(encoder, self.dataset.features, config.denoiser, config.diffusion.steps)
        judge = self.extractors() if config.feedback.active else None
        diffusion = Diffusion(config.diffusion)
        aligner = motion_encoder(self.dataset.features, encoder, config.extractors) if config.alignment.weight else None
        objective = AdaQFObjective(accelerator, encoder, denoiser, diffusion, judge, config, self.dataset, aligner)
        return objective, config.training

    def extractors(self) -> Extractors:
        """Build the extractors; they also stand in for an official judge."""
        return Extractors.reading(self.words, self.dataset.features, self.config.extractors)

    def generator(self) -> MDMGenerator:
        """Build a generator on the accelerator's device."""
        data, config = self.dataset, self.config
        encoder = build_encoder(self.base, config.encoder, config.denoiser.conditioning)
        settings = {part: vars(getattr(config, part)) for part in ("denoiser", "diffusion", "sampling")}
        settings |= {"unit_frames": config.data.unit_frames, "max_frames": config.data.max_frames}
        statistics_ = (torch.from_numpy(data.mean), torch.from_numpy(data.std))
        generator = MDMGenerator.build(encoder.to(self.accelerator.device), *statistics_, settings)
        return generator.to(self.accelerator.device).eval()


def write_base(folder: Path, config: RunConfig, captions: Sequence[str]) -> str:
    """Write a base of the recipe's size with random weights; return its folder."""
    base = config.encoder.base
    if Path(base).exists():
        return base
    if base == POCKET_BASE:
        tokenizer = pocket_clip.train_tokenizer(captions, config.pocket_clip.vocabulary)
        model = pocket_clip.build(tokenizer, config.pocket_clip)
    elif base in TEXT_TOWERS:
        tokenizer = pocket_clip.train_tokenizer(captions, ENTRIES)
        width, heads, projection = TEXT_TOWERS[base]
        sizes = {"vocab_size": VOCABULARY, "hidden_size": width, "intermediate_size": 4 * width}
        sizes |= {"projection_dim": projection, "num_attention_heads": heads, "eos_token_id": tokenizer.eos_token_id}
        model = CLIPTextModelWithProjection(CLIPTextConfig(**sizes))
    else:
        known = ", ".join(TEXT_TOWERS)
        raise ConfigError(f"encoder.base={base}: its size is not known. Give the folder of a copy, or one of {known}.")
    save_clip(folder, model, tokenizer)
    return str(folder)
