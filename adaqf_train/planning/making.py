"""Makes a plan: builds the networks, counts their work and times their steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from accelerate import Accelerator

from adaclip import TextFeatures
from adaqf_train.config import POCKET_BASE, RunConfig
from adaqf_train.data.batches import StepBatches
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.encoders.pocket_clip import train_tokenizer
from adaqf_train.layers import freeze
from adaqf_train.planning import calibration, work
from adaqf_train.planning.calibration import Speed
from adaqf_train.planning.networks import Networks, build, parameters
from adaqf_train.planning.plan import Part, Plan, Stage
from adaqf_train.planning.stand_in import StandIn, stand_in

BUDGET = 20.0  # seconds of timed steps for each stage
CAPTIONS = 5000  # that the stand-in for the tokenizer learns from
VOCABULARY = 2000  # its entries, where the base has its own: about one for a word, as CLIP's
BATCHES = 24  # of which captions are looked at


def make(
    config: RunConfig,
    accelerator: Accelerator,
    *,
    data: MotionDataset | None = None,
    processes: int = 1,
    budget: float = BUDGET,
    test: int = 0,
) -> Plan:
    """Measures this machine for a configuration.

    data: the training split, for its real lengths and captions; None: a stand-in. processes: that will share the
    batch. budget: seconds of timed steps for each stage. test: samples of an evaluation of it.
    """
    dataset, samples, shapes = (data, test, f"of {data.folder}") if data else stand_in(config)
    vocabulary = config.pocket_clip.vocabulary if config.encoder.base == POCKET_BASE else VOCABULARY
    tokenizer = train_tokenizer(dataset.captions()[:CAPTIONS], vocabulary)
    networks = build(config, dataset.features, tokenizer)
    parts = _parts(networks, config)
    batches = {name: getattr(config, name).batch // processes for name in ("extractors", "evaluator", "training")}
    train = _source(dataset, config, batches["training"], bucket=config.training.bucket)
    frames, tokens, captions = _shapes(train, tokenizer)
    unit = config.data.unit_frames
    flops = work.by_part(config, networks, round(frames / unit) * unit, round(tokens), dataset.features)
    stages = []
    for name in ("extractors", "evaluator"):
        own = getattr(config, name)
        towers = getattr(networks, name).requires_grad_(True)
        if name == "extractors":
            networks.extractors.text.words.requires_grad_(False)
        fit = calibration.contrastive_step(accelerator, towers, tokenizer, own)
        source = _source(dataset, config, batches[name])
        speed = calibration.measure(accelerator, *fit, source, average_decay=None, workers=0, budget=budget)
        # Its batches are left to chance, so they are padded to more frames than those that were counted.
        longer = calibration.padded_frames(source) / frames
        counted = {part: value * own.batch * longer for part, value in flops[name].items()}
        stages.append(Stage(name, own.steps, counted, speed, _memory(towers, (), speed, average=False)))
        accelerator.free_memory()
    for name, settings in (("baseline", config.baseline()), ("adaqf", config)):
        fit = calibration.adaqf_step(accelerator, networks, settings, captions)
        training = settings.training
        speed = calibration.measure(
            accelerator, *fit, train, average_decay=training.ema, workers=training.workers, budget=budget
        )
        used = [networks.encoder, *([networks.extractors] if settings.feedback.active else [])]
        counted = {part: value * training.batch for part, value in flops[name].items()}
        memory = _memory(networks.denoiser, used, speed, average=training.ema is not None)
        stages.append(Stage(name, training.steps, counted, speed, memory))
        accelerator.free_memory()
    stages.append(_evaluation(config, accelerator, networks, dataset, flops, samples, tokens, budget))
    return Plan(
        config.recipe,
        accelerator.device.type,
        torch.get_num_threads(),
        processes,
        shapes,
        frames,
        tokens,
        parts,
        tuple(stages),
    )


def _parts(networks: Networks, config: RunConfig) -> tuple[Part, ...]:
    adapter = sum(p.numel() for p in networks.encoder.adapter_parameters())
    tower = parameters(networks.encoder) - adapter
    tuning = config.encoder.tuning
    denoiser = parameters(networks.denoiser)
    return (
        Part("text tower with projection", tower, tower if tuning == "full" else 0),
        Part("LoRA adapter", adapter, adapter if tuning == "lora" else 0),
        Part("denoiser", denoiser, denoiser),
        Part("extractors", parameters(networks.extractors), 0),
        Part("evaluator", parameters(networks.evaluator), 0),
    )


def _source(dataset: MotionDataset | StandIn, config: RunConfig, batch: int, *, bucket: int = 1) -> StepBatches:
    return StepBatches(dataset, batch, config.training.seed, diffusion=config.diffusion, bucket=bucket)


def _shapes(source: StepBatches, tokenizer: object) -> tuple[float, float, Sequence[str]]:
    """Frames and tokens that training pads to, on average, and the captions of the first batches."""
    batches = [source[step].captions for step in range(BATCHES)]
    longest = [max(map(len, tokenizer(captions)["input_ids"])) for captions in batches]
    captions = [caption for batch in batches for caption in batch]
    return calibration.padded_frames(source), sum(longest) / len(longest), captions


def _memory(learnt: torch.nn.Module, others: Sequence[torch.nn.Module], speed: Speed, *, average: bool) -> dict:
    modules = (learnt, *others)
    every = sum(p.numel() * p.element_size() for module in modules for p in module.parameters())
    trained = sum(p.numel() * p.element_size() for module in modules for p in module.parameters() if p.requires_grad)
    return {
        "weights": every,
        "gradients": trained,
        "AdamW's moments": 2 * trained,
        "moving average": trained if average else 0,
        "kept for the backward pass": speed.activations,
    }


def _evaluation(
    config: RunConfig,
    accelerator: Accelerator,
    networks: Networks,
    dataset: MotionDataset | StandIn,
    flops: Mapping[str, Mapping[str, float]],
    samples: int,
    tokens: float,
    budget: float,
) -> Stage:
    """Sampling for all replications of both arms; a step here is one of the sampler, for a batch."""
    sampling, evaluation = config.sampling, config.evaluation
    samples = min(samples, evaluation.max_samples or samples)
    unit = config.data.unit_frames
    lengths = [len(item.vectors) // unit * unit for item in dataset.items]
    frames = round(sum(lengths) / len(lengths) / unit) * unit  # motions are sampled with others of like length
    denoiser = freeze(networks.denoiser)

    tokens, encoder, device = round(tokens), networks.encoder, accelerator.device

    def step(rows: int) -> float:
        """Seconds of one step of the sampler: both halves of the guidance in one pass."""
        both = 2 * rows
        real = torch.ones(both, tokens, dtype=torch.bool, device=device)
        states = torch.zeros(both, tokens, encoder.hidden_size, device=device)
        text = TextFeatures(torch.zeros(both, encoder.projection_size, device=device), states, real)
        mask = torch.ones(both, frames, dtype=torch.bool, device=device)
        inputs = (mask.new_zeros(both, frames, dataset.features, dtype=torch.float32), mask.new_zeros(both).long())
        with torch.no_grad():
            denoiser(*inputs, text, mask)
            return calibration.timed(accelerator, lambda: denoiser(*inputs, text, mask))

    rows = min(sampling.batch, samples)
    timed = min(calibration.FEW, rows)
    seconds = step(timed)
    if device.type != "cpu" or 2 * seconds * rows / timed <= budget:
        seconds, timed = step(rows), rows
    batches = -(-samples // rows)
    steps = 2 * evaluation.replications * batches * sampling.steps
    forward = flops["baseline"]["denoiser"] / 3
    speed = Speed(seconds * rows / timed, 1, timed, timed < rows, 0)
    memory = {"weights": sum(4 * parameters(m) for m in (networks.encoder, denoiser, networks.evaluator))}
    return Stage("evaluation", steps, {"denoiser": 2 * rows * forward}, speed, memory)
