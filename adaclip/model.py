"""The encoder: CLIP's text tower, a LoRA adapter around it, and two ways to read text features from it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn

from adaclip import adapter as adapter_files
from adaclip import hub
from adaclip.adapter import first_line
from adaclip.card import CardDetails, model_card
from adaclip.config import DEFAULT_BASE, LoRASettings
from adaclip.encoding import PromptEncoder, TextFeatures, end_positions, join_pieces, stack
from adaclip.inference import InferenceWeights, PromptCache, is_of, merge
from adaclip.text import LongPrompts, check_texts, token_ids, tokenize

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import CLIPTextModelWithProjection, PreTrainedTokenizerBase


class AdaCLIP(nn.Module):
    """CLIP's text encoder with a motion-aware LoRA adapter.

    Make one with `from_pretrained` (a trained adapter) or `from_base` (a fresh adapter, identical to the base).
    Only the adapter's parameters require gradients.
    """

    def __init__(self, text_model: PeftModel, tokenizer: PreTrainedTokenizerBase, base: str) -> None:
        """text_model: a peft-wrapped CLIPTextModelWithProjection; base: Hub id or folder its weights came from."""
        super().__init__()
        self.text_model = text_model
        self.tokenizer = tokenizer
        self.base = base
        # OpenAI's configs on the Hub name token 2 as the end token; the tokenizer knows the real one.
        self.eos_token_id: int = tokenizer.eos_token_id
        self.details = CardDetails()  # licence, data sets and metrics, for the model card
        self.cache = PromptCache()
        self.base_options = hub.LoadOptions()  # how the base was found, to find its vision tower for an export
        self._weights = InferenceWeights()
        self._disabled = False

    @classmethod
    def from_base(
        cls,
        base: str | Path = DEFAULT_BASE,
        *,
        rank: int = 16,
        alpha: int = 16,
        dropout: float = 0.0,
        modules: Sequence[str] = LoRASettings.modules,
        **load: object,
    ) -> AdaCLIP:
        """A fresh adapter on a CLIP text encoder: B = 0, so it equals its base exactly until trained.

        base: Hub id or folder of a CLIP model. rank, alpha, dropout, modules: see `LoRASettings`. load: dtype,
        device, revision, token, cache_dir, local_files_only, as in `from_pretrained`. A is drawn from torch's
        global generator.
        """
        settings = LoRASettings(rank, alpha, dropout, tuple(modules))
        load, base = hub.LoadOptions(**load), hub.located(base)
        text_model, tokenizer = hub.load_base(base, load)
        return cls._of(adapter_files.new_adapter(text_model, settings), tokenizer, base, load)

    @classmethod
    def from_pretrained(cls, repo_or_path: str | Path, *, base: str | Path | None = None, **load: object) -> AdaCLIP:
        """A trained adapter from a folder or a Hub repository, every tensor of it, or AdaCLIPError.

        base: Hub id or folder of the base to use instead of the recorded one. load: dtype, device, revision,
        token, cache_dir, local_files_only, subfolder. Starts in eval mode.
        """
        load = hub.LoadOptions(**load)
        folder = hub.resolve_adapter(str(repo_or_path), load)
        adapter_files.adapter_config(folder)  # a damaged one is refused before a base is fetched for it
        base = hub.located(base) if base is not None else hub.recorded_base(folder)
        text_model, tokenizer = hub.load_base(base, load.for_base(), tokenizer_folder=folder)
        encoder = cls._of(adapter_files.attach_adapter(text_model, folder), tokenizer, base, load.for_base())
        encoder.details = adapter_files.saved_details(folder)
        return encoder.eval()

    @classmethod
    def _of(
        cls, text_model: PeftModel, tokenizer: PreTrainedTokenizerBase, base: str, load: hub.LoadOptions
    ) -> AdaCLIP:
        encoder = cls(text_model, tokenizer, base)
        encoder.base_options = load.without_secrets()
        try:
            return encoder.to(load.device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:  # a torch that was built without it
            raise ValueError(f"The device {load.device} cannot be used: {first_line(error)}") from error

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> TextFeatures:
        """Text features of token ids, right-padded.

        input_ids: (B, L) long. attention_mask: (B, L), nonzero = real token; None: everything up to the first
        end token. Returns pooled (B, P), tokens (B, L, H), mask (B, L). Gradients flow into the adapter.
        """
        mask = self._real_tokens(input_ids) if attention_mask is None else attention_mask.bool()
        B, L = mask.shape  # prompts, tokens
        if B * L == 0:
            sizes = ((B, self.projection_size), (B, L, self.hidden_size))
            return TextFeatures(*(self._projection.weight.new_zeros(size) for size in sizes), mask)
        # CLIP's attention is causal: padding on the right cannot reach a real token, so it need not be computed,
        # and no mask is needed inside. To look for it on a GPU is to wait for all that was asked of it before.
        longest = L
        if mask.device.type == "cpu":
            filled = mask.any(dim=0).nonzero()
            longest = int(filled[-1]) + 1 if len(filled) else L
        ids, real = input_ids[:, :longest], mask[:, :longest]
        states = self.text_model(input_ids=ids).last_hidden_state
        ends = end_positions(ids, real, self.eos_token_id)
        pooled = self._projection(states[torch.arange(B, device=states.device), ends])
        tokens = nn.functional.pad(states * real[..., None], (0, 0, 0, L - longest))
        return TextFeatures(pooled, tokens, mask)

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids and mask of prompts on this model's device: (B, L) long, (B, L) bool, padded to the longest."""
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
        show_progress_bar: bool | None = None,
        long: LongPrompts = "warn",
        adapter: str | None = None,
    ) -> Tensor | np.ndarray | TextFeatures:
        """Features of prompts, without dropout or gradients, as float32 on the CPU.

        texts: prompts; a single string is a batch of one. output: "pooled" gives (B, P), a numpy array with
        convert_to_numpy; "tokens" and "both" give TextFeatures padded to the longest prompt. batch_size: prompts
        encoded together at most; long ones go in smaller groups. normalize: unit length pooled vectors.
        show_progress_bar: None shows one for a thousand prompts or more. adapter: one of `adapters` to use in this
        call; None: the active one.

        long: for prompts over CLIP's 77 tokens. "warn" cuts the end off and names the words lost; "error" raises
        ValueError instead; "chunk" encodes the prompt in pieces that end where sentences or actions do: pooled is
        then the mean of the pieces' vectors weighted by their tokens (at the mean of their lengths), tokens are the
        pieces' tokens one after another, so L may exceed 77.

        Each distinct prompt is encoded once, neighbours in length together, with the adapter merged into the
        weights; prompts encoded last are remembered (`self.cache`) until the weights change. Raises TypeError for
        anything but strings.
        """
        if output not in ("pooled", "tokens", "both"):
            raise ValueError(f"output must be 'pooled', 'tokens' or 'both', got {output!r}.")
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be an integer of at least 1, got {batch_size!r}.")
        texts = [texts] if isinstance(texts, str) else check_texts(texts)
        pieces = token_ids(self.tokenizer, texts, long, stacklevel=4)
        model, state = self._weights.get(self.text_model, self._adapter_in_use(adapter))
        encode = PromptEncoder(
            model,
            state,
            self.cache,
            padding=self.tokenizer.pad_token_id,
            eos_token_id=self.eos_token_id,
            with_tokens=output != "pooled",
        )
        rows = [ids for prompt in pieces for ids in prompt]
        encoded = iter(encode(rows, batch_size=batch_size, show_progress_bar=show_progress_bar))
        prompts = [join_pieces([next(encoded) for _ in prompt]) for prompt in pieces]
        if output != "pooled":
            features = stack(prompts, self.projection_size, self.hidden_size)
            pooled = features.pooled
        else:
            pooled = torch.stack([p.pooled for p in prompts]) if prompts else torch.zeros(0, self.projection_size)
        if normalize:
            pooled = nn.functional.normalize(pooled, dim=-1)
        if output != "pooled":
            return features._replace(pooled=pooled)
        return pooled.numpy() if convert_to_numpy else pooled

    def forget(self) -> None:
        """Drops what `encode` remembers. Needed only after an edit of the base's weights through `.data`."""
        self.cache.clear()
        self._weights.clear()

    @property
    def adapters(self) -> list[str]:
        """Names of the adapters in this encoder; the first is called "default"."""
        return list(self.text_model.peft_config)

    @property
    def active_adapter(self) -> str:
        """The adapter that `forward` and `encode` use, that learns, and that is saved and merged."""
        return self.text_model.active_adapter

    def load_adapter(self, repo_or_path: str | Path, name: str, *, check_base: bool = True, **load: object) -> None:
        """Adds a trained adapter of the same base under a name; the active one stays active.

        check_base: refuse an adapter that was made for another base. load: revision, token, cache_dir,
        local_files_only, subfolder, as in `from_pretrained`. AdaCLIPError when it does not fit this base or the
        name is taken or impossible.
        """
        folder = hub.resolve_adapter(str(repo_or_path), hub.LoadOptions(**load))
        if check_base:
            hub.check_same_base(folder, self.base)
        adapter_files.add_adapter(self.text_model, folder, name)
        self.to(self.device)

    def mix_adapters(self, weights: Mapping[str, float], name: str) -> None:
        """Adds an adapter that changes the base by the weighted sum of what others change; the active one stays active.

        weights: of `adapters`, by name; their ranks add up in the mix. It is a snapshot: it does not follow when the
        others learn on. ValueError for an unknown adapter, AdaCLIPError for a name that is taken or impossible.
        """
        for adapter in weights:
            self._check_adapter(adapter)
        adapter_files.mix_adapters(self.text_model, weights, name)

    def set_adapter(self, name: str) -> None:
        """Makes an adapter the active one; ValueError if there is none of that name."""
        self._check_adapter(name)
        self.text_model.set_adapter(name)

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """Within this context `forward` and `encode` use the base alone."""
        learns = {name: p.requires_grad for name, p in self.named_parameters()}
        before, self._disabled = self._disabled, True
        try:
            with self.text_model.disable_adapter():
                yield
        finally:
            self._disabled = before
            for name, parameter in self.named_parameters():  # peft switches gradients on again, wanted or not
                parameter.requires_grad_(learns[name])

    def adapter_parameters(self) -> Iterator[nn.Parameter]:
        """The active adapter's LoRA matrices, and nothing else."""
        return (p for name, p in self.text_model.named_parameters() if is_of(name, self.active_adapter))

    def merged(self) -> CLIPTextModelWithProjection:
        """A plain transformers model with the active adapter folded into its weights; this encoder is left as it is."""
        return merge(self.text_model, self.active_adapter, share=False)

    def save_pretrained(
        self, folder: str | Path, *, base: str | Path | None = None, details: CardDetails | None = None
    ) -> Path:
        """Writes the active adapter as a standard PEFT folder (weights, config, model card, tokenizer); its path.

        base: what to record as the base; by default what this encoder was made from. A local folder is recorded
        by its path relative to `folder`. details: licence, data sets and metrics for the card; by default those it
        was loaded with. The folder appears whole or not at all.
        """
        return self._save(Path(folder), base, details)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        base: str | Path | None = None,
        details: CardDetails | None = None,
        subfolder: str = "",
        token: str | bool | None = None,
        private: bool | None = None,
        revision: str | None = None,
        commit_message: str = "Upload AdaCLIP adapter",
    ) -> str:
        """Uploads the active adapter to the Hugging Face Hub, with its base if that is a local folder.

        repo_id: owner/name, made if it does not exist. base, details: as in `save_pretrained`. subfolder: where in
        the repository. revision: branch to push to. Returns the commit's address; AdaCLIPError when it fails.
        """
        with tempfile.TemporaryDirectory() as staging:
            folder = self.save_for_hub(
                Path(staging) / "adapter", repo_id, base=base, details=details, subfolder=subfolder
            )
            return hub.push_folder(
                folder,
                repo_id,
                subfolder=subfolder,
                token=token,
                private=private,
                revision=revision,
                message=commit_message,
            )

    def save_for_hub(
        self,
        folder: str | Path,
        repo_id: str,
        *,
        base: str | Path | None = None,
        details: CardDetails | None = None,
        subfolder: str = "",
    ) -> Path:
        """Write the files that `push_to_hub` uploads, so that you can inspect them first.

        The card names the repository. A base that is a local folder is included.
        """
        folder = self._save(Path(folder), base, details, with_base=True)
        card = model_card(adapter_files.adapter_config(folder), details or self.details, repo_id, subfolder)
        (folder / adapter_files.CARD).write_text(card, encoding="utf-8")
        return folder

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.parameters()).device

    @property
    def hidden_size(self) -> int:
        """Width H of the token states."""
        return self.text_model.config.hidden_size

    @property
    def projection_size(self) -> int:
        """Width P of the pooled vector."""
        return self.text_model.config.projection_dim

    @property
    def _projection(self) -> nn.Linear:
        return self.text_model.base_model.model.text_projection

    def _real_tokens(self, input_ids: Tensor) -> Tensor:
        is_end = input_ids == self.eos_token_id
        if not is_end.any(dim=-1).all():
            raise ValueError(f"Every row of input_ids must hold the end token ({self.eos_token_id}); use .tokenize().")
        ends_before = is_end.cumsum(dim=-1) - is_end.long()
        return ends_before == 0

    def _save(
        self, folder: Path, base: str | Path | None, details: CardDetails | None, *, with_base: bool = False
    ) -> Path:
        return adapter_files.save_adapter(
            self.text_model,
            self.tokenizer,
            str(base or self.base),
            folder,
            details=details or self.details,
            with_base=with_base,
        )

    def _adapter_in_use(self, name: str | None) -> str | None:
        """The adapter of a call; None when adapters are disabled."""
        if name is not None:
            self._check_adapter(name)
            return name
        return None if self._disabled else self.active_adapter

    def _check_adapter(self, name: str) -> None:
        if name not in self.adapters:
            raise ValueError(f"No adapter {name!r} in this encoder: choose from {', '.join(self.adapters)}.")
