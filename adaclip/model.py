"""The encoder: a text tower with a LoRA adapter, and two ways to compute text features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from adaclip import adapter as adapter_files
from adaclip import hub
from adaclip.adapter import BASE, first_line
from adaclip.adapters import AdaptersMixin
from adaclip.base_record import RECORD, check_base_model, check_record
from adaclip.card import CardDetails
from adaclip.config import DEFAULT_BASE, LoRASettings
from adaclip.encoding import CPU, PromptEncoder, TextFeatures, usable_device
from adaclip.inference import InferenceWeights, PromptCache
from adaclip.lora_config import adapter_config
from adaclip.pooling import Pooling, family_pooling
from adaclip.saving import SavingMixin
from adaclip.sentence import read_pooling
from adaclip.streaming import BLOCK, check_out, encode_many
from adaclip.text import LongPrompts, check_padding, check_texts, token_ids, tokenize
from adaclip.towers import LORA_MODULES, Tower

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase


class AdaCLIP(AdaptersMixin, SavingMixin, nn.Module):
    """A text encoder with a LoRA adapter for motion: CLIP's, or one of another family in `adaclip.towers`.

    Create one with `from_pretrained` (a trained adapter) or `from_base` (a fresh adapter, identical to the base).
    Only the adapter's parameters require gradients.

    Args:
        text_model: A peft-wrapped model of transformers, such as CLIPTextModelWithProjection.
        tokenizer: Its tokenizer.
        base: Hub id or folder of the base weights.
        pooling: The way to pooled vectors; None: the family's own.
    """

    def __init__(
        self,
        text_model: PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        base: str,
        pooling: Pooling | None = None,
    ) -> None:
        super().__init__()
        self.text_model = text_model
        self.tokenizer = tokenizer
        self.base = base
        self.pooling = pooling or family_pooling(text_model, tokenizer)
        # OpenAI's configs on the Hub name token 2 as the end token; the tokenizer has the real one.
        self.eos_token_id: int | None = self.pooling.end_token_id
        self.details = CardDetails()  # licence, data sets and metrics, for the model card
        self.cache = PromptCache()
        self.base_options = hub.LoadOptions()  # options of the base, with which an export loads its vision tower
        self.revision: str | None = None  # commit of the Hub repository that the adapter came from
        self.base_revision: str | None = None  # the same of the base
        self._weights = InferenceWeights()

    @classmethod
    def from_base(
        cls,
        base: str | Path = DEFAULT_BASE,
        *,
        rank: int = 16,
        alpha: int = 16,
        dropout: float = 0.0,
        modules: Sequence[str] = LORA_MODULES,
        pooling: str | None = None,
        **load: Any,
    ) -> AdaCLIP:
        """Make a fresh adapter on a text encoder; it equals its base exactly until it is trained (B = 0).

        The family follows from the base's configuration; see `adaclip.towers`.

        Args:
            base: Hub id or folder of a text encoder.
            rank: Rank of the LoRA matrices. A is drawn from torch's global generator.
            alpha: Scale; the change of a weight is multiplied by alpha / rank.
            dropout: LoRA dropout.
            modules: Adapted modules, by CLIP's names (the same parts in every family) or the family's own.
            pooling: Way to the pooled vector, such as "pooler_output" for CLIP or "cls" for BERT; see
                `adaclip.pooling.Pooling`. None: the base's own.
            **load: dtype, device, revision, token, cache_dir, local_files_only, as in `from_pretrained`.

        Returns:
            The encoder, in training mode.

        Raises:
            AdaCLIPError: The base cannot be loaded.
            ValueError: A setting is out of its range, or the device cannot be used.
        """
        if isinstance(modules, str):
            raise ValueError(f"modules must be a sequence of names, got {modules!r}: write ({modules!r},).")
        settings = LoRASettings(rank, alpha, dropout, tuple(modules))
        options, base = hub.LoadOptions.of(load, without=("subfolder",)), hub.located(base)
        text_model, tokenizer = hub.load_base(base, options, pooling=pooling)
        check_base_model(text_model, base)
        reads = read_pooling(base, options, text_model, tokenizer, pooling)
        return cls._of(adapter_files.new_adapter(text_model, settings), tokenizer, base, options, reads)

    @classmethod
    def from_pretrained(
        cls,
        repo_or_path: str | Path,
        *,
        base: str | Path | None = None,
        pooling: str | None = None,
        check_base: bool = True,
        **load: Any,
    ) -> AdaCLIP:
        """Load a trained adapter and its base; every tensor of it, or none.

        Args:
            repo_or_path: Folder or Hub repository of the adapter.
            base: Hub id or folder of the base to use instead of the recorded one.
            pooling: As in `from_base`; None: the one that the adapter records, or the base's own.
            check_base: Refuse a base whose text weights are not those that the adapter records.
            **load: dtype, device, revision, token, cache_dir, local_files_only, subfolder; see `hub.LoadOptions`.

        Returns:
            The encoder, in eval mode.

        Raises:
            AdaCLIPError: The adapter or its base cannot be loaded, or they do not fit together.
            ValueError: The device cannot be used.
        """
        options = hub.LoadOptions.of(load)
        folder = hub.resolve_adapter(str(repo_or_path), options)
        if folder.is_dir():
            adapter_config(folder)  # refuses a damaged adapter before its base is downloaded
        base = hub.located(base) if base is not None else hub.recorded_base(folder)
        pooling = pooling or adapter_files.recorded_pooling(folder)
        text_model, tokenizer = hub.load_base(base, options.for_base(), tokenizer_folder=folder, pooling=pooling)
        check_base_model(text_model, base)
        if check_base:
            check_record(adapter_files.settings_of(folder).get(RECORD), text_model, base, folder)
        reads = read_pooling(base, options.for_base(), text_model, tokenizer, pooling)
        wrapped = adapter_files.attach_adapter(text_model, folder)
        encoder = cls._of(wrapped, tokenizer, base, options.for_base(), reads)
        encoder.details, encoder.revision = adapter_files.saved_details(folder), hub.commit_of(folder)
        return encoder.eval()

    @classmethod
    def _of(
        cls,
        text_model: PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        base: str,
        load: hub.LoadOptions,
        pooling: Pooling,
    ) -> AdaCLIP:
        encoder = cls(text_model, tokenizer, base, pooling)
        encoder.base_options = replace(load, token=None)  # without secrets, so that it can be pickled
        encoder.base_revision = hub.cached_commit(base, load)
        try:
            return encoder.to(load.device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:  # a torch that was built without it
            raise ValueError(f"The device {load.device} cannot be used: {first_line(error)}") from error

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, *, trim: bool = True) -> TextFeatures:
        """Compute text features with gradients into the adapter.

        Args:
            input_ids: Token ids (B, L), long, right-padded.
            attention_mask: (B, L), 1 = real token, 0 = padding; None: everything up to the first end token.
            trim: On a CPU, read from the mask how many tokens no prompt has, and do not compute them.

        Returns:
            Pooled vectors (B, P), token states (B, L, H) and their mask (B, L).

        Raises:
            ValueError: There is no mask, and a row has no end token. On a CPU also: padding on the left or between
                tokens, a mask that leaves out the end token, or values other than 0 and 1.
        """
        if attention_mask is None:
            is_end = input_ids.eq(-1 if self.eos_token_id is None else self.eos_token_id)
            if not is_end.any(dim=-1).all():
                raise ValueError(
                    f"Every row of input_ids must hold the end token ({self.eos_token_id}): use .tokenize()."
                )
            mask = is_end.cumsum(dim=-1) - is_end.long() == 0
        else:
            mask = attention_mask.bool()
            if mask.shape != input_ids.shape:
                raise ValueError(f"attention_mask is {tuple(mask.shape)}, but input_ids are {tuple(input_ids.shape)}.")
        B, L = mask.shape  # prompts, tokens
        if B * L == 0:
            sizes = ((B, self.projection_size), (B, L, self.hidden_size))
            pooled, tokens = (torch.zeros(size, dtype=self.text_model.dtype, device=self.device) for size in sizes)
            return TextFeatures(pooled, tokens, mask)
        # Padding on the right does not reach a real token, so it need not be computed. On a GPU a search for padding
        # would wait for all queued work, so it is computed.
        longest = L
        if trim and mask.device.type == "cpu":
            # CLIP is often padded with its end token; others have a token for padding alone.
            never_first = self.eos_token_id if self.tower.causal else self.tokenizer.pad_token_id
            given = mask if attention_mask is None else attention_mask
            check_padding(input_ids, given, self.eos_token_id, never_first)
            filled = mask.any(dim=0).nonzero()
            longest = int(filled[-1]) + 1 if len(filled) else L
        real = mask[:, :longest]
        # A disabled adapter: the base's own parameters also in modules without adapters.
        model = self._weights.get(self.text_model, None)[0] if self._disabled else self.text_model
        pooled, states = self.pooling(model, input_ids[:, :longest], real)
        tokens = nn.functional.pad(states * real[..., None], (0, 0, 0, L - longest))
        return TextFeatures(pooled, tokens, mask)

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tokenise prompts on this encoder's device; one that is too long loses its end, with a warning.

        Returns ids (B, L) long and mask (B, L) bool (True = real token), padded to the longest prompt.
        """
        ids, mask = tokenize(self.tokenizer, texts)
        return ids.to(self.device), mask.to(self.device)

    @torch.no_grad()
    def encode(
        self,
        texts: str | Sequence[str],
        *,
        output: Literal["pooled", "tokens", "both"] = "pooled",
        batch_size: int = 64,
        normalize: bool = False,
        convert_to_numpy: bool = False,
        convert_to_tensor: bool = False,
        device: torch.device | str | None = None,
        show_progress_bar: bool | None = None,
        long: LongPrompts = "warn",
        adapter: str | None = None,
        strength: float = 1.0,
        normalize_embeddings: bool = False,
        out: Tensor | np.ndarray | None = None,
    ) -> Tensor | np.ndarray | TextFeatures:
        """Encode prompts without dropout or gradients, as float32.

        Each distinct prompt is encoded once, with the adapter merged into the weights. Recent prompts are cached
        (`self.cache`) until the weights change. On a CPU, prompts of similar length form small groups; on an
        accelerator, each batch is one pass.

        Args:
            texts: Prompts; a single string is a batch of one.
            output: "pooled" gives vectors; "tokens" and "both" give vectors, token states and their mask.
            batch_size: Largest number of prompts per pass.
            normalize: Scale pooled vectors to unit length.
            convert_to_numpy: Return a numpy array; with output "pooled" only.
            convert_to_tensor: Leave the results on the encoder's device; by default they are copied to the CPU.
            device: Device of the results, such as "cuda"; the prompts are encoded where the weights are (see `to`).
            show_progress_bar: None shows one for a thousand prompts or more.
            long: Treatment of prompts over the encoder's limit (CLIP: 77 tokens). "warn" cuts the end off and names the
                lost words; "error" raises ValueError instead; "chunk" encodes pieces that end where sentences or
                actions do. Pooled is then the pieces' mean weighted by their tokens (scaled to the mean of their
                lengths), and tokens are the pieces' tokens one after another, so L may exceed the limit.
            adapter: One of `adapters`, or "base" for none, for this call; None uses the active one.
            strength: Factor of the adapter's change of every weight, for this call: 0 gives the base.
            normalize_embeddings: Another name for `normalize`, as sentence-transformers has it.
            out: Array or tensor (B, P), float32, to write pooled vectors to, such as a memory-mapped file; it is
                returned. With output "pooled" only.

        Returns:
            Pooled vectors (B, P), or `TextFeatures` padded to the longest prompt.

        Raises:
            TypeError: A prompt is not a string.
            ValueError: An argument is out of its range, or a prompt is too long with `long="error"`.
        """
        if output not in ("pooled", "tokens", "both"):
            raise ValueError(f"output must be 'pooled', 'tokens' or 'both', got {output!r}.")
        if convert_to_numpy and (convert_to_tensor or output != "pooled"):
            raise ValueError("convert_to_numpy goes with output='pooled' only, and not with convert_to_tensor.")
        place = usable_device(device if device is not None else self.device if convert_to_tensor else CPU)
        if place.type != "cpu" and (convert_to_numpy or out is not None):
            raise ValueError(f"convert_to_numpy and out go with results on the CPU, not on {place}.")
        texts = check_texts([texts] if isinstance(texts, str) else texts)
        target = None if out is None else check_out(out, (len(texts), self.projection_size), output, convert_to_tensor)
        encoder = self._prompt_encoder(adapter, strength, with_tokens=output != "pooled", place=place)
        options: dict[str, Any] = {"normalize": normalize or normalize_embeddings}
        options["show_progress_bar"] = show_progress_bar
        if len(texts) <= BLOCK and target is None:
            pieces = token_ids(self.tokenizer, texts, long, stacklevel=4)
            features = encoder.features(pieces, batch_size, **options)
        else:
            features = encode_many(
                encoder, self.tokenizer, texts, long, batch_size, **options, out=target, stacklevel=4
            )
        if output != "pooled":
            return features
        if out is not None:
            return out
        return features.pooled.numpy() if convert_to_numpy else features.pooled

    @staticmethod
    def similarity(first: Tensor | np.ndarray, second: Tensor | np.ndarray) -> Tensor:
        """Return the cosine similarities (M, N) of pooled vectors (M, P) and (N, P)."""
        left, right = (nn.functional.normalize(torch.as_tensor(v).float(), dim=-1) for v in (first, second))
        return left @ right.T

    def forget(self) -> None:
        """Drop cached prompts and merged weights; call it after an edit of weights through `.data`."""
        self.cache.clear()
        self._weights.clear()

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    @property
    def hidden_size(self) -> int:
        """Width H of the token states."""
        return self.text_model.config.hidden_size

    @property
    def projection_size(self) -> int:
        """Width P of the pooled vector."""
        return self.pooling.width

    @property
    def tower(self) -> Tower:
        """The family of the text encoder."""
        return self.pooling.tower

    def _prompt_encoder(
        self, adapter: str | None, strength: float, *, with_tokens: bool, place: torch.device
    ) -> PromptEncoder:
        if isinstance(strength, bool) or not isinstance(strength, int | float) or not math.isfinite(strength):
            raise ValueError(f"strength must be a finite number, got {strength!r}.")
        if adapter not in (None, BASE):
            self._check_adapter(adapter)
        base = adapter == BASE or (adapter is None and self._disabled)
        chosen = None if base else adapter or self.active_adapter
        model, state = self._weights.get(self.text_model, chosen, float(strength), follow_peft=adapter is None)
        padding, longest = self.tokenizer.pad_token_id, self.tokenizer.model_max_length
        key = (state, *self.pooling.state())
        return PromptEncoder(model, self.pooling, key, self.cache, padding, longest, with_tokens, place)
