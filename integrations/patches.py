"""Temporary changes of this process: attributes, entries of mappings, modules. Each ends with its context."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from importlib.machinery import ModuleSpec

import torch


@contextmanager
def attribute(owner: object, name: str, value: object) -> Iterator[None]:
    """Set an attribute of a module or class."""
    own, before = name in vars(owner), vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)


def missing(owner: object, name: str, value: object) -> AbstractContextManager[None]:
    """Set an attribute that a module or class lacks."""
    return nullcontext() if name in vars(owner) else attribute(owner, name, value)


@contextmanager
def entries(mapping: MutableMapping, changes: dict) -> Iterator[None]:
    """Set entries of a mapping, such as `os.environ`."""
    before = {key: mapping[key] for key in changes if key in mapping}
    mapping.update(changes)
    try:
        yield
    finally:
        for key in changes:
            mapping.pop(key, None)
        mapping.update(before)


@contextmanager
def modules(*stand_ins: types.ModuleType) -> Iterator[None]:
    """Make modules importable under their names."""
    with entries(sys.modules, {module.__name__: module for module in stand_ins}):
        yield


@contextmanager
def package(*stand_ins: types.ModuleType) -> Iterator[dict[str, types.ModuleType]]:
    """Make modules importable, and hide all other modules of the package that the first one stands for.

    Yields the hidden modules; those that are added there exist afterwards.
    """
    name = stand_ins[0].__name__
    hidden = forget(name)
    with ExitStack() as undo:
        undo.callback(sys.modules.update, hidden)
        undo.callback(forget, name)
        undo.enter_context(modules(*stand_ins))
        yield hidden


def forget(name: str) -> dict[str, types.ModuleType]:
    """Remove a package and its submodules from `sys.modules`; return what was there."""
    found = [key for key in sys.modules if key.partition(".")[0] == name]
    return {key: sys.modules.pop(key) for key in found}


def uncompiled(function: Callable) -> Callable:
    """Exclude a function from torch.compile, in programs that compile: prompts and frames have no graph."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        compiles = "torch._dynamo" in sys.modules  # its import takes seconds
        return (torch.compiler.disable(function) if compiles else function)(*args, **kwargs)

    call._torchdynamo_disable = True  # type: ignore[attr-defined]
    return call


def module(name: str, **content: object) -> types.ModuleType:
    """Make a module; without a dot in its name it is a package whose other submodules cannot be imported."""
    made = types.ModuleType(name, "A stand-in from adaclip_integrations.")
    made.__spec__ = ModuleSpec(name, None, is_package="." not in name)
    if "." not in name:
        made.__path__ = []
    vars(made).update(content)
    return made


def absent_module(name: str, package: str) -> types.ModuleType:
    """Return a module that can be imported; using its content raises an error that names the missing package."""
    made = module(name, __path__=[])

    def attribute(wanted: str) -> object:
        if wanted.startswith("__"):
            raise AttributeError(wanted)
        return Absent(f"{name}.{wanted}", package)

    made.__getattr__ = attribute  # type: ignore[method-assign]
    return made


class Absent:
    """Something of a package that is not installed; its use raises an ImportError that names the package."""

    def __init__(self, name: str, package: str) -> None:
        self._name, self._package = name, package

    def __call__(self, *_: object, **__: object) -> object:
        """Raise ImportError."""
        raise ImportError(f"{self._name} is not available. Install the package {self._package}.")

    def __getattr__(self, name: str) -> object:
        return self()
