"""Public names that are imported at their first use, because torch, transformers and peft cost seconds to import."""

from __future__ import annotations

import importlib
from collections.abc import Callable


def lazy(package: str, **home: str) -> Callable[[str], object]:
    """Return the `__getattr__` of a package; `home` gives the module of each public name."""

    def load(name: str) -> object:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(home[name]), name)

    return load
