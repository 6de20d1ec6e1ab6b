"""Names and arguments that packages and Python dropped and that code of the field still uses; only what is missing.

numpy 2, Python 3.10 and 3.11, torch 2 (`torch._six`, `verbose` of schedules, checkpoints with numpy's numbers), PyYAML
6, transformers 5.
"""

from __future__ import annotations

import argparse
import collections
import functools
import importlib.metadata
import importlib.util
import inspect
import math
import types
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
import torch
from adaclip_integrations import patches
from torch.optim import lr_scheduler

_PYTHON = {kind.__name__: kind for kind in (float, int, bool, object, complex, str)}  # before numpy 1.24
_RENAMED = {  # before numpy 2
    "bool8": "bool_",
    "int0": "intp",
    "uint0": "uintp",
    "float_": "float64",
    "complex_": "complex128",
    "string_": "bytes_",
    "unicode_": "str_",
    "Inf": "inf",
    "Infinity": "inf",
    "infty": "inf",
    "PINF": "inf",
    "NaN": "nan",
    "product": "prod",
    "cumproduct": "cumprod",
    "alltrue": "all",
    "sometrue": "any",
    "row_stack": "vstack",
    "trapz": "trapezoid",
}
NUMPY: dict[str, object] = {
    **_PYTHON,
    **{old: getattr(np, new, None) for old, new in _RENAMED.items()},
    "long": int,
    "unicode": str,
    "NINF": -np.inf,
    "VisibleDeprecationWarning": np.exceptions.VisibleDeprecationWarning,
    "asfarray": lambda values, dtype=np.float64: np.asarray(values, dtype),
    "in1d": lambda values, test, *args, **kwargs: np.isin(np.ravel(values), test, *args, **kwargs),
    "msort": lambda values: np.sort(values, axis=0),
}
_ABSTRACT = ("Callable", "Hashable", "Iterable", "Iterator", "Mapping", "MutableMapping", "Sequence", "Set", "Sized")


def supply(undo: ExitStack) -> None:
    """Supply what is missing, until `undo` closes."""
    import transformers

    for name, value in NUMPY.items():
        undo.enter_context(patches.missing(np, name, value))
    for name in _ABSTRACT:
        undo.enter_context(patches.missing(collections, name, getattr(collections.abc, name)))
    undo.enter_context(patches.missing(inspect, "getargspec", lambda function: inspect.getfullargspec(function)[:4]))
    if importlib.util.find_spec("torch._six") is None:
        undo.enter_context(patches.modules(_six()))
    if int(transformers.__version__.partition(".")[0]) >= 5:  # the lazy module looks long for what it lacks
        undo.enter_context(patches.missing(transformers, "AdamW", _adamw))
    for cls in vars(lr_scheduler).values():
        own = isinstance(cls, type) and issubclass(cls, lr_scheduler.LRScheduler) and "__init__" in vars(cls)
        if own and "verbose" not in inspect.signature(cls).parameters:
            undo.enter_context(patches.attribute(cls, "__init__", _without_verbose(cls.__init__)))
    undo.enter_context(torch.serialization.safe_globals(list(_plain_data())))
    _supply_yaml(undo)


def pkg_resources() -> types.ModuleType:
    """Return a stand-in for setuptools' module, as far as code asks it for versions."""
    import packaging.version

    def get_distribution(name: str) -> types.SimpleNamespace:
        return types.SimpleNamespace(version=importlib.metadata.version(name))

    parse = packaging.version.parse
    return patches.module("pkg_resources", packaging=packaging, parse_version=parse, get_distribution=get_distribution)


def _six() -> types.ModuleType:
    content = {"string_classes": (str, bytes), "int_classes": int, "container_abcs": collections.abc}
    return patches.module("torch._six", inf=math.inf, nan=math.nan, **content)


def _adamw(params, lr=1e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0, **_: object) -> torch.optim.AdamW:
    """In the place of transformers' optimiser, with its defaults."""
    return torch.optim.AdamW(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)


def _without_verbose(original: Callable) -> Callable:
    @functools.wraps(original)
    def init(schedule, *args, verbose=None, **kwargs):
        original(schedule, *args, **kwargs)

    return init


def _plain_data() -> list[object]:
    """Return what old checkpoints hold besides tensors: options, and numpy's numbers and arrays, under all names."""
    found: list[object] = [argparse.Namespace, np.ndarray, np.dtype]
    found += [type(np.dtype(kind)) for kind in ("bool", "i1", "i2", "i4", "i8", "u1", "f2", "f4", "f8")]
    multiarray = np._core.multiarray if hasattr(np, "_core") else np.core.multiarray
    for name in ("scalar", "_reconstruct"):
        found += [(getattr(multiarray, name), f"numpy.{core}.multiarray.{name}") for core in ("core", "_core")]
    return found


def _supply_yaml(undo: ExitStack) -> None:
    if importlib.util.find_spec("yaml") is None:
        return
    import yaml

    original = yaml.load

    @functools.wraps(original)
    def load(stream, Loader=yaml.SafeLoader):
        return original(stream, Loader)

    if inspect.signature(original).parameters["Loader"].default is inspect.Parameter.empty:
        undo.enter_context(patches.attribute(yaml, "load", load))
