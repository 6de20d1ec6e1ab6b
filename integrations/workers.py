"""Set up the process of a script, and the processes that multiprocessing starts from new.

A new process (start methods spawn and forkserver: DataLoader workers on macOS and Windows, `mp.spawn`) imports the
script and unpickles its data set, so it would load the real CLIP, and old packages would fail. The launcher's setup is
therefore repeated there before the script is imported: an entry of the data that multiprocessing sends first calls
`_install` while it is unpickled. Forked processes inherit everything.
"""

from __future__ import annotations

import functools
import importlib
import multiprocessing.spawn
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.util import Finalize
from typing import NamedTuple

from adaclip_integrations import SeamError, patches, places, selection
from adaclip_integrations.compat import compatible
from adaclip_integrations.cpu import cpu_for_cuda
from adaclip_integrations.replacement import replaced
from torch.optim.optimizer import register_optimizer_step_pre_hook

from adaclip.model import AdaCLIP

_installed = ExitStack()  # lasts as long as the process


class Setup(NamedTuple):
    """What the launcher does to a process."""

    weights: str | None
    base: str | None
    seams: tuple[str, ...]
    keep: tuple[str, ...]
    aliases: tuple[str, ...]
    compat: bool
    cpu: bool

    def __reduce__(self) -> tuple[Callable, tuple]:
        return _install, tuple(self)


def set_up(setup: Setup, undo: ExitStack, *, in_worker: bool = False) -> None:
    """Replace what the setup says in this process, until `undo` closes. A worker loads the encoder when it uses it."""
    if setup.compat:
        undo.enter_context(compatible())
    if setup.cpu:
        undo.enter_context(cpu_for_cuda())
    if setup.weights is None:
        if not in_worker and selection.selected("") is not None:
            undo.callback(register_optimizer_step_pre_hook(_report_unused_variable).remove)
            undo.callback(_report_unused_variable)
        return
    weights = setup.weights
    load = functools.partial(AdaCLIP.from_pretrained, weights, base=setup.base)
    replacement = undo.enter_context(replaced(load if in_worker else load(), weights, setup.keep, setup.aliases))
    if not in_worker:
        undo.callback(replacement.report_unused)
    for seam in setup.seams:
        undo.enter_context(seam_replaced(seam, replacement.make))


def _report_unused_variable(*_: object) -> None:
    """Report that the environment names an adapter and the program, which has no edits, does not use it."""
    if not places.served:
        variable = f"{selection.WEIGHTS}={selection.selected('')}"
        places.say(f"{variable} has no effect so far: it needs a checkout with edits. Give --weights instead")


@contextmanager
def seam_replaced(seam: str, make: Callable[..., object]) -> Iterator[None]:
    """Replace what `seam` names, `module:attribute`, by `make`; raise SeamError if it is no class or function."""
    module, colon, path = seam.partition(":")
    if not (module and colon and path):
        raise SeamError(f"--seam {seam}: expected module:attribute, such as models.text:load_clip.")
    try:
        owner: object = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module exists, and a module that it imports does not
        raise SeamError(
            f"--seam {seam}: there is no module {module} where the script runs. Name it as the script imports it."
        ) from error
    original = owner
    for name in path.split("."):
        owner = original
        if not hasattr(owner, name):
            where = getattr(owner, "__name__", type(owner).__name__)
            raise SeamError(f"--seam {seam}: {where} has no {name}. Name the class or function that makes the encoder.")
        original = getattr(owner, name)
    if not callable(original):
        kind = type(original).__name__
        raise SeamError(f"--seam {seam}: {name} is {kind}, expected a class or function that makes an encoder.")
    if isinstance(vars(owner).get(name), staticmethod):
        make = staticmethod(make)
    with patches.attribute(owner, name, make):
        yield


@contextmanager
def reached(setup: Setup) -> Iterator[None]:
    """Repeat the setup in every process that multiprocessing starts from new."""
    original = multiprocessing.spawn.get_preparation_data

    @functools.wraps(original)
    def get_preparation_data(name):
        return {"adaclip": setup, **original(name)}

    with patches.attribute(multiprocessing.spawn, "get_preparation_data", get_preparation_data):
        yield


def _install(*setup: object) -> None:
    """Set up this process; the encoder is loaded when it is first used."""
    set_up(Setup(*setup), _installed, in_worker=True)  # type: ignore[arg-type]
    Finalize(None, _installed.close, exitpriority=0)  # such processes end without atexit
