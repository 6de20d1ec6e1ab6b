"""Stand-ins for what old code expects of packages and current packages no longer offer, while one script runs.

Only what is missing is added: names that numpy, transformers and matplotlib dropped, `pkg_resources`, and packages that
text-to-motion code imports at the top of files but does not need to train on HumanML3D or KIT-ML. All changes are
limited to this process and undone afterwards.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import linecache
import os
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from adaclip_integrations import dropped, patches, plotting
from torch import Tensor, nn

# Packages that the codebases import and use in some parts only, with the submodules that they import by name.
OPTIONAL = {
    "spacy": (),  # MDM: part-of-speech tags of new prompts
    "wandb": (),  # MDM: one of its loggers
    "joblib": (),  # MDM: fitting a body model to a motion
    "cv2": (),  # MotionDiffuse: imported by mistake
    "plotly": ("plotly.graph_objects", "plotly.subplots"),  # MMM: interactive pictures of motions
}


@contextmanager
def compatible() -> Iterator[None]:
    """Supply everything that old code misses."""
    import transformers.utils

    with ExitStack() as undo:
        undo.enter_context(patches.missing(transformers.utils, "move_cache", move_cache))
        _unwrap_features(undo)
        dropped.supply(undo)  # after an import from transformers, at which its lazy module takes its place
        if not torch.cuda.is_available():
            undo.enter_context(patches.attribute(torch.cuda, "is_available", _asserted))
        if _present("matplotlib"):
            plotting.supply_matplotlib(undo)
        _supply(undo, patches.module("numpy.core.umath_tests", matrix_multiply=np.matmul, inner1d=_inner1d))
        for package, submodules in OPTIONAL.items():
            _supply(undo, *(patches.absent_module(name, package) for name in (package, *submodules)))
        _supply(undo, *plotting.moviepy())
        _supply(undo, _blobfile())
        _supply(undo, *_smplx())
        _supply_openai_clip(undo)
        yield


def _supply(undo: ExitStack, *stand_ins: types.ModuleType) -> None:
    """Make stand-ins importable unless the first one's name is."""
    if not _present(stand_ins[0].__name__):
        undo.enter_context(patches.modules(*stand_ins))


def move_cache(*_: object, **__: object) -> None:
    """Do nothing, like SALAD's call of `move_cache` today: transformers 5 dropped the old cache that it moved."""


def _inner1d(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("...i,...i->...", a, b)


def _unwrap_features(undo: ExitStack) -> None:
    """Make CLIP's `get_text_features` return a tensor again; transformers 5 returns an object that holds it."""
    from transformers import CLIPModel

    for name in ("get_text_features", "get_image_features"):
        undo.enter_context(patches.attribute(CLIPModel, name, _unwrapped(getattr(CLIPModel, name))))


def _unwrapped(original: Callable) -> Callable:
    @functools.wraps(original)
    def features(*args, **kwargs):
        found = original(*args, **kwargs)
        if isinstance(found, Tensor):
            return found
        pooled = found.pooler_output
        pooled.pooler_output, pooled.last_hidden_state = pooled, found.last_hidden_state  # for newer code
        return pooled

    return features


def _asserted() -> bool:
    """In the place of `torch.cuda.is_available` on a machine without CUDA: an `assert` of it passes."""
    caller = sys._getframe(1)
    return linecache.getline(caller.f_code.co_filename, caller.f_lineno).lstrip().startswith("assert ")


def _blobfile() -> types.ModuleType:
    """`blobfile` for files on this machine, as far as MDM uses it."""
    same = {name: getattr(os.path, name) for name in ("join", "dirname", "basename", "exists", "isdir")}
    makedirs = functools.partial(os.makedirs, exist_ok=True)
    return patches.module("blobfile", BlobFile=_open, makedirs=makedirs, listdir=os.listdir, **same)


def _open(path: str, mode: str = "r", **_: object) -> object:
    return open(path, mode)


def _smplx() -> list[types.ModuleType]:
    """`smplx`: MDM builds a body model from files of its own, and uses it for other data sets and meshes only."""

    class SMPLLayer(nn.Module):
        def __init__(self, *_: object, **__: object) -> None:
            super().__init__()

        def __init_subclass__(cls) -> None:
            cls.__init__ = SMPLLayer.__init__
            cls.forward = SMPLLayer.forward

        def forward(self, *_: object, **__: object) -> object:
            raise ImportError("The SMPL body model is missing. Install the package smplx and download SMPL's files.")

    lbs = patches.module("smplx.lbs", vertices2joints=patches.Absent("smplx.lbs.vertices2joints", "smplx"))
    return [patches.module("smplx", SMPLLayer=SMPLLayer, lbs=lbs), lbs]


def _supply_openai_clip(undo: ExitStack) -> None:
    """Supply `pkg_resources` and torchvision, which openai-clip imports and its text encoder does not use.

    A stand-in for torchvision would mislead transformers, so it exists only while clip is imported.
    """
    _supply(undo, dropped.pkg_resources())
    if _present("torchvision") or "clip" in sys.modules or not _present("clip"):
        return
    undo.callback(patches.forget, "clip")
    names = ("Compose", "Resize", "CenterCrop", "ToTensor", "Normalize")
    absent = {name: patches.Absent(name, "torchvision") for name in names}
    bicubic = types.SimpleNamespace(BICUBIC=None)
    transforms = patches.module("torchvision.transforms", InterpolationMode=bicubic, **absent)
    torchvision = patches.module("torchvision", transforms=transforms)
    with patches.modules(torchvision, transforms), contextlib.suppress(ImportError):
        importlib.import_module("clip")
    if "clip.clip" in sys.modules:  # `load` also returns image preprocessing, which is not available
        sys.modules["clip.clip"]._transform = lambda *_: patches.Absent("image preprocessing", "torchvision")


def _present(name: str) -> bool:
    if name in sys.modules:
        return True
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
