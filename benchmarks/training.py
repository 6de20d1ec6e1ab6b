"""Seconds of a training step at MDM's size: AdaQF's complete step and a plain one, alternating in one process.

python benchmarks/training.py
python benchmarks/training.py --layers 1 --batch 8 --clips 200 --rounds 2    # a quick look

AdaQF's step consists of the LoRA encoder's forward and backward pass, the denoiser, feedback by extractors of T2M's
size, the optimiser and the moving average. Its batches are bucketed and padded to the recipe's shapes. The plain step
is that of MDM's loop: a frozen encoder reads 77 tokens, and a denoiser of the same size learns on 196 frames,
conditioned on the pooled vector. Weights and motions are random, which does not change the work. Lengths and prompts
are those of Bandai-Namco's clips and KIT-ML's captions if $ADACLIP_SHARED has them, otherwise those of procedural
motions.
"""

from __future__ import annotations

import os
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from accelerate import Accelerator
from torch import Tensor, nn

from adaclip import AdaCLIP, TextFeatures
from adaqf_train.config import RunConfig, recipes
from adaqf_train.data.batches import MotionBatch, StepBatches
from adaqf_train.generators.diffusion import Diffusion
from adaqf_train.generators.mdm.networks import build_denoiser
from adaqf_train.motion.skeleton import HUMANML3D
from adaqf_train.procedural import generate
from adaqf_train.runs.accelerator import new_accelerator
from adaqf_train.runs.rehearsal import Rehearsal, StandIn
from adaqf_train.runs.timing import ready
from adaqf_train.training.losses import masked_mse
from adaqf_train.training.objective import Losses, Objective
from adaqf_train.training.step import Step

FRAMES, TOKENS, FEATURES = 196, 77, 263  # MDM pads to so many frames and tokens


@dataclass(frozen=True)
class Options:
    """Time AdaQF's training step and a plain one."""

    rounds: int = 5
    """Timed steps of each kind; their batches cover all lengths."""
    batch: int = 64
    clips: int = 8192
    """As many as `training.bucket` needs to sort batches fully; HumanML3D has more."""
    layers: int = 8
    """Layers of the denoiser."""
    threads: int | None = None
    """None: torch's choice."""
    shared: Path | None = None
    """Folder with bandai-namco/ and kitml-captions/; None: $ADACLIP_SHARED/data."""


class PlainObjective(Objective):
    """MDM's loss (`train/training_loop.py`, `model/mdm.py`, arch trans_dec): everything padded, nothing cached."""

    def __init__(self, encoder: AdaCLIP, config: RunConfig, device: torch.device) -> None:
        super().__init__()
        self.diffusion = config.diffusion
        self.text_model = encoder.merged().requires_grad_(False).to(device)
        self.tokenizer, self.schedule = encoder.tokenizer, Diffusion(config.diffusion)
        sizes = replace(config.denoiser, conditioning="pooled")
        self.denoiser = build_denoiser(encoder, FEATURES, sizes, config.diffusion.steps).to(device).train()

    @property
    def learns(self) -> Mapping[str, nn.Module]:
        return {"denoiser": self.denoiser}

    def forward(self, batch: MotionBatch) -> Losses:
        padding = {"padding": "max_length", "max_length": TOKENS, "truncation": True}
        ids = self.tokenizer(list(batch.captions), return_tensors="pt", **padding)["input_ids"]
        with torch.no_grad():
            pooled = self.text_model(input_ids=ids.to(batch.motion.device)).text_embeds
        text = TextFeatures(pooled, pooled[:, None], torch.ones_like(pooled[:, :1], dtype=torch.bool))
        beyond = FRAMES - batch.motion.shape[1]
        x0, noise = (nn.functional.pad(part, (0, 0, 0, beyond)) for part in (batch.motion, batch.noise))
        mask = nn.functional.pad(batch.mask, (0, beyond))
        x_t = self.schedule.noised(x0, batch.timestep, noise)
        loss = masked_mse(self.denoiser(x_t, batch.timestep, text, mask, batch.keep_text), x0, mask).mean()
        return loss, {"loss": loss}


def main(options: Options) -> None:
    """Print the seconds of each round, the ratio of the steps, and their memory."""
    if options.threads:
        torch.set_num_threads(options.threads)
    recipe = recipes.load("humanml3d")
    config = replace(
        recipe,
        denoiser=replace(recipe.denoiser, layers=options.layers),
        training=replace(recipe.training, batch=options.batch, cache_text=False),
    )
    accelerator = new_accelerator()
    dataset, source = clips(options, config)
    print(f"{options.batch} clips, {options.layers} layers, {torch.get_num_threads()} threads; {source}")
    with tempfile.TemporaryDirectory() as folder:
        compare(Rehearsal(accelerator, config, dataset, Path(folder)), options.rounds)
    print(f"peak memory of the process {peak_memory(accelerator):.2f} GB")


def compare(rehearsal: Rehearsal, rounds: int) -> None:
    """Time both steps in turn on batches from the shortest to the longest, and print the table."""
    accelerator, config = rehearsal.accelerator, rehearsal.config
    adaqf, training = rehearsal.objective("adaqf")
    plain = PlainObjective(adaqf.encoder, config, accelerator.device)
    bucketed, adaqf_step = ready(accelerator, rehearsal.dataset, adaqf, training)
    shuffled, plain_step = ready(accelerator, rehearsal.dataset, plain, replace(training, ema=None, bucket=1))
    steps = {"AdaQF": adaqf_step, "plain": plain_step}
    first, *others = [(bucketed[step], shuffled[step]) for step in [0, *spread(bucketed, rounds)]]
    kept = {}
    for (name, step), batch in zip(steps.items(), first, strict=True):  # also the warm-up
        with kept_for_backward(step.objective) as total:
            step(batch, logged=False)
        kept[name] = total[0] / batch.mask.numel()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number, batches in enumerate(others, start=1):
        for (name, step), batch in zip(steps.items(), batches, strict=True):
            seconds[name].append(timed(accelerator, step, batch))
        mine, theirs = (seconds[name][-1] for name in steps)
        print(f"round {number}: AdaQF {mine:.2f} s ({batches[0].motion.shape[1]} frames), plain {theirs:.2f} s")
    print("\n| step | median s | kept for the backward pass, MB per frame |\n|---|--:|--:|")
    for name, each in seconds.items():
        print(f"| {name} | {statistics.median(each):.2f} | {kept[name] / 1e6:.2f} |")
    ratios = [a / b for a, b in zip(*seconds.values(), strict=True)]
    whole = sum(seconds["AdaQF"]) / sum(seconds["plain"])
    print(f"\nmedian ratio {statistics.median(ratios):.2f}, of all rounds together {whole:.2f}")


def spread(source: StepBatches, rounds: int) -> list[int]:
    """Steps of the first epoch from its shortest batches to its longest."""
    rows = source.order(0)[: len(source.dataset) // source.batch_size * source.batch_size]
    frames = np.array([len(source.dataset.items[row].vectors) for row in rows]).reshape(-1, source.batch_size).max(1)
    places = (np.arange(rounds) + 0.5) / rounds * len(frames)
    return np.argsort(frames, kind="stable")[places.astype(int)].tolist()


def timed(accelerator: Accelerator, step: Step, batch: MotionBatch) -> float:
    """Seconds of a step, until the device has finished."""
    start = time.perf_counter()
    result = step(batch, logged=False)
    if accelerator.device.type == "cuda":
        torch.cuda.synchronize()
    result.loss.item()
    return time.perf_counter() - start


@contextmanager
def kept_for_backward(objective: nn.Module) -> Iterator[list[int]]:
    """Count the bytes that a forward pass keeps for its backward pass, without the weights."""
    total, seen = [0], {parameter.untyped_storage().data_ptr() for parameter in objective.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            total[0] += storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield total


def clips(options: Options, config: RunConfig) -> tuple[StandIn, str]:
    """Noise with real lengths and prompts, and where those come from."""
    rng = np.random.default_rng(0)
    root = options.shared or Path(os.environ.get("ADACLIP_SHARED", "shared"), "data")
    packs, prompts = root / "bandai-namco" / "train.npz", root / "kitml-captions" / "captions.txt"
    if packs.is_file() and prompts.is_file():
        with np.load(packs) as archive:
            frames = np.diff(archive["offsets"]) - 1  # features describe pairs of frames
        captions = prompts.read_text(encoding="utf-8").splitlines()
        source = "lengths of Bandai-Namco, prompts of KIT-ML"
    else:
        made = list(generate(200, seed=0))
        frames = np.array([len(clip.joints) - 1 for clip in made])
        captions = [caption for clip in made for caption in clip.captions]
        source = "lengths and prompts of procedural motions"
    frames = frames[(frames >= config.data.min_frames) & (frames < config.data.max_frames)]
    lengths = rng.choice(frames, options.clips)
    return StandIn(config.data, HUMANML3D, lengths, [captions[row] for row in rng.permutation(len(captions))]), source


def peak_memory(accelerator: Accelerator) -> float:
    """GB of the device, or of the process."""
    if accelerator.device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    main(tyro.cli(Options))
