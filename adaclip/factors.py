"""Sums of low-rank changes as one plain LoRA adapter: mixtures, PiSSA and OLoRA, and files of other programs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from adaclip.config import AdaCLIPError

if TYPE_CHECKING:
    from peft import PeftModel

PREFIX = "base_model.model."  # of tensors in adapter files


class Factor(NamedTuple):
    """A change B A of one module's weight."""

    down: Tensor  # A (rank, in)
    up: Tensor  # B (out, rank), with the scale


def plain_lora(changes: Mapping[str, Iterable[Factor]]) -> tuple[dict, dict[str, Tensor]]:
    """Return configuration and tensors of the plain LoRA adapter that changes each module by the sum of its factors.

    Its rank is the largest sum of ranks. Modules with less have zeros, so the adapter needs no patterns.
    """
    ranks = {module: sum(len(f.down) for f in factors) for module, factors in changes.items()}
    rank = max(ranks.values())
    tensors = {}
    for module, factors in changes.items():
        missing = rank - ranks[module]
        down = torch.nn.functional.pad(torch.cat([f.down for f in factors]), (0, 0, 0, missing))
        up = torch.nn.functional.pad(torch.cat([f.up for f in factors], dim=1), (0, missing))
        tensors[f"{PREFIX}{module}.lora_A.weight"] = down.contiguous()
        tensors[f"{PREFIX}{module}.lora_B.weight"] = up.contiguous()
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": list(changes)}
    return config, tensors


def mixed(wrapped: PeftModel, weights: Mapping[str, float]) -> dict[str, list[Factor]]:
    """Return the factors of a weighted sum of adapters; raise AdaCLIPError for one whose change is no plain LoRA."""
    changes: dict[str, list[Factor]] = defaultdict(list)
    for name, weight in weights.items():
        config = wrapped.peft_config[name]
        extras = {"DoRA": config.use_dora, "lora_bias": config.lora_bias, "modules_to_save": config.modules_to_save}
        extra = next((what for what, used in extras.items() if used), None)
        if extra:
            raise AdaCLIPError(
                f"The adapter {name!r} has {extra}, and no weighted sum of that is a LoRA adapter. Mix plain LoRA "
                "adapters, or use one with another strength: encode(…, strength=0.5)."
            )
        for module, layer in wrapped.base_model.model.named_modules():
            if name in getattr(layer, "lora_embedding_A", {}):
                raise AdaCLIPError(f"The adapter {name!r} adapts the embedding {module}, which a mix cannot contain.")
            if name in getattr(layer, "lora_A", {}):
                down, up = layer.lora_A[name].weight.detach(), layer.lora_B[name].weight.detach()
                changes[module].append(Factor(down, weight * layer.scaling[name] * up))
    return changes


def without_residual(init: str, module: str, factor: Factor, weight: Tensor, initial_scale: float) -> list[Factor]:
    """Return factors of an adapter relative to the original base, not to the residual that PiSSA or OLoRA leave.

    PiSSA (Meng et al. 2024) takes the largest singular directions out of the weight, OLoRA (Büyükakyüz 2024) the first
    columns of its QR decomposition, as `pissa_init` and `olora_init` of peft do.

    Args:
        init: "pissa" or "olora".
        module: Name of the module, for the message.
        factor: The stored change, relative to the residual.
        weight: The original weight (out, in).
        initial_scale: Scale of the adapter, with which OLoRA takes its part out.
    """
    rank, weight = len(factor.down), weight.detach().float()
    if rank > min(weight.shape):
        raise AdaCLIPError(
            f"{module}: rank {rank} is over the weight's {min(weight.shape)}, so {init} did not make it."
        )
    if init == "pissa":
        left, sizes, right = torch.linalg.svd(weight, full_matrices=False)
        taken = Factor(right[:rank], -left[:, :rank] * sizes[:rank])
    else:
        left, right = torch.linalg.qr(weight)
        taken = Factor(right[:rank], -initial_scale * left[:, :rank])
    return [Factor(factor.down.float(), factor.up.float()), taken]
