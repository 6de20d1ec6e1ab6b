"""The adapters of an encoder: loading, mixing, choosing and leaving out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from adaclip import adapter as adapter_files
from adaclip import hub
from adaclip.base_record import RECORD, check_record
from adaclip.config import AdaCLIPError
from adaclip.inference import is_of, merge

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Encoders whose adapter is disabled in this thread or task: a state of the encoder would reach other threads.
_DISABLED: ContextVar[frozenset[int]] = ContextVar("disabled", default=frozenset())


class AdaptersMixin:
    """Methods of `AdaCLIP` that concern its adapters."""

    @property
    def adapters(self) -> list[str]:
        """Names of the adapters in this encoder; the first is called "default"."""
        return list(self.text_model.peft_config)

    @property
    def active_adapter(self) -> str:
        """The adapter that is used, trained, saved and merged; AdaCLIPError if peft was made to use several at once."""
        active = self.text_model.base_model.active_adapters
        if len(active) != 1:
            raise AdaCLIPError(
                f"{len(active)} adapters are active ({', '.join(active)}); AdaCLIP uses one. Choose it with "
                "set_adapter, or make their sum with mix_adapters."
            )
        return active[0]

    def load_adapter(self, repo_or_path: str | Path, name: str, *, check_base: bool = True, **load: Any) -> None:
        """Add a trained adapter of the same base; the active adapter stays active.

        Args:
            repo_or_path: Folder or Hub repository of the adapter.
            name: Name for it in this encoder.
            check_base: Refuse an adapter that was made for another base.
            **load: revision, token, cache_dir, local_files_only, subfolder, as in `from_pretrained`.

        Raises:
            AdaCLIPError: The adapter does not fit this base, or the name is taken or invalid.
        """
        options = hub.LoadOptions.of(load, without=("dtype", "device"))
        folder = hub.resolve_adapter(str(repo_or_path), options)
        if check_base:
            hub.check_same_base(folder, self.base)
            record = adapter_files.settings_of(folder).get(RECORD)
            check_record(record, merge(self.text_model, None, share=True), self.base, folder)
        adapter_files.add_adapter(self.text_model, folder, name)
        self.train(self.training)  # peft leaves the dropout of new adapters active
        self.to(self.device)

    def mix_adapters(self, weights: Mapping[str, float], name: str) -> None:
        """Add an adapter whose change of the base is the weighted sum of others'; the active adapter stays active.

        The mix is a snapshot: further training of the others does not affect it.

        Args:
            weights: Weight of each of `adapters`, by name; their ranks add up in the mix.
            name: Name of the mix in this encoder.

        Raises:
            ValueError: An adapter is unknown.
            AdaCLIPError: The name is taken or invalid.
        """
        for adapter in weights:
            self._check_adapter(adapter)
        adapter_files.mix_adapters(self.text_model, weights, name)
        self.train(self.training)

    def set_adapter(self, name: str) -> None:
        """Make one of `adapters` the active one; raise ValueError for another name."""
        self._check_adapter(name)
        self.text_model.set_adapter(name)

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """Make `forward` and `encode` use the base alone within the context, in this thread or task only."""
        token = _DISABLED.set(_DISABLED.get() | {id(self)})
        try:
            yield
        finally:
            _DISABLED.reset(token)

    @property
    def _disabled(self) -> bool:
        return id(self) in _DISABLED.get()

    def adapter_parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over the active adapter's LoRA matrices, the parameters to train."""
        return (p for name, p in self.text_model.named_parameters() if is_of(name, self.active_adapter))

    def merged(self) -> PreTrainedModel:
        """Return a plain transformers model with the active adapter merged; this encoder stays unchanged."""
        return merge(self.text_model, self.active_adapter, share=False)

    def _check_adapter(self, name: str) -> None:
        if name not in self.adapters:
            raise ValueError(f"No adapter {name!r} in this encoder: choose from {', '.join(self.adapters)}.")
