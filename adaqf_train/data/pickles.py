"""Pickles of plain data: anything that could run code is refused."""

from __future__ import annotations

import pickle
from collections.abc import Collection
from typing import IO


class PlainUnpickler(pickle.Unpickler):
    """Reads lists, dicts, strings and numbers, and the classes and functions that it is explicitly allowed."""

    def __init__(self, file: IO[bytes], allowed: Collection[tuple[str, str]] = ()) -> None:
        """allowed: (module, name) of harmless classes and functions."""
        super().__init__(file)
        self.allowed = allowed

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}, which is not data")
        return super().find_class(module, name)
