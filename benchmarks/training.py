"""Seconds of a training step at MDM's size: AdaQF's whole step against a plain one, timed in turn in one run.

python benchmarks/training.py

AdaQF: LoRA encoder forward and backward, denoiser, feedback by extractors of T2M's size, optimiser and moving average,
on bucketed batches padded to their longest clip and caption, with captions' embeddings computed beforehand. Plain: what
MDM's loop does: a frozen encoder reads 77 tokens, a denoiser of the same size learns on 196 frames, conditioned on the
pooled vector. Both with random weights, on clips of noise: neither can change the work. Lengths and prompts are those
of Bandai-Namco's clips and KIT-ML's captions where $ADACLIP_SHARED has them, else the procedural data set's.
"""

from __future__ import annotations

import os
import resource
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from accelerate import Accelerator
from adaqf_train.planning.calibration import activations, adaqf_step, timed
from adaqf_train.planning.networks import Networks, build
from adaqf_train.planning.stand_in import StandIn, stand_in
from torch import Tensor, nn

from adaclip import TextFeatures
from adaqf_train.config import RunConfig, recipes
from adaqf_train.data.batches import MotionBatch, StepBatches
from adaqf_train.encoders.pocket_clip import train_tokenizer
from adaqf_train.generators.diffusion import Diffusion
from adaqf_train.generators.mdm.networks import build_denoiser
from adaqf_train.training.losses import masked_mse

FRAMES, TOKENS = 196, 77  # what MDM pads to


@dataclass(frozen=True)
class Options:
    rounds: int = 5  # steps of each kind that are timed, in turn; their batches are spread over all lengths
    batch: int = 64
    layers: int = 8  # of the denoiser; fewer for a quick look
    threads: int | None = None  # none: torch's own choice
    shared: Path | None = None  # folder with bandai-namco/ and kitml-captions/; none: $ADACLIP_SHARED/data


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    recipe = recipes.load("humanml3d")
    config = replace(
        recipe,
        denoiser=replace(recipe.denoiser, layers=options.layers),
        training=replace(recipe.training, batch=options.batch),
    )
    dataset, said = data(config, options.shared)
    tokenizer = train_tokenizer(dataset.captions(), 2000)
    accelerator = Accelerator()
    networks = build(config, dataset.features, tokenizer)
    bucketed = StepBatches(dataset, options.batch, 0, bucket=config.training.bucket)
    chance = StepBatches(dataset, options.batch, 0)
    batches = [(bucketed[step], chance[step]) for step in [0, *spread(bucketed, options.rounds)]]
    captions = [caption for batch, _ in batches for caption in batch.captions]

    plain = Stepper(accelerator, *plain_step(accelerator, networks, config))
    loss, optimizer, learnt = adaqf_step(accelerator, networks, config, captions)
    adaqf = Stepper(accelerator, loss, optimizer, learnt, config.training.ema)
    print(f"{options.batch} clips, {options.layers} layers, {torch.get_num_threads()} threads; {said}")
    kept = {}
    for name, step, batch in (("adaqf", adaqf, batches[0][0]), ("plain", plain, batches[0][1])):
        kept[name] = activations(step, batch)
        step(batch)
    seconds: dict[str, list[float]] = {"adaqf": [], "plain": []}
    for round_, (mine, theirs) in enumerate(batches[1:], start=1):
        for name, step, batch in (("adaqf", adaqf, mine), ("plain", plain, theirs)):
            seconds[name].append(timed(accelerator, lambda step=step, batch=batch: step(batch)))
        frames = mine.motion.shape[1]
        print(
            f"round {round_}: AdaQF {seconds['adaqf'][-1]:.2f} s ({frames} frames), plain {seconds['plain'][-1]:.2f} s"
        )
    ratios = [a / b for a, b in zip(seconds["adaqf"], seconds["plain"], strict=True)]
    print("\n| step | median s | kept for the backward pass, GB |\n|---|--:|--:|")
    for name, title in (("adaqf", "AdaQF"), ("plain", "plain, 196 frames and 77 tokens")):
        print(f"| {title} | {statistics.median(seconds[name]):.2f} | {kept[name] / 1e9:.2f} |")
    whole = sum(seconds["adaqf"]) / sum(seconds["plain"])
    print(f"\nmedian ratio {statistics.median(ratios):.2f}, of all rounds together {whole:.2f}")
    print(f"peak memory of the process {peak(accelerator):.2f} GB")


def spread(source: StepBatches, rounds: int) -> list[int]:
    """Steps of the first epoch that stand for all of it: from its shortest batches to its longest."""
    rows = source.order(0)[: len(source.dataset) // source.batch_size * source.batch_size]
    frames = np.array([len(source.dataset.items[row].vectors) for row in rows]).reshape(-1, source.batch_size).max(1)
    places = (np.arange(rounds) + 0.5) / rounds * len(frames)
    return np.argsort(frames, kind="stable")[places.astype(int)].tolist()


@dataclass
class Stepper:
    """A whole step: forward, backward, optimiser, and the moving average if there is one."""

    accelerator: Accelerator
    loss: Callable[[MotionBatch], Tensor]
    optimizer: torch.optim.Optimizer
    learnt: list[nn.Parameter]
    decay: float | None = None

    def __post_init__(self) -> None:
        self.average = [p.detach().clone() for p in self.learnt] if self.decay else None

    def __call__(self, batch: MotionBatch) -> None:
        loss = self.loss(batch.to(self.accelerator.device))
        self.accelerator.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            with torch.no_grad():
                torch._foreach_lerp_(self.average, self.learnt, 1 - self.decay)


def plain_step(
    accelerator: Accelerator, networks: Networks, config: RunConfig
) -> tuple[Callable[[MotionBatch], Tensor], torch.optim.Optimizer, list[nn.Parameter]]:
    """MDM's step (`train/training_loop.py`, `model/mdm.py`, arch trans_dec): everything padded, nothing remembered."""
    text_model = networks.encoder.merged().requires_grad_(False).to(accelerator.device)
    tokenizer, diffusion = networks.encoder.tokenizer, Diffusion(config.diffusion)
    sizes = replace(config.denoiser, conditioning="pooled")
    denoiser = build_denoiser(networks.encoder, 263, sizes, config.diffusion.steps).to(accelerator.device).train()
    optimizer = torch.optim.AdamW(denoiser.parameters(), lr=1e-4, weight_decay=0.0)

    def loss(batch: MotionBatch) -> Tensor:
        told = tokenizer(batch.captions, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt")
        with torch.no_grad():
            pooled = text_model(input_ids=told["input_ids"].to(accelerator.device)).text_embeds
        text = TextFeatures(pooled, pooled[:, None], torch.ones_like(pooled[:, :1], dtype=torch.bool))
        beyond = FRAMES - batch.motion.shape[1]
        x0, noise = (nn.functional.pad(part, (0, 0, 0, beyond)) for part in (batch.motion, batch.noise))
        mask = nn.functional.pad(batch.mask, (0, beyond))
        predicted = denoiser(diffusion.noised(x0, batch.timestep, noise), batch.timestep, text, mask, batch.keep_text)
        return masked_mse(predicted, x0, mask).mean()

    return loss, optimizer, list(denoiser.parameters())


def data(config: RunConfig, shared: Path | None) -> tuple[StandIn, str]:
    """Clips of noise with real lengths and prompts, and where those are from."""
    root = shared or Path(os.environ.get("ADACLIP_SHARED", "shared"), "data")
    packs, prompts = root / "bandai-namco" / "train.npz", root / "kitml-captions" / "captions.txt"
    if not packs.is_file() or not prompts.is_file():
        dataset, _, _ = stand_in(replace(config, recipe="demo"))
        return dataset, "lengths and prompts of the procedural data set"
    with np.load(packs) as archive:
        frames = np.diff(archive["offsets"]) - 1  # features tell of pairs of frames
    lengths = frames[(frames >= config.data.min_frames) & (frames < config.data.max_frames)]
    captions = prompts.read_text(encoding="utf-8").splitlines()
    chosen = np.random.default_rng(0).choice(len(captions), len(lengths))
    dataset = StandIn(config.data, 263, lengths, [(captions[i],) for i in chosen])
    return dataset, f"lengths of {len(lengths)} Bandai-Namco clips, prompts of KIT-ML"


def peak(accelerator: Accelerator) -> float:
    """GB, of the device or of the process."""
    if accelerator.device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * 1024 / 1e9


if __name__ == "__main__":
    main()
