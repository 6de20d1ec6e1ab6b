"""Speed and quality of schedulers, numbers of steps and guidance, on a trained generator.

python benchmarks/sampling.py --run runs/demo
python benchmarks/sampling.py --model runs/demo/adaqf --data runs/demo/data --evaluator runs/demo/evaluator
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import Tensor, nn
from tqdm import tqdm

from adaclip import AdaCLIPError, TextFeatures
from adaqf_train.config import DataConfig, EvaluationConfig, SamplingConfig
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.errors import AdaQFError, ConfigError
from adaqf_train.evaluation import protocol
from adaqf_train.evaluation.embedder import Judges
from adaqf_train.generators.base import MotionGenerator
from adaqf_train.generators.mdm.networks import Denoiser
from adaqf_train.judges import store
from adaqf_train.judges.base import Evaluator

PLAIN = "ddpm:50"
GRID = (PLAIN, "ddim:5", "ddim:10", "ddim:20", "dpm++:5", "dpm++:10", "dpm++:20")


@dataclass(frozen=True)
class Options:
    run: Path | None = None
    """A finished run, for its AdaQF model, its data and its evaluator."""
    model: Path | None = None
    data: Path | None = None
    evaluator: Path | None = None
    split: str = "val"
    """Choose settings on val; look at test once."""
    guidance: float | None = None
    """None: the model's own."""
    settings: tuple[str, ...] = GRID
    """SCHEDULER:STEPS. The first one, with two passes, is the reference for the others."""
    replications: int = 5
    max_samples: int | None = None
    rounds: int = 7
    """Rounds of the timing; settings alternate, and medians are compared."""
    batch: int = 64
    """Prompts of the timing, for motions of two to six seconds."""


class TwoPasses(nn.Module):
    """A denoiser that computes the two halves of the guidance one after the other, as most implementations do."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x: Tensor, t: Tensor, text: TextFeatures, mask: Tensor, keep_text: Tensor) -> Tensor:
        texts = (TextFeatures(*parts) for parts in zip(*(part.chunk(2) for part in text), strict=True))
        halves = zip(x.chunk(2), t.chunk(2), texts, mask.chunk(2), keep_text.chunk(2), strict=True)
        return torch.cat([self.denoiser(*half) for half in halves])


def seconds_of(functions: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Median seconds of each function; calls alternate after a warm-up."""
    taken: list[list[float]] = [[] for _ in functions]
    for turn in tqdm(range(rounds + 1), desc="timing", leave=False):
        for function, own in zip(functions, taken, strict=True):
            started = time.perf_counter()
            function()
            if turn:
                own.append(time.perf_counter() - started)
    return [statistics.median(own) for own in taken]


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    model, data, evaluator = (
        given or (options.run and options.run / name)
        for given, name in ((options.model, "adaqf"), (options.data, "data"), (options.evaluator, "evaluator"))
    )
    if not (model and data and evaluator):
        raise ConfigError("Give --run, or all of --model, --data and --evaluator.")
    generator = MotionGenerator.from_pretrained(model)
    guidance = generator.sampling.guidance if options.guidance is None else options.guidance
    lengths = DataConfig(unit_frames=generator.unit_frames, max_frames=generator.max_frames)
    dataset = MotionDataset(data, options.split, lengths)
    matcher, tokenizer, statistics = store.load_evaluator(evaluator)
    judges = Judges(Evaluator(matcher, tokenizer, *statistics))
    settings = [_setting(text, guidance) for text in options.settings]
    evaluation = EvaluationConfig(
        split=options.split,
        replications=options.replications,
        multimodality_texts=None,
        max_samples=options.max_samples,
    )
    sampled = protocol.draw(dataset, evaluation, 0)
    captions, frames = sampled.captions[: options.batch], sampled.lengths[: options.batch]
    denoiser = generator.denoiser

    def make(setting: SamplingConfig, using: nn.Module = denoiser) -> list[np.ndarray]:
        generator.sampling, generator.denoiser = setting, using
        return generator.generate_features(captions, frames)

    plain, halves = settings[0], TwoPasses(denoiser)
    spent = seconds_of([lambda: make(plain, halves), *(lambda s=s: make(s) for s in settings)], options.rounds)
    two_passes, one_pass = spent[0], spent[1]
    same = max(np.abs(a - b).max() for a, b in zip(make(plain, halves), make(plain), strict=True))
    count = len(captions)
    print(
        f"{count} prompts, guidance {guidance:g}, {torch.get_num_threads()} threads, "
        f"medians of {options.rounds} rounds\n\n"
        f"Guidance in one pass: {count / one_pass:.2f} prompts/s, in two passes {count / two_passes:.2f} "
        f"({two_passes / one_pass:.2f} ×; largest difference of a feature {same:.1e})\n"
    )
    print("| scheduler | steps | prompts/s | × plain | FID ↓ | R@3 ↑ |\n|---|--:|--:|--:|---|---|")
    for setting, seconds in zip(settings, spent[1:], strict=True):
        generator.sampling = setting
        row = protocol.evaluate(
            lambda captions, lengths, seed: generator.generate_features(captions, lengths, seed=seed),
            dataset,
            judges,
            evaluation,
        )
        fid, precision = (f"{row[m]['mean']:.3f} ± {row[m]['ci95']:.3f}" for m in ("fid", "r_precision_3"))
        print(
            f"| {setting.scheduler} | {setting.steps} | {count / seconds:.2f} | {two_passes / seconds:.1f} | {fid} | "
            f"{precision} |",
            flush=True,
        )
    samples = protocol.sample_counts(dataset, evaluation)["samples"]
    print(f"\nPlain is {options.settings[0]} with two passes. {samples} samples of {options.split}, mean ± 95 % CI.")


def _setting(text: str, guidance: float) -> SamplingConfig:
    scheduler, _, steps = text.partition(":")
    if not steps.isdigit():
        raise ConfigError(f"--settings {text}: expected SCHEDULER:STEPS, such as ddim:10.")
    return SamplingConfig(guidance=guidance, scheduler=scheduler, steps=int(steps))


if __name__ == "__main__":
    try:
        main()
    except (AdaCLIPError, AdaQFError) as error:
        raise SystemExit(f"error: {error}") from error
