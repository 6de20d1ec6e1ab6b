"""AdaCLIP in the place of a class or function that makes a text encoder: `--seam module:attribute` of the launcher."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from adaclip.config import AdaCLIPError


@contextmanager
def replaced(seam: str, make: Callable[..., object]) -> Iterator[None]:
    """Inside, what `seam` names is `make`; afterwards what it was.

    seam: module:attribute, where the attribute may be dotted (models.t2m:Model.load_clip) and names a class or a
    function that returns the encoder. AdaCLIPError when there is no such thing. The module is imported for it; other
    modules that took the name from it before keep theirs.
    """
    module, colon, path = seam.partition(":")
    if not (module and colon and path):
        raise AdaCLIPError(f"--seam {seam}: expected module:attribute, such as models.text:load_clip.")
    try:
        owner: object = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # something that the module itself needs is missing
        raise AdaCLIPError(
            f"--seam {seam}: there is no module {module} where the script runs. Name it as the script imports it."
        ) from error
    *parents, name = path.split(".")
    for part in parents:
        owner = _part(owner, part, seam)
    original = _part(owner, name, seam)
    if not callable(original):
        raise AdaCLIPError(
            f"--seam {seam}: {name} is {type(original).__name__}, expected a class or function that makes an encoder."
        )
    own = vars(owner).get(name, original)  # a static method is another thing inside its class than from outside
    setattr(owner, name, staticmethod(make) if isinstance(own, staticmethod) else make)
    try:
        yield
    finally:
        setattr(owner, name, own)


def _part(owner: object, name: str, seam: str) -> object:
    if not hasattr(owner, name):
        where = getattr(owner, "__name__", type(owner).__name__)
        raise AdaCLIPError(f"--seam {seam}: {where} has no {name}. Name what makes the text encoder there.")
    return getattr(owner, name)
