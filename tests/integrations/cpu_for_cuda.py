"""Runs `adaclip-run` on a machine without CUDA: devices that a script calls cuda are the CPU.

python tests/integrations/cpu_for_cuda.py --compat --weights ADAPTER script.py --gpu_id -1 …
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from adaclip_integrations.launch import main
from adaclip_integrations.patches import attribute
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

FACTORIES = (
    *("arange", "as_tensor", "empty", "eye", "full", "linspace", "ones", "rand", "randint", "randn", "randperm"),
    *("tensor", "zeros", "empty_like", "full_like", "ones_like", "rand_like", "randn_like", "zeros_like"),
)


@contextmanager
def cpu_for_cuda() -> Iterator[None]:
    """Replaces CUDA devices by the CPU; does nothing on a machine with CUDA."""
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
        for name in ("set_device", "synchronize"):
            undo.enter_context(attribute(torch.cuda, name, lambda *_, **__: None))
        undo.callback(register_optimizer_step_pre_hook(_without_graphs).remove)
        yield


def _without_graphs(optimizer: torch.optim.Optimizer, *_: object) -> None:
    """Turns CUDA graphs off: MDM turns them on when it resumes, and a CPU refuses them."""
    for group in optimizer.param_groups:
        if group.get("capturable"):
            group["capturable"] = False


def _on_cpu(function: Callable) -> Callable:
    """Wraps a function so that every CUDA device among its arguments becomes the CPU."""

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


if __name__ == "__main__":
    with cpu_for_cuda():
        main()
