"""Code that was written for CUDA on the CPU: `adaclip-run --cpu`, to try codebases on a machine without a GPU."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext

import torch
from adaclip_integrations import places
from adaclip_integrations.patches import attribute
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

FACTORIES = (
    *("arange", "as_tensor", "empty", "eye", "full", "linspace", "ones", "rand", "randint", "randn", "randperm"),
    *("tensor", "zeros", "empty_like", "full_like", "ones_like", "rand_like", "randn_like", "zeros_like"),
    *("asarray", "empty_strided", "hann_window", "logspace", "normal", "tril_indices", "triu_indices"),
)
METHODS = ("new_empty", "new_full", "new_ones", "new_tensor", "new_zeros")
# Types of tensors on CUDA, which code used as constructors and as names.
TYPES = {
    f"{kind}Tensor": getattr(torch, f"{kind}Tensor") for kind in ("Bool", "Float", "Double", "Half", "Int", "Long")
}


class _OnCpu(type(torch.Generator)):  # type: ignore[misc]
    """Class of a class of torch whose objects are made on the CPU; the original's objects are its own too."""

    def __call__(cls, *_: object, **__: object) -> object:
        return cls.__base__()

    def __instancecheck__(cls, found: object) -> bool:
        return isinstance(found, cls.__base__)


class CpuGenerator(torch.Generator, metaclass=_OnCpu):
    """In the place of `torch.Generator`, whatever the device."""


def _giving(value: Callable[[], object]) -> Callable:
    """Return a function of its own that accepts any arguments: torch's compiler lists functions by identity."""
    return lambda *_, **__: value()


_NOTHING = ("empty_cache", "init", "ipc_collect", "reset_peak_memory_stats", "set_device", "synchronize")
_CUDA: dict[str, object] = {
    **{name: _giving(lambda: None) for name in _NOTHING},
    **TYPES,
    "current_device": _giving(lambda: 0),
    "device": _giving(nullcontext),
    "get_device_name": _giving(lambda: "CPU"),
    "get_rng_state": _giving(torch.get_rng_state),
    "mem_get_info": _giving(lambda: (0, 0)),
}


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
        for name in METHODS:
            undo.enter_context(attribute(torch.Tensor, name, _on_cpu(getattr(torch.Tensor, name))))
        undo.enter_context(attribute(torch.Tensor, "type", _type(torch.Tensor.type)))
        undo.enter_context(attribute(torch.Tensor, "pin_memory", lambda self, *_: self))
        for owner in (torch.UntypedStorage, torch.storage.TypedStorage):
            undo.enter_context(attribute(owner, "cuda", lambda self, *_, **__: self))
        for name in (*FACTORIES, "load", "set_default_tensor_type"):
            undo.enter_context(attribute(torch, name, _on_cpu(getattr(torch, name))))
        undo.enter_context(attribute(torch, "Generator", CpuGenerator))
        for name, value in _CUDA.items():
            undo.enter_context(attribute(torch.cuda, name, value))
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


def _type(original: Callable) -> Callable:
    @functools.wraps(original)
    def typed(tensor, dtype=None, *args, **kwargs):
        named = isinstance(dtype, str) and dtype.startswith("torch.cuda.")
        return original(tensor, dtype.replace("cuda.", "") if named else dtype, *args, **kwargs)

    return typed


def _on_cpu(function: Callable) -> Callable:
    """Wrap a function so that every CUDA device among its arguments becomes the CPU."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        for name in ("device", "map_location"):
            if name in kwargs:
                kwargs[name] = _instead(kwargs[name], numbered=True)
        if function.__name__ == "to" and len(args) > 1:  # a device by its number
            args = (args[0], _instead(args[1], numbered=True), *args[2:])
        return function(*map(_instead, args), **kwargs)

    return call


def _instead(argument: object, *, numbered: bool = False) -> object:
    if numbered and isinstance(argument, int) and not isinstance(argument, bool):
        return torch.device("cpu")
    if isinstance(argument, str) and argument.startswith("torch.cuda.") and argument.endswith("Tensor"):
        return argument.replace("cuda.", "")
    named = isinstance(argument, torch.device) or (isinstance(argument, str) and argument.partition(":")[0] == "cuda")
    return torch.device("cpu") if named and str(argument).startswith("cuda") else argument
