"""Stand-ins for `import clip` and transformers' CLIP while a script runs; afterwards everything is as before."""

from __future__ import annotations

import functools
import os
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from adaclip_integrations import fingerprint, patches
from adaclip_integrations.compat import move_cache
from adaclip_integrations.frozen import FrozenEncoder

from adaclip import openai_clip
from adaclip.config import DEFAULT_BASE
from adaclip.model import AdaCLIP

COMMAND = "adaclip-run"
# Names that scripts use for the bases: the last part of Hugging Face's, and OpenAI's.
OPENAI_NAMES = {
    "clip-vit-base-patch32": "ViT-B/32",
    "clip-vit-base-patch16": "ViT-B/16",
    "clip-vit-large-patch14": "ViT-L/14",
    "clip-vit-large-patch14-336": "ViT-L/14@336px",
}
# Classes of transformers whose `from_pretrained` is replaced.
CLASSES = ("AutoModel", "AutoTokenizer", "CLIPModel", "CLIPTextModel", "CLIPTextModelWithProjection", "CLIPTokenizer")


class Replacement:
    """AdaCLIP under the names of the base whose place it takes."""

    def __init__(self, adaclip: AdaCLIP, weights: str, undo: ExitStack) -> None:
        self.adaclip, self.weights, self.undo = adaclip, weights, undo
        base = Path(adaclip.base).name
        # A base with an unknown name, such as a local copy, stands for the usual one.
        self.hf_name = base if base in OPENAI_NAMES else Path(DEFAULT_BASE).name
        self.openai_name = OPENAI_NAMES[self.hf_name]
        self.reported: list[str] = []

    @functools.cached_property
    def frozen(self) -> FrozenEncoder:
        """The encoder that scripts get; all callers share it."""
        return FrozenEncoder(self.adaclip)

    @functools.cached_property
    def record(self) -> dict[str, str]:
        """The encoder's record for checkpoints."""
        return fingerprint.of(self.adaclip)

    @functools.cached_property
    def folder(self) -> str:
        """The encoder as a Hugging Face folder, which `undo` removes."""
        from adaclip.exports import to_hf

        temporary = self.undo.enter_context(tempfile.TemporaryDirectory(prefix="adaclip-run-"))
        return str(to_hf(self.adaclip, Path(temporary) / "model"))

    def clip_module(self) -> types.ModuleType:
        """Make a module that stands for OpenAI's `clip`, with its submodules `clip.clip` and `clip.model`.

        It serves the name of the replaced base only.
        """

        def load(name, device=None, jit=False, download_root=None):
            if str(name) != self.openai_name and Path(name).name != f"{self.openai_name.replace('/', '-')}.pt":
                raise RuntimeError(
                    f"The script loads CLIP {name}, and {COMMAND} serves {self.openai_name} with {self.weights}. "
                    "Use an adapter that was made for that model."
                )
            self.report(f"clip.load({str(name)!r})")
            return self.frozen.to(openai_clip.usual_device(device)), openai_clip.refuse_image

        def tokenize(texts, context_length=77, truncate=False):
            return self.frozen.tokenize(texts, context_length, truncate)

        functions = {"load": load, "tokenize": tokenize, "available_models": lambda: [self.openai_name]}
        model = patches.module("clip.model", convert_weights=openai_clip.convert_weights, CLIP=FrozenEncoder)
        return patches.module("clip", clip=patches.module("clip.clip", **functions), model=model, **functions)

    def redirect(self, name: object, cls: type) -> object:
        """Return the folder to load from if `name` is the base's, otherwise `name`."""
        if not isinstance(name, str | os.PathLike) or Path(name).name != self.hf_name:
            return name
        self.report(f"{cls.__name__}.from_pretrained({str(name)!r})")
        return self.folder

    def make(self, *_: object, **__: object) -> FrozenEncoder:
        """Takes the place of a seam: accepts any arguments and returns the encoder."""
        self.report("the seam")
        return self.frozen

    def report(self, what: str) -> None:
        """Report a replacement on stderr, once."""
        if what not in self.reported:
            self.reported.append(what)
            say(f"{what} is served by AdaCLIP {self.weights} (base {self.adaclip.base})")

    def report_if_unused(self) -> None:
        """Report on stderr that nothing was replaced."""
        if not self.reported:
            say("nothing was replaced: the script loaded no CLIP that this command serves")


@contextmanager
def replaced(adaclip: AdaCLIP, weights: str) -> Iterator[Replacement]:
    """Replace `import clip` and transformers' CLIP in this process. Loaded objects still work after the context."""
    import transformers

    with ExitStack() as undo:
        replacement = Replacement(adaclip, weights, undo)
        undo.enter_context(fingerprint.saves_noted())
        clip = replacement.clip_module()
        undo.enter_context(patches.package(clip, clip.clip, clip.model))
        for name in CLASSES:
            undo.enter_context(_served(getattr(transformers, name), replacement))
        undo.enter_context(patches.missing(transformers.utils, "move_cache", move_cache))
        yield replacement


def say(message: str) -> None:
    """Print a line on stderr."""
    print(f"{COMMAND}: {message}", file=sys.stderr, flush=True)


@contextmanager
def _served(cls: type, replacement: Replacement) -> Iterator[None]:
    """Redirect `cls.from_pretrained`, except for callers that adapt the base themselves."""
    from torch import nn

    original: Callable = cls.from_pretrained.__func__

    @functools.wraps(original)
    def from_pretrained(asked, pretrained_model_name_or_path, *args, **kwargs):
        name = pretrained_model_name_or_path
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.partition(".")[0] not in ("adaclip", "peft"):  # they would apply the adapter twice
            name = replacement.redirect(name, asked)
        loaded = original(asked, name, *args, **kwargs)
        if name is not pretrained_model_name_or_path and isinstance(loaded, nn.Module):
            fingerprint.guard(loaded, replacement.record)
        return loaded

    with patches.attribute(cls, "from_pretrained", classmethod(from_pretrained)):
        yield
