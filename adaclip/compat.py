"""What code written for older packages asks for and current ones no longer have, for as long as one script runs.

    python -m adaclip.launch --compat --weights ADAPTER script.py …    with AdaCLIP
    python -m adaclip.compat script.py …                               with the script's own encoder

Only what is missing is added: names that numpy, transformers and matplotlib dropped, `pkg_resources`, and packages that
MDM, MoMask and SALAD import at the top and a training run on HumanML3D or KIT-ML does not need. Where there is no CUDA,
code that insists on it computes on the CPU. Everything is in this process only, and undone afterwards.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

ALIASES = {"float": float, "int": int, "bool": bool, "object": object, "complex": complex, "str": str}  # numpy < 1.24
# Imported by the codebases, used by parts of them only. Submodules are named, since they are imported by name.
OPTIONAL = {
    "spacy": ("spacy",),  # MDM: part-of-speech tags of new prompts
    "moviepy": ("moviepy.editor", "moviepy.video", "moviepy.video.io", "moviepy.video.io.bindings"),  # MDM: videos
    "wandb": ("wandb",),  # MDM: one of its loggers
    "joblib": ("joblib",),  # MDM: fitting a body model to a motion
}
FACTORIES = (
    *("arange", "as_tensor", "empty", "eye", "full", "linspace", "ones", "rand", "randint", "randn", "randperm"),
    *("tensor", "zeros", "empty_like", "full_like", "ones_like", "rand_like", "randn_like", "zeros_like"),
)


@contextmanager
def compatible() -> Iterator[None]:
    """Inside, what is missing is there."""
    with ExitStack() as undo:
        for aid in (_numpy, _transformers, _matplotlib, _packages, _openai_clip, _cuda):
            undo.enter_context(aid())
        yield


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a script, or a module after -m, inside `compatible`. Its exit status is this command's."""
    from adaclip.launch import run

    arguments = sys.argv[1:] if arguments is None else list(arguments)
    module = arguments[:1] == ["-m"]
    target, *rest = arguments[module:] or [""]
    if not target or target.startswith("-") or not (module or Path(target).is_file()):
        raise SystemExit(
            "adaclip.compat: no such script. Usage: python -m adaclip.compat (script.py | -m module) [arguments …]"
        )
    with compatible():
        run(target, rest, module=module)


@contextmanager
def _numpy() -> Iterator[None]:
    tests = _module("numpy.core.umath_tests", matrix_multiply=np.matmul, inner1d=_inner1d)
    with ExitStack() as undo:
        for name, value in ALIASES.items():
            if name not in vars(np):
                undo.enter_context(_set(np, name, value))
        if not _present(tests.__name__):
            undo.enter_context(_modules(tests))
        yield


def _inner1d(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("...i,...i->...", a, b)


@contextmanager
def _transformers() -> Iterator[None]:
    import transformers.utils

    if hasattr(transformers.utils, "move_cache"):
        yield
        return
    # SALAD calls it before it loads CLIP; transformers 5 dropped it with the old cache it moved.
    with _set(transformers.utils, "move_cache", lambda *_, **__: None):
        yield


@contextmanager
def _matplotlib() -> Iterator[None]:
    if not _present("matplotlib"):
        yield
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    if hasattr(FigureCanvasAgg, "tostring_rgb"):  # matplotlib < 3.10
        yield
        return
    with _set(FigureCanvasAgg, "tostring_rgb", lambda self: np.asarray(self.buffer_rgba())[..., :3].tobytes()):
        yield


@contextmanager
def _packages() -> Iterator[None]:
    with ExitStack() as undo:
        for package, names in OPTIONAL.items():
            if not _present(package):
                modules = (_absent(name, package) for name in dict.fromkeys((package, *names)))
                undo.enter_context(_modules(*modules))
        if not _present("blobfile"):
            undo.enter_context(_modules(_blobfile()))
        if not _present("smplx"):
            undo.enter_context(_modules(*_smplx()))
        yield


def _absent(name: str, package: str) -> types.ModuleType:
    """A module that can be imported, and whose content says what is missing when it is used."""
    module = _module(name)
    module.__path__ = []

    def attribute(wanted: str) -> object:
        if wanted.startswith("__"):
            raise AttributeError(wanted)
        return _Absent(f"{name}.{wanted}", package)

    module.__getattr__ = attribute
    return module


class _Absent:
    def __init__(self, name: str, package: str) -> None:
        self._name, self._package = name, package

    def __call__(self, *_: object, **__: object) -> object:
        raise ImportError(f"{self._name} is needed here: install the package {self._package}.")

    def __getattr__(self, name: str) -> object:
        raise ImportError(f"{self._name} is needed here: install the package {self._package}.")


def _blobfile() -> types.ModuleType:
    """As MDM uses it, for files on this machine."""
    return _module(
        "blobfile",
        BlobFile=lambda path, mode="r", **_: open(path, mode),
        join=os.path.join,
        dirname=os.path.dirname,
        basename=os.path.basename,
        exists=os.path.exists,
        isdir=os.path.isdir,
        makedirs=functools.partial(os.makedirs, exist_ok=True),
        listdir=os.listdir,
    )


def _smplx() -> tuple[types.ModuleType, types.ModuleType]:
    """MDM builds a body model, with files of its own, and uses it only for other data sets and for meshes."""

    class SMPLLayer(nn.Module):
        def __init__(self, *_: object, **__: object) -> None:
            super().__init__()

        def __init_subclass__(cls) -> None:
            cls.__init__ = SMPLLayer.__init__
            cls.forward = SMPLLayer.forward

        def forward(self, *_: object, **__: object) -> object:
            raise ImportError(
                "The SMPL body model is needed here: install the package smplx and download SMPL's files."
            )

    lbs = _module("smplx.lbs", vertices2joints=_Absent("smplx.lbs.vertices2joints", "smplx"))
    package = _module("smplx", SMPLLayer=SMPLLayer, lbs=lbs)
    package.__path__ = []
    return package, lbs


@contextmanager
def _openai_clip() -> Iterator[None]:
    """openai-clip asks for `pkg_resources` and torchvision, which its text encoder does not use.

    A stand-in for torchvision that stayed would mislead transformers: it is there only while clip is imported.
    """
    needed = [name for name in ("pkg_resources", "torchvision") if not _present(name)]
    with ExitStack() as undo:
        if "pkg_resources" in needed:
            import packaging.version

            undo.enter_context(_modules(_module("pkg_resources", packaging=packaging)))
        if "torchvision" in needed and "clip" not in sys.modules and _present("clip"):
            undo.callback(_forget, "clip")
            names = ("Compose", "Resize", "CenterCrop", "ToTensor", "Normalize")
            transforms = _module("torchvision.transforms", **{name: _Absent(name, "torchvision") for name in names})
            transforms.InterpolationMode = types.SimpleNamespace(BICUBIC=None)
            torchvision = _module("torchvision", transforms=transforms)
            torchvision.__path__ = []
            with _modules(torchvision, transforms), contextlib.suppress(ImportError):
                importlib.import_module("clip")
            if "clip.clip" in sys.modules:  # `load` also returns image preprocessing; there is none
                sys.modules["clip.clip"]._transform = lambda *_: _Absent("image preprocessing", "torchvision")
        yield


@contextmanager
def _cuda() -> Iterator[None]:
    """Devices called cuda are the CPU, on machines that have no CUDA."""
    if torch.cuda.is_available():
        yield
        return
    with torch.device("cpu"):
        torch.empty(0)  # torch lists its factories when a default device is first used: before they are wrapped
    with ExitStack() as undo:
        for cls in (torch.Tensor, nn.Module):
            undo.enter_context(_set(cls, "cuda", lambda self, *_, **__: self))
            undo.enter_context(_set(cls, "to", _on_cpu(cls.to)))
        for name in FACTORIES:
            undo.enter_context(_set(torch, name, _on_cpu(getattr(torch, name))))
        undo.enter_context(_set(torch, "load", _on_cpu(torch.load)))
        for name in ("set_device", "synchronize"):
            undo.enter_context(_set(torch.cuda, name, lambda *_, **__: None))
        undo.callback(register_optimizer_step_pre_hook(_without_graphs).remove)
        yield


def _without_graphs(optimizer: torch.optim.Optimizer, *_: object) -> None:
    """CUDA graphs are asked for by MDM when it resumes, and refused on a CPU."""
    for group in optimizer.param_groups:
        if group.get("capturable"):
            group["capturable"] = False


def _on_cpu(function: Callable) -> Callable:
    """The function with every CUDA device among its arguments replaced."""

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


def _module(name: str, **content: object) -> types.ModuleType:
    module = types.ModuleType(name, "A stand-in (adaclip.compat).")
    module.__spec__ = ModuleSpec(name, None)
    vars(module).update(content)
    return module


def _present(name: str) -> bool:
    if name in sys.modules:
        return True
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _forget(package: str) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]


@contextmanager
def _modules(*modules: types.ModuleType) -> Iterator[None]:
    sys.modules.update({module.__name__: module for module in modules})
    try:
        yield
    finally:
        for module in modules:
            if sys.modules.get(module.__name__) is module:
                del sys.modules[module.__name__]


@contextmanager
def _set(owner: object, name: str, value: object) -> Iterator[None]:
    own = name in vars(owner)
    before = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)


if __name__ == "__main__":
    main()
