"""What takes the place of CLIP while a script runs, and leaves nothing behind: `import clip` and `from_pretrained`."""

from __future__ import annotations

import functools
import importlib.machinery
import os
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from adaclip.config import DEFAULT_BASE

if TYPE_CHECKING:
    from adaclip.frozen import FrozenEncoder
    from adaclip.model import AdaCLIP

# What scripts call the bases: OpenAI's name, and the last part of Hugging Face's.
OPENAI_NAMES = {
    "clip-vit-base-patch32": "ViT-B/32",
    "clip-vit-base-patch16": "ViT-B/16",
    "clip-vit-large-patch14": "ViT-L/14",
    "clip-vit-large-patch14-336": "ViT-L/14@336px",
}
# transformers' classes whose from_pretrained is served.
CLASSES = ("AutoModel", "AutoTokenizer", "CLIPModel", "CLIPTextModel", "CLIPTextModelWithProjection", "CLIPTokenizer")


class Replacement:
    """AdaCLIP under the names of the base it takes the place of."""

    def __init__(self, adaclip: AdaCLIP, weights: str) -> None:
        self.adaclip = adaclip
        self.weights = weights
        base = Path(adaclip.base).name
        # A base under another name, a local copy for instance, stands for the one the field uses.
        self.hf_name = base if base in OPENAI_NAMES else Path(DEFAULT_BASE).name
        self.openai_name = OPENAI_NAMES[self.hf_name]
        self.reported: list[str] = []
        self._folder: tempfile.TemporaryDirectory | None = None
        self._frozen: FrozenEncoder | None = None

    @property
    def frozen(self) -> FrozenEncoder:
        """The encoder that scripts get, one for all who ask."""
        if self._frozen is None:
            from adaclip.frozen import FrozenEncoder

            self._frozen = FrozenEncoder(self.adaclip)
        return self._frozen

    @functools.cached_property
    def record(self) -> dict[str, str]:
        """What checkpoints say of the encoder."""
        from adaclip import fingerprint

        return fingerprint.of(self.adaclip)

    def clip_module(self) -> types.ModuleType:
        """A module that stands for OpenAI's `clip`, with its submodules `clip.clip` and `clip.model`."""
        from adaclip import openai_clip
        from adaclip.frozen import FrozenEncoder

        def load(name, device=None, jit=False, download_root=None):
            """`adaclip.openai_clip.load` with the name of the base this adapter is served for."""
            if str(name) != self.openai_name and Path(name).name != f"{self.openai_name.replace('/', '-')}.pt":
                raise RuntimeError(
                    f"The script loads CLIP {name}, and adaclip.launch serves {self.openai_name} with {self.weights}. "
                    "Use an adapter made for that model."
                )
            self.report(f"clip.load({str(name)!r})")
            return self.frozen.to(openai_clip.usual_device(device)), openai_clip.refuse_image

        def tokenize(texts, context_length=77, truncate=False):
            """`adaclip.openai_clip.tokenize` with the vocabulary of the model that is served."""
            return self.frozen.tokenize(texts, context_length, truncate)

        def available_models():
            """The one name that is served."""
            return [self.openai_name]

        package = _module("clip", load=load, tokenize=tokenize, available_models=available_models)
        package.__path__ = []  # a package: its submodules can be imported, and others cannot
        package.clip = _module("clip.clip", load=load, tokenize=tokenize, available_models=available_models)
        package.model = _module("clip.model", convert_weights=openai_clip.convert_weights, CLIP=FrozenEncoder)
        return package

    def redirect(self, name: object, cls: type) -> object:
        """The folder to load from instead, when `name` is the base's; otherwise `name`."""
        if not isinstance(name, str | os.PathLike) or Path(name).name != self.hf_name:
            return name
        if self._folder is None:
            from adaclip import export

            self._folder = tempfile.TemporaryDirectory(prefix="adaclip-launch-")
            export.to_hf(self.adaclip, Path(self._folder.name) / "model")
        self.report(f"{cls.__name__}.from_pretrained({str(name)!r})")
        return str(Path(self._folder.name) / "model")

    def make(self, *_: object, **__: object) -> FrozenEncoder:
        """What stands where a seam was named: the encoder, whatever it is called with."""
        self.report("the seam")
        return self.frozen

    def report(self, what: str) -> None:
        """Says once for each thing that it was replaced."""
        if what not in self.reported:
            self.reported.append(what)
            say(f"{what} is served by AdaCLIP {self.weights} (base {self.adaclip.base})")

    def close(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


@contextmanager
def replaced(adaclip: AdaCLIP, weights: str) -> Iterator[Replacement]:
    """`import clip` and transformers' CLIP give `adaclip` inside the context, in this process; then as before.

    weights: how messages call the adapter. What was imported or loaded inside keeps working afterwards.
    """
    import transformers

    from adaclip.fingerprint import saves_noted

    replacement = Replacement(adaclip, weights)
    with ExitStack() as undo:
        undo.callback(replacement.close)
        undo.enter_context(saves_noted())
        package = replacement.clip_module()
        undo.enter_context(_in_sys_modules(package, package.clip, package.model))
        for name in CLASSES:
            undo.enter_context(_served(getattr(transformers, name), replacement))
        if not hasattr(transformers.utils, "move_cache"):
            # SALAD calls it before it loads CLIP; transformers 5 dropped it with the old cache it moved.
            transformers.utils.move_cache = lambda *_, **__: None
            undo.callback(delattr, transformers.utils, "move_cache")
        yield replacement


def say(message: str) -> None:
    """A line on stderr, from the command."""
    print(f"adaclip.launch: {message}", file=sys.stderr, flush=True)


def _module(name: str, **content: object) -> types.ModuleType:
    module = types.ModuleType(name, "AdaCLIP under the surface of OpenAI's clip (adaclip.launch).")
    module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package="." not in name)
    vars(module).update(content)
    return module


@contextmanager
def _in_sys_modules(*modules: types.ModuleType) -> Iterator[None]:
    """These modules under their names, and nothing else of the packages they belong to."""
    package = modules[0].__name__

    def present() -> dict[str, types.ModuleType]:
        return {k: m for k, m in sys.modules.items() if k.partition(".")[0] == package}

    before = present()
    for name in before:
        del sys.modules[name]
    sys.modules.update({module.__name__: module for module in modules})
    try:
        yield
    finally:
        for name in present():
            del sys.modules[name]
        sys.modules.update(before)


@contextmanager
def _served(cls: type, replacement: Replacement) -> Iterator[None]:
    """`cls.from_pretrained` goes where the replacement says, unless whoever asks will adapt the base himself."""
    from torch import nn

    from adaclip.fingerprint import guard

    original: Callable = cls.from_pretrained.__func__
    own = cls.__dict__.get("from_pretrained")

    def from_pretrained(asked, pretrained_model_name_or_path, *args, **kwargs):
        name = pretrained_model_name_or_path
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.partition(".")[0] not in ("adaclip", "peft"):  # they would adapt it twice
            name = replacement.redirect(name, asked)
        loaded = original(asked, name, *args, **kwargs)
        if name is not pretrained_model_name_or_path and isinstance(loaded, nn.Module):
            guard(loaded, replacement.record)
        return loaded

    from_pretrained.__doc__ = original.__doc__
    cls.from_pretrained = classmethod(from_pretrained)
    try:
        yield
    finally:
        if own is None:
            del cls.from_pretrained
        else:
            cls.from_pretrained = own
