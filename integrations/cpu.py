"""Code that was written for CUDA on the CPU: `adaclip-run --cpu`, to try codebases on a machine without a GPU."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from adaclip_integrations import places
from adaclip_integrations.patches import attribute
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

FACTORIES = (
    *("arange", "as_tensor", "empty", "eye", "full", "linspace", "ones", "rand", "randint", "randn", "randperm"),
    *("tensor", "zeros", "empty_like", "full_like", "ones_like", "rand_like", "randn_like", "zeros_like"),
)


@contextmanager
def cpu_for_cuda() -> Iterator[None]:
    """Replace CUDA devices by the CPU; do nothing on a machine with CUDA."""
    if torch.cuda.is_available():
        yield
        return
    with torch.device("cpu"):
        torch.empty(0)  # torch lists its factories when a default device is first used: before they are wrapped
    with ExitStack() as undo:
        for cls in (torch.Tensor, nn.Module):
            undo.enter_context(attribute(cls, "cuda", lambda self, *_, **__: self))
            undo.enter_context(attribute(cls, "to", _on_cpu(cls.to)))
        for name in (*FACTORIES, "load"):
            undo.enter_context(attribute(torch, name, _on_cpu(getattr(torch, name))))
        for name in ("set_device", "synchronize", "empty_cache"):
            undo.enter_context(attribute(torch.cuda, name, lambda *_, **__: None))
        undo.enter_context(attribute(torch.cuda, "is_available", _for_scripts))
        undo.callback(register_optimizer_step_pre_hook(_without_graphs).remove)
        yield


def _for_scripts() -> bool:
    """In the place of `torch.cuda.is_available`: true for the script's code, false for packages."""
    frame = sys._getframe(1)
    own = places.package_of(frame) in {*places.LIBRARIES, "adaclip"}
    return not own and "site-packages" not in frame.f_code.co_filename


def _without_graphs(optimizer: torch.optim.Optimizer, *_: object) -> None:
    """Turn CUDA graphs off: MDM turns them on when it resumes, and a CPU refuses them."""
    for group in optimizer.param_groups:
        if group.get("capturable"):
            group["capturable"] = False


def _on_cpu(function: Callable) -> Callable:
    """Wrap a function so that every CUDA device among its arguments becomes the CPU."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        for name in ("device", "map_location"):
            if name in kwargs:
                kwargs[name] = _instead(kwargs[name])
        return function(*map(_instead, args), **kwargs)

    return call


def _instead(argument: object) -> object:
    named = isinstance(argument, torch.device) or (isinstance(argument, str) and argument.partition(":")[0] == "cuda")
    return torch.device("cpu") if named and str(argument).startswith("cuda") else argument
