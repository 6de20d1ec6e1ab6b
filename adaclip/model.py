"""The encoder: CLIP's text tower, a LoRA adapter around it, and two ways to read text features from it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from adaclip import hub
from adaclip.config import DEFAULT_BASE, LoRASettings
from adaclip.text import check_texts, tokenize

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import CLIPTextModelWithProjection, PreTrainedTokenizerBase


class TextFeatures(NamedTuple):
    """What a generator is conditioned on."""

    pooled: Tensor  # (B, P): projected state of the end token; what MDM and MoMask read
    tokens: Tensor  # (B, L, H): last hidden states, zero where mask is False; what SALAD reads
    mask: Tensor  # (B, L) bool, True = real token, start and end token included

    def to(self, device: torch.device | str) -> TextFeatures:
        return TextFeatures(*(part.to(device) for part in self))


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

        base: Hub id or folder of a CLIP model. load: dtype, device, revision, token, cache_dir,
        local_files_only, as in `from_pretrained`. A is drawn from torch's global generator.
        """
        from peft import LoraConfig, get_peft_model

        settings = LoRASettings(rank, alpha, dropout, tuple(modules))
        load = hub.LoadOptions(**load)
        text_model, tokenizer = hub.load_base(str(base), load)
        lora = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            target_modules=settings.target_modules,
            bias="none",
            task_type=None,  # FEATURE_EXTRACTION would break CLIP's forward
        )
        return cls(get_peft_model(text_model, lora), tokenizer, str(base)).to(load.device)

    @classmethod
    def from_pretrained(cls, repo_or_path: str | Path, *, base: str | Path | None = None, **load: object) -> AdaCLIP:
        """A trained adapter from a folder or a Hub repository, every tensor of it, or AdaCLIPError.

        base: Hub id or folder of the base to use instead of the recorded one. load: dtype, device, revision,
        token, cache_dir, local_files_only. Starts in eval mode.
        """
        load = hub.LoadOptions(**load)
        folder = hub.resolve_adapter(str(repo_or_path), load)
        hub.adapter_config(folder)  # a damaged one is refused before a base is fetched for it
        base = str(base) if base is not None else hub.recorded_base(folder)
        text_model, tokenizer = hub.load_base(base, load.for_base(), tokenizer_folder=folder)
        return cls(hub.attach_adapter(text_model, folder), tokenizer, base).to(load.device).eval()

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> TextFeatures:
        """Text features of token ids, right-padded.

        input_ids: (B, L) long. attention_mask: (B, L), nonzero = real token; None: everything up to the first
        end token. Returns pooled (B, P), tokens (B, L, H), mask (B, L). Gradients flow into the adapter.
        """
        mask = self._real_tokens(input_ids) if attention_mask is None else attention_mask.bool()
        # CLIP's attention is causal: padding on the right cannot reach a real token, so no mask is needed inside.
        states = self.text_model(input_ids=input_ids).last_hidden_state
        B, L = mask.shape  # prompts, tokens
        last = (mask * torch.arange(1, L + 1, device=mask.device)).argmax(dim=-1)
        pooled = self._projection(states[torch.arange(B, device=states.device), last])
        return TextFeatures(pooled, states * mask[..., None], mask)

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
    ) -> Tensor | np.ndarray | TextFeatures:
        """Features of prompts, in eval mode and without gradients, as float32 on the CPU.

        texts: prompts; a single string is a batch of one. output: "pooled" gives (B, P), a numpy array with
        convert_to_numpy; "tokens" and "both" give TextFeatures padded to the longest prompt. normalize: unit
        length pooled vectors. show_progress_bar: None shows one for more than ten batches.
        Prompts are encoded longest first, each distinct one once. Raises TypeError for anything but strings.
        """
        if output not in ("pooled", "tokens", "both"):
            raise ValueError(f"output must be 'pooled', 'tokens' or 'both', got {output!r}.")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        texts = [texts] if isinstance(texts, str) else check_texts(texts)
        distinct = sorted(set(texts), key=lambda text: (-len(text), text))
        starts = range(0, len(distinct), batch_size)
        if show_progress_bar or (show_progress_bar is None and len(starts) > 10):
            from tqdm.auto import tqdm

            starts = tqdm(starts, desc="Encoding", unit="batch")
        was_training = self.training
        self.eval()
        try:
            batches = [self(*self.tokenize(distinct[i : i + batch_size])) for i in starts]
        finally:
            self.train(was_training)

        row = {text: i for i, text in enumerate(distinct)}
        features = self._stack(batches)
        features = TextFeatures(*(part[[row[text] for text in texts]] for part in features))
        if normalize:
            features = features._replace(pooled=nn.functional.normalize(features.pooled, dim=-1))
        if output != "pooled":
            return features
        return features.pooled.numpy() if convert_to_numpy else features.pooled

    def adapter_parameters(self) -> Iterator[nn.Parameter]:
        """The LoRA matrices, and nothing else."""
        return (parameter for name, parameter in self.named_parameters() if "lora_" in name)

    def merged(self) -> CLIPTextModelWithProjection:
        """A plain transformers model with the adapter folded into its weights; this encoder is left as it is."""
        return copy.deepcopy(self.text_model).merge_and_unload().eval()

    def save_pretrained(self, folder: str | Path, *, base: str | Path | None = None) -> Path:
        """Writes a standard PEFT adapter folder (weights, config, model card, tokenizer) and returns its path.

        base: what to record as the base; by default what this encoder was made from. A local folder is recorded
        by its path relative to `folder`. The folder appears whole or not at all.
        """
        return hub.save_adapter(self.text_model, self.tokenizer, str(base or self.base), Path(folder))

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def hidden_size(self) -> int:
        """Width H of the token states."""
        return self.text_model.config.hidden_size

    @property
    def projection_size(self) -> int:
        """Width P of the pooled vector."""
        return self.text_model.config.projection_dim

    def _projection(self, states: Tensor) -> Tensor:
        return self.text_model.base_model.model.text_projection(states)

    def _real_tokens(self, input_ids: Tensor) -> Tensor:
        is_end = input_ids == self.eos_token_id
        if not is_end.any(dim=-1).all():
            raise ValueError(f"Every row of input_ids must hold the end token ({self.eos_token_id}); use .tokenize().")
        ends_before = is_end.cumsum(dim=-1) - is_end.long()
        return ends_before == 0

    def _stack(self, batches: list[TextFeatures]) -> TextFeatures:
        """Batches of different lengths as one, zero-padded, float32, on the CPU."""
        longest = max((batch.mask.shape[1] for batch in batches), default=0)
        pooled = [batch.pooled.float().cpu() for batch in batches]
        tokens = [nn.functional.pad(b.tokens.float().cpu(), (0, 0, 0, longest - b.mask.shape[1])) for b in batches]
        mask = [nn.functional.pad(b.mask.cpu(), (0, longest - b.mask.shape[1])) for b in batches]
        if not batches:
            return TextFeatures(
                torch.zeros(0, self.projection_size),
                torch.zeros(0, 0, self.hidden_size),
                torch.zeros(0, 0, dtype=torch.bool),
            )
        return TextFeatures(torch.cat(pooled), torch.cat(tokens), torch.cat(mask))
