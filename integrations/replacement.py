"""Stand-ins for `import clip` and transformers' CLIP while a script runs; afterwards everything is as before."""

from __future__ import annotations

import functools
import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from adaclip_integrations import IntegrationError, checkpoints, fingerprint, patches, places, towers, unreached
from adaclip_integrations.clip_package import ClipPackage
from adaclip_integrations.compat import move_cache
from adaclip_integrations.frozen import FrozenEncoder
from adaclip_integrations.names import Published, named, takes_place_of
from adaclip_integrations.places import COMMAND
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from adaclip.model import AdaCLIP
from adaclip.towers import CLIP

# Classes of transformers whose `from_pretrained` is replaced; they cover the models and tokenizers of all families.
CLASSES = ("AutoModel", "AutoModelForTextEncoding", "AutoTokenizer", "PreTrainedModel", "PreTrainedTokenizerBase")
# Options of `from_pretrained` that name a part or a version of the script's own model.
_OF_THEIR_MODEL = ("subfolder", "revision", "variant", "use_safetensors", "from_tf", "from_flax", "force_download")


class NotServedError(IntegrationError, RuntimeError):
    """A program loads a CLIP that the adapter does not take the place of."""


class Replacement:
    """AdaCLIP under the names of the CLIP whose place it takes."""

    def __init__(
        self,
        adaclip: AdaCLIP | Callable[[], AdaCLIP],
        weights: str,
        undo: ExitStack,
        keep: tuple[str, ...] = (),
        aliases: tuple[str, ...] = (),
    ) -> None:
        self._adaclip, self.weights, self.undo, self.keep, self.aliases = adaclip, weights, undo, keep, aliases
        self._warned = False
        self._loaded: set[str] = set()  # aliases that the program loaded
        self.inside = False  # a call of `from_pretrained` that another one makes

    @functools.cached_property
    def adaclip(self) -> AdaCLIP:
        """The encoder; a function that makes it is called at its first use."""
        return self._adaclip if isinstance(self._adaclip, AdaCLIP) else self._adaclip()

    @functools.cached_property
    def stands_for(self) -> Published | None:
        """The model whose place the encoder takes."""
        return takes_place_of(self.adaclip)

    @property
    def vocabulary(self) -> int:
        """Number of tokens by which a CLIP is recognised; a worker that has not loaded the encoder takes the usual."""
        if isinstance(self._adaclip, AdaCLIP) and self._adaclip.tower is CLIP:
            return self._adaclip.text_model.config.vocab_size
        return towers.VOCABULARY

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

    def serves(self, call: str, name: object, sizes: tuple[int, int] | None = None, *, encodes: bool = True) -> bool:
        """Tell whether the caller's CLIP is replaced, and report it; raise NotServedError if it is an unknown one.

        Args:
            call: The caller's call, for messages.
            name: The name or path that the caller loads.
            sizes: Instead of a name, the hidden and the pooled width that the caller's weights have.
            encodes: The caller loads an encoder, not only its tokenizer.
        """
        frame = places.caller()
        if places.keeps(frame, self.keep):
            places.keep(call, frame)
            return False
        ours = (self.adaclip.hidden_size, self.adaclip.projection_size)
        known = self.stands_for is not None and self.stands_for.is_named(name)
        fits = ours == sizes if sizes else known or self.is_alias(name)
        if fits:
            places.serve(call, f"{self.weights} (base {self.adaclip.base})", frame, encodes=encodes)
            if encodes:
                checkpoints.declare(self.record)
            return True
        model = self.stands_for
        served = (model.openai or model.hf) if model else "no published CLIP"
        widths = f"states of {ours[0]} and vectors of {ours[1]} numbers"
        raise NotServedError(
            f"{call} in {places.location(frame)} is not replaced: {COMMAND} serves {served} with "
            f"{self.weights} ({widths}). Use an adapter that was made for that model, or "
            f"--keep {places.file_of(frame)} if this encoder is to stay."
        )

    def refuse(self, call: str) -> None:
        """Raise NotServedError for a CLIP that the program builds by itself, unless its place keeps it."""
        frame = places.caller()
        if places.package_of(frame) in places.ADAPTERS:
            return
        if places.keeps(frame, self.keep):
            places.keep(call, frame)
            return
        raise NotServedError(
            f"{call} in {places.location(frame)} loads weights into a CLIP that the program builds by itself, which "
            f"{COMMAND} does not replace. Name the class or function that makes it with --seam MODULE:NAME, or "
            f"--keep {places.file_of(frame)} if this CLIP is to stay."
        )

    def is_alias(self, name: object) -> bool:
        """Tell whether `name` is one that the user gave."""
        if not isinstance(name, str | os.PathLike):
            return False
        found = {alias for alias in self.aliases if os.path.normpath(alias) == os.path.normpath(name)}
        self._loaded |= found
        return bool(found)

    def is_of_family(self, model: nn.Module) -> bool:
        """Tell whether a model reads text as the adapter's base does, so that it would be the program's encoder."""
        if self.adaclip.tower is CLIP:
            return towers.is_foreign(model, self.vocabulary)
        kind = getattr(getattr(model, "config", None), "model_type", None)
        return kind == self.adaclip.text_model.config.model_type or towers.is_foreign(model)

    def redirect(self, name: object, cls: type) -> object:
        """Return the folder to load from if `name` is the replaced CLIP's, otherwise `name`."""
        ours = self.stands_for is not None and self.stands_for.is_named(name)
        known = ours or named(name) is not None or self.is_alias(name)
        encodes = "Tokenizer" not in cls.__name__
        if not known or not self.serves(f"{cls.__name__}.from_pretrained({str(name)!r})", name, encodes=encodes):
            return name
        return self.folder

    def make(self, *_: object, **__: object) -> FrozenEncoder:
        """Takes the place of a seam: accepts any arguments and returns the encoder."""
        places.serve("the seam", f"{self.weights} (base {self.adaclip.base})")
        checkpoints.declare(self.record)
        return self.frozen

    def report_unused(self) -> None:
        """Report on stderr that nothing was replaced, and options that had no effect."""
        if not places.served:
            places.say("nothing was replaced: the script loaded no CLIP that this command serves")
        for pattern in set(self.keep) - places.kept:
            places.say(f"--keep {pattern} had no effect: no file of that name loaded a CLIP")
        for name in set(self.aliases) - self._loaded:
            places.say(f"--as {name} had no effect: the script loaded nothing of that name")

    def warn_of_vanilla(self, *_: object) -> None:
        """Report at the first step of an optimiser that nothing was replaced yet."""
        if not self._warned and not places.served:
            places.say("a training begins, and nothing was replaced so far: it does not use AdaCLIP")
        self._warned = True


@contextmanager
def replaced(
    adaclip: AdaCLIP | Callable[[], AdaCLIP], weights: str, keep: tuple[str, ...] = (), aliases: tuple[str, ...] = ()
) -> Iterator[Replacement]:
    """Replace `import clip` and transformers' CLIP in this process. Loaded objects still work after the context.

    Args:
        adaclip: The encoder, or a function that loads it at its first use.
        weights: Its name, for messages.
        keep: Patterns of files whose CLIP stays as it is; evaluation networks keep theirs in any case.
        aliases: Further names or paths of the CLIP that AdaCLIP takes the place of.
    """
    import transformers

    with ExitStack() as undo:
        undo.enter_context(places.own())
        replacement = Replacement(adaclip, weights, undo, keep, aliases)
        undo.enter_context(checkpoints.recorded(lambda: replacement.record))
        undo.enter_context(towers.watched(replacement))
        ClipPackage(replacement).enter(undo)
        for name in CLASSES:
            undo.enter_context(_served(getattr(transformers, name), replacement))
        _serve_sentence_transformers(replacement, undo)
        undo.enter_context(patches.missing(transformers.utils, "move_cache", move_cache))
        undo.callback(register_optimizer_step_pre_hook(replacement.warn_of_vanilla).remove)
        undo.enter_context(unreached.watched())
        yield replacement


@contextmanager
def _served(cls: type, replacement: Replacement) -> Iterator[None]:
    """Redirect `cls.from_pretrained`, except for callers that adapt the base themselves."""
    original: Callable = cls.from_pretrained.__func__

    @functools.wraps(original)
    def from_pretrained(asked, pretrained_model_name_or_path, *args, **kwargs):
        name = pretrained_model_name_or_path
        # adaclip and peft would apply the adapter twice.
        own = replacement.inside or places.package_of(places.caller()) in places.ADAPTERS
        served = name if own else replacement.redirect(name, asked)
        if served is not name:
            kwargs = {key: value for key, value in kwargs.items() if key not in _OF_THEIR_MODEL}
        with patches.attribute(replacement, "inside", True):
            loaded = original(asked, served, *args, **kwargs)
        if own or not isinstance(loaded, nn.Module):
            return loaded
        if served is not name:
            for part in {loaded, getattr(loaded, "text_model", loaded)}:  # some programs keep this part alone
                fingerprint.guard(part, replacement.record)
            towers.mark(loaded)
        elif named(name) is None:
            call = f"{asked.__name__}.from_pretrained({str(name)!r})"
            if replacement.is_of_family(loaded):
                replacement.serves(call, name)  # raises, or reports
            else:
                where = places.location(places.caller())
                places.say(f"{call} in {where} is not replaced: it is not the encoder that the adapter was made for")
        return loaded

    with patches.attribute(cls, "from_pretrained", classmethod(from_pretrained)):
        yield


def _serve_sentence_transformers(replacement: Replacement, undo: ExitStack) -> None:
    """Redirect `SentenceTransformer(name)` for the families that it is used with; its import takes seconds."""
    loaded = isinstance(replacement._adaclip, AdaCLIP)  # a worker loads the encoder later
    if not loaded or replacement.adaclip.tower is CLIP or importlib.util.find_spec("sentence_transformers") is None:
        return
    from sentence_transformers import SentenceTransformer

    original = SentenceTransformer.__init__

    @functools.wraps(original)
    def load(model, model_name_or_path=None, *args, **kwargs):
        name = replacement.redirect(model_name_or_path, SentenceTransformer)
        with patches.attribute(replacement, "inside", True), fingerprint.compared():
            original(model, name, *args, **kwargs)
        if name is not model_name_or_path:
            fingerprint.guard(model, replacement.record)

    undo.enter_context(patches.attribute(SentenceTransformer, "__init__", load))
