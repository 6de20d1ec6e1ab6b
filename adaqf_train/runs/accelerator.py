"""Accelerate as every command sets it up; torch is imported when it is needed, so that help appears at once."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

from adaqf_train.errors import ConfigError

if TYPE_CHECKING:
    from accelerate import Accelerator


def new_accelerator(precision: str | None = None) -> Accelerator:
    """Accelerate on all cores of this process; ConfigError for a precision that the machine lacks."""
    import torch
    from accelerate import Accelerator, InitProcessGroupKwargs
    from accelerate.utils import parse_flag_from_env

    # accelerate and torchrun export OMP_NUM_THREADS=1, which halves the speed on a CPU. Any other number, and any
    # number without a launcher, is the user's.
    launched = "LOCAL_RANK" in os.environ or any(name.startswith("ACCELERATE_") for name in os.environ)
    if launched and os.environ.get("OMP_NUM_THREADS", "1") == "1":
        torch.set_num_threads(max(1, _cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    if torch.cuda.is_available() and not parse_flag_from_env("ACCELERATE_USE_CPU"):
        precision = precision or os.environ.get("ACCELERATE_MIXED_PRECISION", "bf16")
        # The recurrent and the small products stay in float32, for which TF32 is exact enough.
        torch.set_float32_matmul_precision("highest" if precision == "no" else "high")
        # cuDNN plans attention for each new shape, which takes 0.3 to 0.6 s.
        torch.backends.cuda.enable_cudnn_sdp(False)
    # The main process validates alone, and the others wait for it: longer than the ten minutes that NCCL gives them.
    patience = InitProcessGroupKwargs(timeout=timedelta(hours=2))
    try:
        return Accelerator(mixed_precision=precision, kwargs_handlers=[patience])
    except ValueError as error:
        raise ConfigError(f"training.precision={precision}: {error} Choose another, or none.") from error


def _cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
