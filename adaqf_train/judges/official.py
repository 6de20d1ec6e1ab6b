"""The official evaluators of HumanML3D and KIT-ML, on which the field's FID and R-precision are based.

Source: Guo et al. 2022, `networks/modules.py` and `networks/evaluator_wrapper.py` of EricGuo5513/text-to-motion; names
and shapes are those of its `finest.tar`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from adaqf_train.data.clips import load_array
from adaqf_train.data.official import evaluator_statistics
from adaqf_train.errors import DataError
from adaqf_train.judges.official_words import TAG_CODES, VECTOR, Token, WordVectors, tagger, tokens_of
from adaqf_train.layers import freeze, last_states, projection_head
from adaqf_train.motion.features import slices_of_width

FRAMES = 196  # every clip is padded to this length, as the official loader does
UNIT = 4  # frames to one step of the movement encoder
CHECKPOINT = "text_mot_match/model/finest.tar"
PARTS = ("movement_encoder", "motion_encoder", "text_encoder")


class MovementEncoder(nn.Module):
    """Two halving convolutions over frames: (B, T, D - 4) -> (B, T / 4, 512)."""

    def __init__(self, inputs: int, hidden: int = 512, outputs: int = 512) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv1d(inputs, hidden, 4, 2, 1),
            nn.Dropout(0.2),
            nn.LeakyReLU(0.2),
            nn.Conv1d(hidden, outputs, 4, 2, 1),
            nn.Dropout(0.2),
            nn.LeakyReLU(0.2),
        )
        self.out_net = nn.Linear(outputs, outputs)

    def forward(self, motion: Tensor) -> Tensor:
        return self.out_net(self.main(motion.transpose(1, 2)).transpose(1, 2))


class GRUSummary(nn.Module):
    """The common part of the motion and the text encoder: linear layer, bidirectional GRU with learnt state, head."""

    def __init__(self, inputs: int, hidden: int, outputs: int = 512) -> None:
        super().__init__()
        self.input_emb = nn.Linear(inputs, hidden)
        self.gru = nn.GRU(hidden, hidden, batch_first=True, bidirectional=True)
        self.output_net = projection_head(2 * hidden, hidden, outputs)
        self.hidden = nn.Parameter(torch.randn(2, 1, hidden))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, inputs), lengths (B,) -> (B, outputs), in the given order (upstream sorts them by length)."""
        return self.output_net(last_states(self.gru, self.input_emb(x), lengths, self.hidden))


class TextEncoder(GRUSummary):
    """Word vectors and tag codes -> (B, 512)."""

    def __init__(self, hidden: int = 512, outputs: int = 512) -> None:
        super().__init__(VECTOR, hidden, outputs)
        self.pos_emb = nn.Linear(TAG_CODES, VECTOR)

    def forward(self, words: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """(B, 22, 300), (B, 22, 15), lengths (B,) -> (B, outputs)."""
        return super().forward(words + self.pos_emb(tags), lengths)


@dataclass
class T2MEvaluator:
    """The official networks with their own statistics; embeds texts and motions as every judge does."""

    movement: MovementEncoder
    motion: GRUSummary
    text: TextEncoder
    words: WordVectors
    tokens: Mapping[str, Sequence[Token]]  # of the data set's captions; other texts need spaCy
    mean: np.ndarray  # (D,), the evaluators' own, not the data set's
    std: np.ndarray  # (D,)
    batch: int = 128
    width: ClassVar[int] = 512
    cosine: ClassVar[bool] = False  # trained on Euclidean distances

    def __post_init__(self) -> None:
        for part in (self.movement, self.motion, self.text):
            freeze(part)

    @classmethod
    def load(
        cls,
        checkpoint: Path,
        glove: Path,
        mean: np.ndarray,
        std: np.ndarray,
        tokens: Mapping[str, Sequence[Token]],
        device: torch.device | str = "cpu",
    ) -> T2MEvaluator:
        """Load the official files.

        Args:
            checkpoint: `finest.tar`.
            glove: The `glove` folder.
            mean: (D,) of the *evaluators*; with the data set's own, all figures are wrong.
            std: (D,) of the evaluators.
            tokens: Words and parts of speech by caption.
            device: Where the networks run.

        Raises:
            DataError: A file is missing, damaged or for another data set.
        """
        inputs = slices_of_width(len(mean)).contacts.start
        parts = {
            "movement_encoder": MovementEncoder(inputs),
            "motion_encoder": GRUSummary(512, 1024),
            "text_encoder": TextEncoder(),
        }
        stored = _read_checkpoint(checkpoint)
        for name, module in parts.items():
            try:
                module.load_state_dict(stored[name])
            except RuntimeError as error:
                reason = str(error).splitlines()[-1].strip()
                raise DataError(
                    f"{checkpoint}: {name} does not fit data of {len(mean)} features ({reason}). "
                    "Use the evaluators of this data set."
                ) from error
            module.to(device)
        return cls(*parts.values(), WordVectors(glove), tokens, mean, std)

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts as float64 (N, 512), in the given order; DataError if a text needs spaCy and there is none."""
        device = next(self.text.parameters()).device
        rows = []
        for start in range(0, len(texts), self.batch):
            words, tags, lengths = self.text_inputs(texts[start : start + self.batch])
            rows.append(self.text(words.to(device), tags.to(device), lengths).cpu())
        return torch.cat(rows).double().numpy()

    def text_inputs(self, texts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Encode texts for the text encoder: word vectors (B, 22, 300), tag codes (B, 22, 15), lengths (B,)."""
        tokens_of = tagger(self.tokens)
        encoded = [self.words.encode(tokens_of(text)) for text in texts]
        words, tags, lengths = (torch.from_numpy(np.stack(part)) for part in zip(*encoded, strict=True))
        return words, tags, lengths

    @torch.no_grad()
    def embed_motions(self, motions: Sequence[np.ndarray]) -> np.ndarray:
        """Embed motions as float64 (N, 512), in the given order.

        Each clip is zero-padded to 196 frames: the convolutions see one frame past a clip's end, so the embedding would
        otherwise depend on the longest clip of the batch.

        Args:
            motions: De-normalised features, (T_i, D) each, T_i >= 4.
        """
        device, inputs = next(self.motion.parameters()).device, self.movement.main[0].in_channels
        rows = []
        for start in range(0, len(motions), self.batch):
            clips = [(motion - self.mean) / self.std for motion in motions[start : start + self.batch]]
            lengths = torch.tensor([len(clip) // UNIT for clip in clips])
            padded = torch.zeros(len(clips), max(FRAMES, *map(len, clips)), len(self.mean))
            for row, clip, length in zip(padded, clips, (UNIT * lengths).tolist(), strict=True):
                row[:length] = torch.from_numpy(np.asarray(clip[:length], dtype=np.float32))
            rows.append(self.motion(self.movement(padded[..., :inputs].to(device)), lengths).cpu())
        return torch.cat(rows).double().numpy()


def load_official(files: Path, data: Path, device: torch.device | str = "cpu") -> T2MEvaluator:
    """Load the official evaluators for a data set.

    Their statistics come from beside the data set, else from `files`; with the data set's own, all figures are wrong.

    Args:
        files: Folder that holds their checkpoint and `glove/`, at any depth.
        data: Folder of the data set.
        device: Where the networks run.

    Raises:
        DataError: A file is missing or damaged.
    """
    glove = sorted(files.rglob("our_vab_data.npy"))
    if not glove:
        raise DataError(f"{files}: contains no glove/our_vab_data.npy. Download the official glove files into it.")
    statistics = evaluator_statistics(data) or _statistics_in(files, data)
    return T2MEvaluator.load(find_checkpoint(files), glove[0].parent, *statistics, tokens_of(data), device)


def _statistics_in(files: Path, data: Path) -> tuple[np.ndarray, np.ndarray]:
    for meta in sorted(files.rglob("Comp_v6_KLD*/meta/mean.npy")):
        mean, std = load_array(meta), load_array(meta.with_name("std.npy"))
        if mean.shape == std.shape == load_array(data / "Mean.npy").shape:
            return mean.astype(np.float32), std.astype(np.float32)
    raise DataError(
        f"{data}: the evaluators' own statistics are missing. Put t2m_mean.npy and t2m_std.npy (KIT-ML: kit_…) beside "
        f"the data set, or Comp_v6_KLD…/meta/ into {files}: they come with the evaluators."
    )


def find_checkpoint(folder: Path) -> Path:
    """Find `finest.tar` of the official evaluators under a folder; DataError unless there is exactly one."""
    found = sorted(folder.rglob(CHECKPOINT))
    if len(found) != 1:
        what = "more than one" if found else "no"
        raise DataError(
            f"{folder}: contains {what} {CHECKPOINT}. Give the official t2m (or kit) folder of checkpoints."
        )
    return found[0]


def _read_checkpoint(path: Path) -> dict[str, Mapping[str, Tensor]]:
    if not path.is_file():
        raise DataError(f"{path}: missing. Download the official evaluators.")
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)  # tensors and plain containers only
    except Exception as error:  # torch raises many types for a damaged archive
        raise DataError(
            f"{path}: not a readable checkpoint ({error.__class__.__name__}). Download it again."
        ) from error
    missing = [name for name in PARTS if not isinstance(stored, dict) or name not in stored]
    if missing:
        raise DataError(f"{path}: {', '.join(missing)} missing; these are not the evaluators. Download them again.")
    return stored
