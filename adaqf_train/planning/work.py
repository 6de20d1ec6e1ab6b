"""The work of a step by part, counted by torch while two clips go through the networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from adaclip import TextFeatures
from adaqf_train.config import RunConfig
from adaqf_train.judges.contrastive import FLIPS
from adaqf_train.layers import freeze
from adaqf_train.planning.networks import Networks

ROWS = 2  # clips that are counted


def count(run: Callable[[], Tensor]) -> int:
    """Floating-point operations of a forward pass and, where gradients are wanted, the backward pass.

    Counted on a CPU: kernels of an accelerator, and fused ones of attention, hide from the counter what they do.
    """
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        result = run()
        if result.requires_grad:
            result.sum().backward()
    return counter.get_total_flops()


def by_part(config: RunConfig, networks: Networks, frames: int, tokens: int, features: int) -> dict[str, dict]:
    """Operations a clip costs in each stage, by part: {"adaqf": {"denoiser": 1.2e9, …}, …}.

    frames, tokens: what clips and captions are padded to. The networks are on the CPU and are left frozen as they
    are in the AdaQF stage.
    """
    extractors, evaluator, encoder, denoiser = (
        networks.extractors,
        networks.evaluator,
        networks.encoder,
        networks.denoiser,
    )
    motion = torch.zeros(ROWS, frames, features)
    mask = torch.ones(ROWS, frames, dtype=torch.bool)
    ids = torch.zeros(ROWS, tokens, dtype=torch.long)
    ids[:, -1] = encoder.eos_token_id
    real = torch.ones_like(ids, dtype=torch.bool)

    def inputs(flipped: bool) -> tuple[Tensor, ...]:
        texts = 1 + FLIPS * flipped  # that are read for each motion
        return ids.repeat(texts, 1), real.repeat(texts, 1), motion, mask

    hard = config.extractors.objective == "minimal_pairs"
    stages: dict[str, dict[str, int]] = {
        "extractors": {"extractors": count(lambda: torch.cat(extractors.train()(*inputs(hard))))},
        "evaluator": {"evaluator": count(lambda: torch.cat(evaluator.train()(*inputs(config.evaluator.flipped))))},
    }

    def denoised(*, text_learns: bool) -> Tensor:
        pooled, states = torch.zeros(ROWS, encoder.projection_size), torch.zeros(ROWS, tokens, encoder.hidden_size)
        text = TextFeatures(pooled.requires_grad_(text_learns), states.requires_grad_(text_learns), real)
        return denoiser(motion, torch.zeros(ROWS, dtype=torch.long), text, mask)

    def encoded() -> Tensor:
        features = encoder(ids, real)
        return torch.cat([features.pooled.flatten(), features.tokens.flatten()])

    with torch.no_grad():
        reading = count(encoded)
    cached = config.training.cache_text
    stages["baseline"] = {
        "text encoder": 0 if cached else reading,
        "denoiser": count(lambda: denoised(text_learns=False)),
    }
    tuned = config.encoder.tuning != "frozen"
    stages["adaqf"] = {
        "text encoder": count(encoded) if tuned else stages["baseline"]["text encoder"],
        "denoiser": count(lambda: denoised(text_learns=tuned)),
    }
    if config.feedback.active:
        freeze(extractors)
        with torch.no_grad():
            target = count(lambda: extractors.motion(motion, mask))
            texts = 0 if cached else count(lambda: extractors.text(ids, real))
        generated = motion.clone().requires_grad_()
        stages["adaqf"]["feedback"] = target + texts + count(lambda: extractors.motion(generated, mask))
    for network in (extractors, evaluator, encoder, denoiser):
        network.zero_grad(set_to_none=True)
    return {stage: {part: flops / ROWS for part, flops in parts.items()} for stage, parts in stages.items()}


def total(parts: Mapping[str, float]) -> float:
    """Of a stage's parts."""
    return sum(parts.values())
